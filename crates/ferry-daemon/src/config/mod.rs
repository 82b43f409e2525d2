//! The daemon's command line and `daemon.json`, in dockerd's words.
//!
//! Pure: arguments and the file's text in, [`Settings`] out. One table (`options`) has every option with its flag, its key in the file
//! and what it sets; what is known to dockerd and cannot be done here is in a second table and refused by name.

mod file;
mod help;
mod options;
mod values;

pub use file::reloadable;
pub use help::help;

use crate::server::Listen;
use crate::tls::TlsFiles;
use ferry_engine::Config;
use ferry_engine::config::AddressPool;
use ferry_engine::containers::spec::Ulimit;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where `daemon.json` is looked for when nobody says.
pub const DEFAULT_FILE: &str = "/etc/ferry/daemon.json";
/// Where the engine listens when nobody says.
pub const DEFAULT_HOST: &str = "unix:///run/ferry/ferry.sock";

/// Why arguments or a file are refused: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn error<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the engine.
    Run,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Check the configuration, and say that it is fine.
    Validate,
}

/// The arguments, read but not yet merged with the file.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What to do.
    pub action: Action,
    /// The file, and whether it was named: one that was not may be missing.
    pub file: (PathBuf, bool),
    values: Given,
}

/// Options by key, each with its values as text.
pub(crate) type Given = BTreeMap<&'static str, Vec<String>>;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Settings {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub hosts: Vec<String>,
    pub group: String,
    pub debug: bool,
    pub log_level: String,
    pub bip: Option<ipnet::IpNet>,
    pub fixed_cidr: Option<ipnet::IpNet>,
    pub fixed_cidr_v6: Option<ipnet::IpNet>,
    pub ipv6: bool,
    pub mtu: Option<u32>,
    pub icc: bool,
    pub ip_masq: bool,
    pub ip: Option<std::net::IpAddr>,
    pub address_pools: Vec<AddressPool>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    pub shm_size: i64,
    pub ulimits: Vec<Ulimit>,
    pub init: bool,
    pub cgroup_parent: String,
    pub ipc_mode: String,
    pub cgroupns_mode: String,
    pub labels: Vec<String>,
    pub shutdown_timeout: i64,
    pub tls: Option<bool>,
    pub tls_verify: Option<bool>,
    pub tls_ca: PathBuf,
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        let engine = Config::new("/var/lib/ferry", "/run/ferry");
        let certificates = PathBuf::from("/etc/ferry");
        Self {
            data_root: engine.data_root,
            exec_root: engine.exec_root,
            pidfile: "/run/ferry/ferry.pid".into(),
            hosts: Vec::new(),
            group: String::new(),
            debug: false,
            log_level: "info".into(),
            bip: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            ipv6: false,
            mtu: None,
            icc: true,
            ip_masq: true,
            ip: None,
            address_pools: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            log_driver: engine.log_driver,
            log_opts: BTreeMap::new(),
            shm_size: engine.default_shm_size,
            ulimits: Vec::new(),
            init: false,
            cgroup_parent: String::new(),
            ipc_mode: engine.default_ipc_mode,
            cgroupns_mode: String::new(),
            labels: Vec::new(),
            shutdown_timeout: engine.shutdown_timeout,
            tls: None,
            tls_verify: None,
            tls_ca: certificates.join("ca.pem"),
            tls_cert: certificates.join("cert.pem"),
            tls_key: certificates.join("key.pem"),
        }
    }
}

/// Reads arguments (without the program's own name).
///
/// # Errors
/// One sentence that names the flag.
pub fn arguments(args: &[String]) -> Result<Arguments, ConfigError> {
    let mut read = Arguments {
        action: Action::Run,
        file: (DEFAULT_FILE.into(), false),
        values: Given::new(),
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "-h" | "--help" => {
                return Ok(Arguments {
                    action: Action::Help,
                    ..read
                });
            }
            "-v" | "--version" => read.action = Action::Version,
            "--validate" => read.action = Action::Validate,
            _ => flag(arg, &mut rest, &mut read)?,
        }
    }
    Ok(read)
}

