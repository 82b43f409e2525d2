//! The table of options.

use super::{ConfigError, Settings, values};

/// How many values an option has, and how they are written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// One text.
    Text,
    /// One number.
    Number,
    /// Several texts, a list in the file.
    List,
    /// `key=value` several times, an object in the file.
    Map,
    /// Resource limits, an object of objects in the file.
    Ulimits,
    /// Address pools, a list of objects in the file.
    Pools,
}

type Set = fn(&mut Settings, &str) -> Result<(), String>;

/// One option.
pub struct Opt {
    /// The long flag, without dashes.
    pub flag: &'static str,
    /// The short flag's letter.
    pub short: Option<char>,
    /// The key in the file.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it does.
    pub help: &'static str,
    /// Sets one value.
    set: Set,
}

impl Opt {
    /// Whether the flag needs no value.
    pub fn is_bool(&self) -> bool {
        self.kind == Kind::Bool
    }

    /// Whether it may be given several times.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::Map | Kind::Ulimits | Kind::Pools)
    }

    /// Whether the value can be read.
    pub fn check(&self, text: &str) -> Result<(), String> {
        (self.set)(&mut Settings::default(), text)
    }

    /// Sets every value.
    pub fn apply(&self, settings: &mut Settings, texts: &[String]) -> Result<(), ConfigError> {
        for text in texts {
            (self.set)(settings, text)
                .map_err(|e| ConfigError(format!("invalid value {text:?} for {}: {e}", self.key)))?;
        }
        Ok(())
    }
}

macro_rules! options {
    ($($kind:ident $flag:literal $(/ $short:literal)? $key:literal $help:literal => |$s:ident, $t:ident| $set:expr;)*) => {
        &[$(Opt {
            flag: $flag,
            short: options!(@short $($short)?),
            key: $key,
            kind: Kind::$kind,
            help: $help,
            set: |$s, $t| { $set; Ok(()) },
        }),*]
    };
    (@short $short:literal) => { Some($short) };
    (@short) => { None };
}