fn flag<'a>(
    arg: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    read: &mut Arguments,
) -> Result<(), ConfigError> {
    let (name, inline) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (arg, None),
    };
    if !name.starts_with('-') || name == "-" {
        return error(format!(
            "\"ferry daemon\" accepts no arguments: {arg}\nSee 'ferry daemon --help'."
        ));
    }
    let mut value = |inline: Option<String>| match inline.or_else(|| rest.next().cloned()) {
        Some(value) => Ok(value),
        None => error(format!("flag needs an argument: {name}")),
    };
    if name == "--config-file" {
        read.file = (value(inline)?.into(), true);
        return Ok(());
    }
    let (option, inline) = match options::by_flag(name) {
        Some(option) => (option, inline),
        // -Hunix://…, as short flags may be written.
        None => match name
            .get(..2)
            .filter(|_| !name.starts_with("--"))
            .and_then(options::by_flag)
        {
            Some(option) if !option.is_bool() => (option, Some(arg[2..].to_owned())),
            _ => return Err(options::unknown(name)),
        },
    };
    let text = match (option.is_bool(), inline) {
        (true, None) => "true".to_owned(),
        (_, inline) => value(inline)?,
    };
    option
        .check(&text)
        .map_err(|e| ConfigError(format!("invalid argument {text:?} for \"{name}\" flag: {e}")))?;
    let values = read.values.entry(option.key).or_default();
    if !option.is_list() {
        values.clear();
    }
    values.push(text);
    Ok(())
}

/// Merges arguments with the text of the file, if there is one. What is set in both is refused.
///
/// # Errors
/// One sentence that names the options.
pub fn merge(arguments: &Arguments, file_text: Option<&str>) -> Result<Settings, ConfigError> {
    let path = arguments.file.0.display();
    let in_file =
        |e: ConfigError| ConfigError(format!("unable to configure the engine with file {path}: {e}"));
    let mut all = arguments.values.clone();
    if let Some(text) = file_text {
        let from_file = file::read(text).map_err(in_file)?;
        let both: Vec<String> = from_file
            .iter()
            .filter_map(|(key, file)| all.get(key).map(|flag| conflict(key, flag, file)))
            .collect();
        if !both.is_empty() {
            return error(format!(
                "unable to configure the engine with file {path}: the following directives are specified both as a flag and in the configuration file: {}",
                both.join(", ")
            ));
        }
        all.extend(from_file);
    }
    let mut settings = Settings::default();
    for (key, values) in &all {
        if let Some(option) = options::by_key(key) {
            option.apply(&mut settings, values)?;
        }
    }
    settings.check()?;
    Ok(settings)
}

fn conflict(key: &str, flag: &[String], file: &[String]) -> String {
    let show = |values: &[String]| match values {
        [one] => one.clone(),
        many => format!("[{}]", many.join(" ")),
    };
    format!("{key}: (from flag: {}, from file: {})", show(flag), show(file))
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for label in &self.labels {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.is_empty() || value.is_empty() {
                return error(format!("bad attribute format: {label}: want key=value"));
            }
            if !seen.insert(key) {
                return error(format!("conflict labels for {key}: it is given twice"));
            }
        }
        if !matches!(
            self.log_level.as_str(),
            "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "panic"
        ) {
            return error(format!("invalid logging level: {}", self.log_level));
        }
        Ok(())
    }

    /// The engine's part.
    pub fn engine(&self) -> Config {
        #[rustfmt::skip]
        let Self {
            data_root, exec_root, pidfile: _, hosts, group: _, debug, log_level: _, bip,
            fixed_cidr, fixed_cidr_v6, ipv6, mtu, icc, ip_masq, ip, address_pools, dns, dns_search,
            dns_options, insecure_registries, registry_mirrors, log_driver, log_opts, shm_size, ulimits,
            init, cgroup_parent, ipc_mode, cgroupns_mode, labels, shutdown_timeout, tls: _, tls_verify: _,
            tls_ca: _, tls_cert: _, tls_key: _,
        } = self.clone();
        let mut config = Config::new(data_root, exec_root);
        config.bip = bip;
        config.fixed_cidr = fixed_cidr;
        config.fixed_cidr_v6 = fixed_cidr_v6;
        config.ipv6 = ipv6;
        config.mtu = mtu;
        config.icc = icc;
        config.ip_masq = ip_masq;
        config.ip = ip;
        config.default_address_pools = address_pools;
        config.dns = dns;
        config.dns_search = dns_search;
        config.dns_options = dns_options;
        config.insecure_registries = insecure_registries;
        config.registry_mirrors = registry_mirrors;
        config.log_driver = log_driver;
        config.log_opts = log_opts;
        config.default_shm_size = shm_size;
        config.default_ulimits = ulimits;
        config.init = init;
        config.cgroup_parent = cgroup_parent;
        config.default_ipc_mode = ipc_mode;
        config.default_cgroupns_mode = cgroupns_mode;
        config.labels = labels;
        config.shutdown_timeout = shutdown_timeout;
        config.debug = debug;
        config.hosts = hosts;
        config
    }

    /// Where to listen. `group` is the id of [`Settings::group`], where it was found.
    ///
    /// # Errors
    /// One sentence that names the host.
    pub fn listeners(&self, group: Option<u32>) -> Result<Vec<Listen>, ConfigError> {
        let default = [DEFAULT_HOST.to_owned()];
        let hosts = if self.hosts.is_empty() {
            &default[..]
        } else {
            &self.hosts
        };
        hosts.iter().map(|host| self.listener(host, group)).collect()
    }

    fn listener(&self, host: &str, group: Option<u32>) -> Result<Listen, ConfigError> {
        let (scheme, place) = host.split_once("://").unwrap_or(("tcp", host));
        match scheme {
            "unix" if place.starts_with('/') => Ok(Listen::Unix {
                path: place.into(),
                group,
            }),
            "unix" => error(format!(
                "invalid host {host}: a unix socket is named by its absolute path"
            )),
            "tcp" => self.tcp(host, place),
            "fd" => error(format!(
                "invalid host {host}: sockets inherited from systemd are not supported yet; use unix:// or tcp://"
            )),
            _ => error(format!(
                "invalid host {host}: invalid bind address format: want unix:///path or tcp://address:port"
            )),
        }
    }

    fn tcp(&self, host: &str, place: &str) -> Result<Listen, ConfigError> {
        let verify = self.tls_verify == Some(true);
        let encrypted = verify || self.tls == Some(true);
        let port = if encrypted { 2376 } else { 2375 };
        let place = place.trim_end_matches('/');
        let place = if place.is_empty() { "127.0.0.1" } else { place };
        let place = place.replace("localhost", "127.0.0.1");
        let full = if place.starts_with(':') {
            format!("0.0.0.0{place}")
        } else {
            place
        };
        let parsed = full.parse::<SocketAddr>().ok();
        let parsed = parsed.or_else(|| full.parse().ok().map(|ip| SocketAddr::new(ip, port)));
        let Some(address) = parsed else {
            return error(format!(
                "invalid host {host}: want tcp://address:port with an address of this machine"
            ));
        };
        let off = self.tls == Some(false) || self.tls_verify == Some(false);
        if !encrypted && !address.ip().is_loopback() && !off {
            return error(format!(
                "binding to {host} without TLS lets everybody who reaches it be root here: use --tlsverify with --tlscacert, --tlscert and --tlskey, or say --tls=false to have it all the same"
            ));
        }
        let tls = encrypted.then(|| TlsFiles {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            ca: self.tls_ca.clone(),
            verify,
        });
        Ok(Listen::Tcp { address, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, file: Option<&str>) -> Result<Settings, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let arguments = arguments(&words).map_err(|e| e.0)?;
        merge(&arguments, file).map_err(|e| e.0)
    }

    #[test]
    fn flags_in_every_spelling() {
        let s = read(
            "-D --data-root=/d --exec-root /e -H unix:///s -Htcp://127.0.0.1:1 --label a=b --label c=d --mtu 1400 --icc=false -l warn",
            None,
        )
        .unwrap();
        assert!(s.debug && !s.icc);
        assert_eq!(
            (s.data_root.to_str(), s.exec_root.to_str()),
            (Some("/d"), Some("/e"))
        );
        assert_eq!(s.hosts, ["unix:///s", "tcp://127.0.0.1:1"]);
        assert_eq!(
            (s.labels.len(), s.mtu, s.log_level.as_str()),
            (2, Some(1400), "warn")
        );
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (line, want) in [
            ("--nope", "unknown flag: --nope"),
            ("--userns-remap default", "--userns-remap is not supported"),
            ("--mtu x", "invalid argument \"x\" for \"--mtu\" flag"),
            ("--bip", "flag needs an argument: --bip"),
            ("run", "accepts no arguments: run"),
            ("--label a", "bad attribute format: a"),
            ("--label a=b --label a=c", "conflict labels for a"),
            ("--log-level loud", "invalid logging level: loud"),
            ("--iptables=false", "--iptables"),
            ("--storage-driver zfs", "--storage-driver"),
        ] {
            let got = read(line, None).unwrap_err();
            assert!(got.contains(want), "{line}: {got}");
        }
    }

    #[test]
    fn the_file_is_merged() {
        let file = r#"{"debug":true,"dns":["9.9.9.9"],"log-opts":{"max-size":"1m"},"default-ulimits":{"nofile":{"Name":"nofile","Hard":2,"Soft":1}},
            "default-address-pools":[{"base":"10.0.0.0/8","size":24}],"mtu":1300,"tlsverify":false,"bip":"10.1.0.1/24","default-shm-size":"1g"}"#;
        let s = read("--label a=b", Some(file)).unwrap();
        assert!(s.debug && s.tls_verify == Some(false));
        assert_eq!(
            (s.dns.as_slice(), s.mtu, s.shm_size),
            (&["9.9.9.9".to_owned()][..], Some(1300), 1 << 30)
        );
        assert_eq!(s.log_opts["max-size"], "1m");
        assert_eq!((s.ulimits[0].soft, s.ulimits[0].hard), (1, 2));
        assert_eq!(s.address_pools[0].size, 24);
    }

    #[test]
    fn the_file_is_checked() {
        for (line, file, want) in [
            (
                "",
                r#"{"x":1,"y":2}"#,
                "the following directives don't match any configuration option: x, y",
            ),
            (
                "--mtu 1500",
                r#"{"mtu":1600}"#,
                "the following directives are specified both as a flag and in the configuration file: mtu: (from flag: 1500, from file: 1600)",
            ),
            ("", r#"{"userns-remap":"a"}"#, "userns-remap is not supported"),
            ("", "{", "invalid JSON"),
            ("", r#"{"mtu":"x"}"#, "mtu"),
            ("", r#"{"debug":"yes"}"#, "debug"),
        ] {
            let got = read(line, Some(file)).unwrap_err();
            assert!(got.contains(want), "{file}: {got}");
        }
    }

    #[test]
    fn tcp_without_tls_has_to_be_meant() {
        let listen = |line: &str| read(line, None).unwrap().listeners(None).map_err(|e| e.0);
        assert!(
            listen("-H tcp://0.0.0.0:2375")
                .unwrap_err()
                .contains("--tlsverify")
        );
        assert!(listen("-H tcp://0.0.0.0:2375 --tls=false").is_ok());
        assert!(listen("-H tcp://localhost:2375").is_ok());
        let tls = listen("-H tcp://0.0.0.0 --tlsverify --tlscert /c").unwrap();
        let [
            Listen::Tcp {
                address,
                tls: Some(files),
            },
        ] = &tls[..]
        else {
            panic!("{tls:?}")
        };
        assert_eq!(
            (address.port(), files.verify, files.certificate.to_str()),
            (2376, true, Some("/c"))
        );
        assert!(listen("-H fd://").unwrap_err().contains("fd://"));
        assert!(listen("-H unix://rel").is_err() && listen("-H npipe:////x").is_err());
        assert_eq!(listen("").unwrap()[0].to_string(), DEFAULT_HOST);
    }
}