/// Every option, by flag.
pub const OPTIONS: &[Opt] = options! {
    Text "bip" "bip" "IPv4 address of the default bridge, with its prefix length" => |s, t| s.bip = Some(values::net(t)?);
    Text "cgroup-parent" "cgroup-parent" "Parent cgroup of all containers" => |s, t| s.cgroup_parent = t.into();
    Bool "debug" / 'D' "debug" "Log what helps to find faults" => |s, t| s.debug = values::boolean(t)?;
    Text "data-root" "data-root" "Where images, containers and volumes are kept" => |s, t| s.data_root = t.into();
    Pools "default-address-pool" "default-address-pools" "Pools for networks without a subnet of their own (base=CIDR,size=N)" => |s, t| s.address_pools.push(values::pool(t)?);
    Text "default-cgroupns-mode" "default-cgroupns-mode" "cgroup namespace of containers: host or private" => |s, t| s.cgroupns_mode = values::word(t, &["host", "private"])?;
    Text "default-ipc-mode" "default-ipc-mode" "ipc of containers: private or shareable" => |s, t| s.ipc_mode = values::word(t, &["private", "shareable"])?;
    Text "default-runtime" "default-runtime" "Runtime of containers: ferry alone" => |_s, t| { values::word(t, &["ferry"])?; };
    Text "default-shm-size" "default-shm-size" "Size of /dev/shm of containers" => |s, t| s.shm_size = values::bytes(t)?;
    Ulimits "default-ulimit" "default-ulimits" "Resource limits of containers (name=soft[:hard])" => |s, t| s.ulimits.push(values::ulimit(t)?);
    List "dns" "dns" "Name servers of containers" => |s, t| { values::ip(t)?; s.dns.push(t.into()); };
    List "dns-opt" "dns-opts" "Options of containers' resolvers" => |s, t| s.dns_options.push(t.into());
    List "dns-search" "dns-search" "Search domains of containers" => |s, t| s.dns_search.push(t.into());
    List "exec-opt" "exec-opts" "native.cgroupdriver=cgroupfs alone" => |_s, t| { values::word(t, &["native.cgroupdriver=cgroupfs"])?; };
    Text "exec-root" "exec-root" "Where running state is kept" => |s, t| s.exec_root = t.into();
    Text "firewall-backend" "firewall-backend" "Packet filter: nftables alone" => |_s, t| { values::word(t, &["", "nftables"])?; };
    Text "fixed-cidr" "fixed-cidr" "Part of the default bridge's subnet that addresses are taken from" => |s, t| s.fixed_cidr = Some(values::net(t)?);
    Text "fixed-cidr-v6" "fixed-cidr-v6" "IPv6 subnet of the default bridge" => |s, t| s.fixed_cidr_v6 = Some(values::net(t)?);
    Text "group" / 'G' "group" "Group that may use the unix socket" => |s, t| s.group = t.into();
    List "host" / 'H' "hosts" "Where to listen" => |s, t| s.hosts.push(t.into());
    Bool "icc" "icc" "Let containers of the default bridge talk to each other" => |s, t| s.icc = values::boolean(t)?;
    Bool "init" "init" "Run an init in containers" => |s, t| s.init = values::boolean(t)?;
    List "insecure-registry" "insecure-registries" "Registries that need no TLS (host:port or CIDR)" => |s, t| s.insecure_registries.push(t.into());
    Text "ip" "ip" "Address of published ports that name none" => |s, t| s.ip = Some(values::ip(t)?);
    Bool "ip-forward" "ip-forward" "Forward packets; always on" => |_s, t| only_true(t)?;
    Bool "ip-masq" "ip-masq" "Give what leaves through the default bridge the host's address" => |s, t| s.ip_masq = values::boolean(t)?;
    Bool "iptables" "iptables" "Packet rules; always on" => |_s, t| only_true(t)?;
    Bool "ip6tables" "ip6tables" "IPv6 packet rules; always on" => |_s, t| only_true(t)?;
    Bool "ipv6" "ipv6" "Give the default bridge IPv6" => |s, t| s.ipv6 = values::boolean(t)?;
    List "label" "labels" "Labels of the engine (key=value)" => |s, t| s.labels.push(t.into());
    Bool "live-restore" "live-restore" "Containers outlive the engine; always on" => |_s, t| only_true(t)?;
    Text "log-driver" "log-driver" "Where containers' output goes: json-file, none" => |s, t| s.log_driver = t.into();
    Text "log-format" "log-format" "Format of the engine's log: text alone" => |_s, t| { values::word(t, &["", "text"])?; };
    Text "log-level" / 'l' "log-level" "How much the engine logs: debug, info, warn, error" => |s, t| s.log_level = t.into();
    Map "log-opt" "log-opts" "Options of the log driver (key=value)" => |s, t| { let (k, v) = values::pair(t)?; s.log_opts.insert(k, v); };
    Number "mtu" "mtu" "MTU of the default bridge" => |s, t| s.mtu = Some(mtu(t)?).filter(|n| *n != 0);
    Text "pidfile" / 'p' "pidfile" "File for the engine's process id" => |s, t| s.pidfile = t.into();
    List "registry-mirror" "registry-mirrors" "Mirrors of the default registry" => |s, t| s.registry_mirrors.push(mirror(t)?);
    Text "seccomp-profile" "seccomp-profile" "System call filter of containers: builtin alone" => |_s, t| { values::word(t, &["", "builtin"])?; };
    Bool "selinux-enabled" "selinux-enabled" "SELinux labels; never" => |_s, t| only_false(t)?;
    Number "shutdown-timeout" "shutdown-timeout" "Seconds for an orderly end" => |s, t| s.shutdown_timeout = values::number(t)?;
    Text "storage-driver" / 's' "storage-driver" "Storage: overlay alone" => |_s, t| { values::word(t, &["overlay", "overlay2", "overlayfs"])?; };
    Bool "tls" "tls" "Use TLS on TCP" => |s, t| s.tls = Some(values::boolean(t)?);
    Text "tlscacert" "tlscacert" "Who signs clients' certificates" => |s, t| s.tls_ca = t.into();
    Text "tlscert" "tlscert" "The engine's certificate" => |s, t| s.tls_cert = t.into();
    Text "tlskey" "tlskey" "The key of the engine's certificate" => |s, t| s.tls_key = t.into();
    Bool "tlsverify" "tlsverify" "Use TLS and ask clients for certificates" => |s, t| s.tls_verify = Some(values::boolean(t)?);
    Bool "userland-proxy" "userland-proxy" "A process for each published port; never" => |_s, t| only_false(t)?;
};

/// What dockerd knows and this engine does not do, with the reason.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("add-runtime", "containers run by the engine's own runtime"),
    (
        "allow-nondistributable-artifacts",
        "no registry serves them any more",
    ),
    ("authorization-plugin", "there are no plugins"),
    ("authorization-plugins", "there are no plugins"),
    ("bip6", "use fixed-cidr-v6"),
    ("bridge", "the default bridge is the engine's own"),
    ("bridge-accept-fwmark", "packet rules have no such exception"),
    ("builder", "images are not built here yet"),
    ("cdi-spec-dir", "there are no device drivers"),
    ("cdi-spec-dirs", "there are no device drivers"),
    ("containerd", "no containerd is used"),
    ("containerd-namespace", "no containerd is used"),
    ("containerd-plugins-namespace", "no containerd is used"),
    ("cpu-rt-period", "limit each container"),
    ("cpu-rt-runtime", "limit each container"),
    ("cri-containerd", "no containerd is used"),
    ("default-gateway", "the bridge's own address is the gateway"),
    ("default-gateway-v6", "the bridge's own address is the gateway"),
    ("default-network-opt", "give each network its options"),
    ("default-network-opts", "give each network its options"),
    ("experimental", "there is nothing behind it"),
    ("feature", "there is nothing behind it"),
    ("features", "there is nothing behind it"),
    ("host-gateway-ip", "host-gateway is the bridge's address"),
    ("host-gateway-ips", "host-gateway is the bridge's address"),
    ("http-proxy", "set HTTP_PROXY in the engine's environment"),
    ("https-proxy", "set HTTPS_PROXY in the engine's environment"),
    ("no-proxy", "set NO_PROXY in the engine's environment"),
    (
        "proxies",
        "set HTTP_PROXY and its kin in the engine's environment",
    ),
    ("init-path", "the init is built in"),
    ("max-concurrent-downloads", "the engine chooses"),
    ("max-concurrent-uploads", "the engine chooses"),
    ("max-download-attempts", "the engine chooses"),
    ("metrics-addr", "there are no metrics yet"),
    ("min-api-version", "every version from 1.24 is served"),
    ("network-control-plane-mtu", "there is no swarm"),
    ("no-new-privileges", "give each container its security options"),
    ("node-generic-resource", "there is no swarm"),
    ("node-generic-resources", "there is no swarm"),
    ("nri-opt", "there are no plugins"),
    ("nri-opts", "there are no plugins"),
    ("oom-score-adjust", "set it where the engine is started"),
    ("raw-logs", "the log is plain already"),
    ("rootless", "the engine needs root"),
    ("runtimes", "containers run by the engine's own runtime"),
    ("storage-opt", "the snapshotter has no options"),
    ("storage-opts", "the snapshotter has no options"),
    ("swarm-default-advertise-addr", "there is no swarm"),
    ("swarm-raft-election-tick", "there is no swarm"),
    ("swarm-raft-heartbeat-tick", "there is no swarm"),
    ("userland-proxy-path", "no proxy process is used"),
    ("userns-remap", "user namespaces are not supported yet"),
];

fn only_true(text: &str) -> Result<(), String> {
    if values::boolean(text)? {
        Ok(())
    } else {
        Err("it cannot be turned off in this engine".into())
    }
}

fn only_false(text: &str) -> Result<(), String> {
    if values::boolean(text)? {
        Err("this engine does not have it".into())
    } else {
        Ok(())
    }
}

fn mtu(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| *n == 0 || (68..=65_535).contains(n))
        .ok_or_else(|| "want 68 to 65535, or 0 for the kernel's".into())
}

fn mirror(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', '@']) => Ok(text.to_owned()),
        _ => Err("want http:// or https:// and a host, without user, query or fragment".into()),
    }
}

/// The option of `--flag` or `-f`.
pub fn by_flag(name: &str) -> Option<&'static Opt> {
    if let Some(long) = name.strip_prefix("--") {
        return OPTIONS.iter().find(|o| o.flag == long);
    }
    let mut letters = name.strip_prefix('-')?.chars();
    let (letter, rest) = (letters.next()?, letters.next());
    OPTIONS.iter().find(|o| rest.is_none() && o.short == Some(letter))
}

/// The option of a key in the file.
pub fn by_key(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.key == key)
}

/// Why a name of dockerd's is not one of ours, if it is one at all.
pub fn unsupported(name: &str) -> Option<&'static str> {
    UNSUPPORTED
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, why)| *why)
}

/// The refusal of a flag that is not in the table.
pub fn unknown(flag: &str) -> ConfigError {
    match unsupported(flag.trim_start_matches('-')) {
        Some(why) => ConfigError(format!("{flag} is not supported by this engine: {why}")),
        None if flag.starts_with("--") => {
            ConfigError(format!("unknown flag: {flag}\nSee 'ferry daemon --help'."))
        }
        None => ConfigError(format!(
            "unknown shorthand flag: {flag}\nSee 'ferry daemon --help'."
        )),
    }
}
