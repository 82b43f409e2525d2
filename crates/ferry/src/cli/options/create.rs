//! From flags to the body of `POST /containers/create`.

use super::{environment, mount, network, port, values, volume};
use crate::cli::flags::Matches;
use crate::cli::output::quote;
use environment::Bare;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A create request and what the client itself needs of it.
#[derive(Debug)]
pub(crate) struct CreateBody {
    /// The JSON body: Config with HostConfig and NetworkingConfig inside.
    pub(crate) json: Value,
    /// Which of stdin, stdout and stderr to attach.
    pub(crate) attach: [bool; 3],
    /// Whether the container has a terminal.
    pub(crate) tty: bool,
}

/// Reads everything from the flags, `args` being the command. `proxies` are the user's proxy variables.
pub(crate) fn body(
    m: &Matches,
    image: &str,
    args: &[String],
    proxies: &BTreeMap<String, String>,
) -> Result<CreateBody, String> {
    validate(m)?;
    let (mut volumes, mut binds) = (Map::new(), Vec::new());
    for spec in unique(m.all("volume")) {
        match volume::parse(spec)? {
            volume::Volume::Anonymous(target) => {
                volumes.insert(target, json!({}));
            }
            volume::Volume::Bind(bind) => binds.push(bind),
        }
    }
    let ports = port::parse(&m.all("publish"), &m.all("expose"))?;
    let (mode, endpoints) = network::endpoints(m)?;
    let attach = attachments(m);
    let mut config = config(m, image, args, proxies)?;
    config.insert("AttachStdin".into(), json!(attach[0]));
    config.insert("AttachStdout".into(), json!(attach[1]));
    config.insert("AttachStderr".into(), json!(attach[2]));
    config.insert("StdinOnce".into(), json!(m.on("interactive") && attach[0]));
    config.insert("Volumes".into(), json!(volumes));
    config.insert("ExposedPorts".into(), Value::Object(ports.exposed));
    let mut host = host_config(m)?;
    host.insert("Binds".into(), json!(binds));
    host.insert("PortBindings".into(), Value::Object(ports.bindings));
    host.insert("NetworkMode".into(), json!(mode));
    host.append(&mut resources(m)?);
    config.insert("HostConfig".into(), Value::Object(host));
    config.insert("NetworkingConfig".into(), json!({"EndpointsConfig": endpoints}));
    Ok(CreateBody {
        json: Value::Object(config),
        attach,
        tty: m.on("tty"),
    })
}

fn unique(all: Vec<&str>) -> Vec<&str> {
    let mut seen = Vec::new();
    all.into_iter()
        .filter(|s| {
            !seen.contains(s) && {
                seen.push(*s);
                true
            }
        })
        .collect()
}

/// Which streams: those of `-a`, else output and error; `-i` adds input.
fn attachments(m: &Matches) -> [bool; 3] {
    let given = m.all("attach");
    let asked = |name: &str| given.contains(&name);
    [
        asked("stdin") || m.on("interactive"),
        given.is_empty() || asked("stdout"),
        given.is_empty() || asked("stderr"),
    ]
}

fn validate(m: &Matches) -> Result<(), String> {
    if m.changed("mac-address") {
        network::mac(m.get("mac-address"))?;
    }
    let swappiness = m.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    let pid = m.get("pid");
    if !matches!(pid, "" | "host" | "private") && !container(pid) {
        return Err("--pid: invalid PID mode".into());
    }
    if !matches!(m.get("uts"), "" | "host") {
        return Err("--uts: invalid UTS mode".into());
    }
    if !matches!(m.get("userns"), "" | "host") {
        return Err("--userns: invalid USER mode".into());
    }
    if !matches!(m.get("cgroupns"), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    if m.on("rm") && !matches!(m.get("restart").split(':').next(), Some("" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    Ok(())
}

/// The container's own configuration.
fn config(
    m: &Matches,
    image: &str,
    args: &[String],
    proxies: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, String> {
    let env = environment::collect(&m.all("env-file"), &m.all("env"), Bare::FromEnvironment)?;
    let given = |name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
    let mut env_all: Vec<String> = proxies
        .iter()
        .filter(|(name, _)| !given(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    env_all.extend(env);
    let labels = environment::collect(&m.all("label-file"), &m.all("label"), Bare::Skip)?;
    let mut config = Map::new();
    config.insert("Hostname".into(), json!(m.get("hostname")));
    config.insert("Domainname".into(), json!(m.get("domainname")));
    config.insert("User".into(), json!(m.get("user")));
    config.insert("Tty".into(), json!(m.on("tty")));
    config.insert("OpenStdin".into(), json!(m.on("interactive")));
    config.insert("Env".into(), json!(env_all));
    config.insert("Image".into(), json!(image));
    config.insert("WorkingDir".into(), json!(m.get("workdir")));
    config.insert("Labels".into(), Value::Object(pairs(&labels)));
    config.insert(
        "Cmd".into(),
        if args.is_empty() { Value::Null } else { json!(args) },
    );
    if m.changed("entrypoint") {
        config.insert("Entrypoint".into(), json!([m.get("entrypoint")]));
    }
    if m.changed("stop-signal") {
        config.insert("StopSignal".into(), json!(m.get("stop-signal")));
    }
    if m.changed("stop-timeout") {
        config.insert("StopTimeout".into(), json!(m.int("stop-timeout")));
    }
    if let Some(health) = health(m)? {
        config.insert("Healthcheck".into(), health);
    }
    Ok(config)
}

fn health(m: &Matches) -> Result<Option<Value>, String> {
    let numbers = [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-retries", "Retries"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ];
    let any = !m.get("health-cmd").is_empty() || numbers.iter().any(|(flag, _)| m.int(flag) != 0);
    if m.on("no-healthcheck") {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !any {
        return Ok(None);
    }
    let mut health = Map::new();
    if !m.get("health-cmd").is_empty() {
        health.insert("Test".into(), json!(["CMD-SHELL", m.get("health-cmd")]));
    }
    for (flag, field) in numbers {
        if m.int(flag) < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
        if m.int(flag) > 0 {
            health.insert(field.into(), json!(m.int(flag)));
        }
    }
    Ok(Some(Value::Object(health)))
}

/// `key=value` texts as an object.
pub(crate) fn pairs<S: AsRef<str>>(all: &[S]) -> Map<String, Value> {
    all.iter()
        .map(|pair| {
            let (key, value) = pair.as_ref().split_once('=').unwrap_or((pair.as_ref(), ""));
            (key.to_owned(), json!(value))
        })
        .collect()
}

/// What concerns the host, but resources.
fn host_config(m: &Matches) -> Result<Map<String, Value>, String> {
    let mut host = Map::new();
    let mut put = |key: &str, value: Value| host.insert(key.to_owned(), value);
    for (field, flag) in [
        ("Dns", "dns"),
        ("DnsSearch", "dns-search"),
        ("ExtraHosts", "add-host"),
        ("GroupAdd", "group-add"),
        ("Links", "link"),
        ("VolumesFrom", "volumes-from"),
    ] {
        let all = m.all(flag);
        let empty = if field.starts_with("Dns") {
            json!([])
        } else {
            Value::Null
        };
        put(field, if all.is_empty() { empty } else { json!(all) });
    }
    let [add, drop] = capabilities(m);
    put("CapAdd", if add.is_empty() { Value::Null } else { json!(add) });
    put("CapDrop", if drop.is_empty() { Value::Null } else { json!(drop) });
    put("DnsOptions", json!(m.all_of(&["dns-option", "dns-opt"])));
    for (field, flag) in [
        ("AutoRemove", "rm"),
        ("Privileged", "privileged"),
        ("PublishAllPorts", "publish-all"),
        ("ReadonlyRootfs", "read-only"),
    ] {
        put(field, json!(m.on(flag)));
    }
    for (field, flag) in [
        ("ContainerIDFile", "cidfile"),
        ("CgroupnsMode", "cgroupns"),
        ("IpcMode", "ipc"),
        ("Isolation", "isolation"),
        ("PidMode", "pid"),
        ("UTSMode", "uts"),
        ("UsernsMode", "userns"),
        ("VolumeDriver", "volume-driver"),
    ] {
        put(field, json!(m.get(flag)));
    }
    if m.changed("runtime") {
        put("Runtime", json!(m.get("runtime")));
    }
    if m.changed("init") {
        put("Init", json!(m.on("init")));
    }
    put("OomScoreAdj", json!(m.int("oom-score-adj")));
    put("ShmSize", json!(m.int("shm-size")));
    put("RestartPolicy", values::restart_policy(m.get("restart"))?);
    put(
        "LogConfig",
        json!({"Type": m.get("log-driver"), "Config": log_options(m)?}),
    );
    let (security, unconfined) = security(&m.all("security-opt"))?;
    put(
        "SecurityOpt",
        if security.is_empty() {
            Value::Null
        } else {
            json!(security)
        },
    );
    if unconfined {
        put("MaskedPaths", json!([]));
        put("ReadonlyPaths", json!([]));
    }
    maps(m, &mut host)?;
    Ok(host)
}

/// Capabilities to add and to drop, by their full names, sorted; adding wins.
fn capabilities(m: &Matches) -> [BTreeSet<String>; 2] {
    let names = |flag: &str| -> BTreeSet<String> {
        let names: BTreeSet<String> = m
            .all(flag)
            .into_iter()
            .map(|c| match c.trim().to_uppercase() {
                name if name == "ALL" || name.starts_with("CAP_") => name,
                name => format!("CAP_{name}"),
            })
            .collect();
        if names.contains("ALL") {
            BTreeSet::from(["ALL".to_owned()])
        } else {
            names
        }
    };
    let add = names("cap-add");
    let drop = names("cap-drop").difference(&add).cloned().collect();
    [add, drop]
}

fn log_options(m: &Matches) -> Result<Map<String, Value>, String> {
    let options = m.all("log-opt");
    match m.get("log-driver") {
        "none" if !options.is_empty() => Err("invalid logging opts for driver none".into()),
        _ => Ok(pairs(&options)),
    }
}

/// Fields that are left out when empty.
fn maps(m: &Matches, host: &mut Map<String, Value>) -> Result<(), String> {
    let mut put = |key: &str, map: Map<String, Value>| {
        if !map.is_empty() {
            host.insert(key.to_owned(), Value::Object(map));
        }
    };
    put("Sysctls", pairs(&m.all("sysctl")));
    put("Annotations", pairs(&m.all("annotation")));
    let tmpfs = m.all("tmpfs").into_iter().map(|t| {
        let (path, options) = t.split_once(':').unwrap_or((t, ""));
        (path.to_owned(), json!(options))
    });
    put("Tmpfs", tmpfs.collect());
    let storage = m.all("storage-opt");
    if storage.iter().any(|o| !o.contains('=')) {
        return Err("invalid storage option".into());
    }
    put("StorageOpt", pairs(&storage));
    let mounts = m
        .all("mount")
        .into_iter()
        .map(mount::parse)
        .collect::<Result<Vec<_>, _>>()?;
    if !mounts.is_empty() {
        host.insert("Mounts".into(), json!(mounts));
    }
    Ok(())
}

/// Security options; a seccomp profile's file becomes its contents. Says whether the system paths stay unmasked.
fn security(options: &[&str]) -> Result<(Vec<String>, bool), String> {
    let mut out = Vec::new();
    let mut unconfined = false;
    for option in options {
        if *option == "systempaths=unconfined" {
            unconfined = true;
            continue;
        }
        let (key, value) = match option.split_once('=') {
            Some(pair) => pair,
            None if option.starts_with("no-new-privileges") => (*option, ""),
            None => option.split_once(':').unwrap_or((option, "")),
        };
        if value.is_empty() && !key.starts_with("no-new-privileges") {
            return Err(format!("Invalid --security-opt: {}", quote(option)));
        }
        if key == "seccomp" && !matches!(value, "unconfined" | "builtin") {
            let text = std::fs::read(value).map_err(|e| {
                format!(
                    "opening seccomp profile ({value}) failed: open {value}: {}",
                    words(&e)
                )
            })?;
            let json: Value = serde_json::from_slice(&text)
                .map_err(|e| format!("compacting json for seccomp profile ({value}) failed: {e}"))?;
            out.push(format!("seccomp={json}"));
        } else {
            out.push((*option).to_owned());
        }
    }
    Ok((out, unconfined))
}

/// An error in the kernel's words, without the number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

/// Limits.
fn resources(m: &Matches) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    for (field, flag) in [
        ("BlkioWeight", "blkio-weight"),
        ("CpuPeriod", "cpu-period"),
        ("CpuQuota", "cpu-quota"),
        ("CpuRealtimePeriod", "cpu-rt-period"),
        ("CpuRealtimeRuntime", "cpu-rt-runtime"),
        ("CpuShares", "cpu-shares"),
        ("Memory", "memory"),
        ("MemoryReservation", "memory-reservation"),
        ("MemorySwap", "memory-swap"),
        ("MemorySwappiness", "memory-swappiness"),
        ("NanoCpus", "cpus"),
        ("PidsLimit", "pids-limit"),
    ] {
        put(field, json!(m.int(flag)));
    }
    for (field, flag) in [
        ("CgroupParent", "cgroup-parent"),
        ("CpusetCpus", "cpuset-cpus"),
        ("CpusetMems", "cpuset-mems"),
    ] {
        put(field, json!(m.get(flag)));
    }
    put("OomKillDisable", json!(m.on("oom-kill-disable")));
    for (field, flag) in [
        ("BlkioWeightDevice", "blkio-weight-device"),
        ("BlkioDeviceReadBps", "device-read-bps"),
        ("BlkioDeviceWriteBps", "device-write-bps"),
        ("BlkioDeviceReadIOps", "device-read-iops"),
        ("BlkioDeviceWriteIOps", "device-write-iops"),
    ] {
        // The check has turned each into JSON.
        let list: Vec<Value> = m
            .all(flag)
            .iter()
            .filter_map(|t| serde_json::from_str(t).ok())
            .collect();
        put(field, json!(list));
    }
    let mut ulimits = BTreeMap::new();
    for text in m.all("ulimit") {
        let (name, soft, hard) = values::parse_ulimit(text)?;
        ulimits.insert(name.clone(), json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    put("Ulimits", json!(ulimits.into_values().collect::<Vec<_>>()));
    let rules = m.all("device-cgroup-rule");
    put(
        "DeviceCgroupRules",
        if rules.is_empty() {
            Value::Null
        } else {
            json!(rules)
        },
    );
    let (cdi, plain): (Vec<&str>, Vec<&str>) = m.all("device").into_iter().partition(|d| is_cdi(d));
    put(
        "Devices",
        json!(
            plain
                .into_iter()
                .map(values::device)
                .collect::<Result<Vec<_>, _>>()?
        ),
    );
    let requests = if cdi.is_empty() {
        Value::Null
    } else {
        json!([{"Driver": "cdi", "DeviceIDs": cdi}])
    };
    put("DeviceRequests", requests);
    Ok(out)
}

/// A qualified device name of the Container Device Interface: `vendor.com/class=name`.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/')
        && text
            .split_once('=')
            .is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;
    use crate::cli::options::table;

    fn made(line: &str) -> Result<Value, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let all = table::CONTAINER.iter().chain(&table::RUN).collect();
        let m = match flags::parse(all, &words, false) {
            Ok(m) => m,
            Err(flags::Stop::Usage(text)) => return Err(text),
            Err(flags::Stop::Refused(failure)) => return Err(failure.message),
            Err(flags::Stop::Help) => return Err("help".into()),
        };
        let image = m.arg(0).to_owned();
        body(&m, &image, &m.args[1..], &BTreeMap::new()).map(|b| b.json)
    }

    #[test]
    fn a_flag_sets_its_field() {
        for (line, pointer, want) in [
            ("i sh -c x", "/Cmd", json!(["sh", "-c", "x"])),
            ("i", "/Cmd", Value::Null),
            ("--entrypoint= i", "/Entrypoint", json!([""])),
            ("-it i", "/OpenStdin", json!(true)),
            ("-it i", "/StdinOnce", json!(true)),
            ("-a stdout i", "/AttachStderr", json!(false)),
            ("-e A=1 --env B=2 i", "/Env", json!(["A=1", "B=2"])),
            ("-l a=b -l c i", "/Labels", json!({"a": "b", "c": ""})),
            ("-v /x i", "/Volumes", json!({"/x": {}})),
            ("-v /a:/x:ro i", "/HostConfig/Binds", json!(["/a:/x:ro"])),
            ("-p 80:8080 i", "/ExposedPorts", json!({"8080/tcp": {}})),
            (
                "--health-cmd x i",
                "/Healthcheck",
                json!({"Test": ["CMD-SHELL", "x"]}),
            ),
            ("--no-healthcheck i", "/Healthcheck", json!({"Test": ["NONE"]})),
            ("--stop-timeout 3 i", "/StopTimeout", json!(3)),
        ] {
            check(line, pointer, &want);
        }
    }

    fn check(line: &str, pointer: &str, want: &Value) {
        let body = made(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(
            body.pointer(pointer).unwrap_or(&Value::Null),
            want,
            "{line} {pointer}"
        );
    }

    #[test]
    fn a_limit_sets_its_field() {
        for (line, pointer, want) in [
            ("-m 1g i", "/HostConfig/Memory", json!(1 << 30)),
            ("--cpus .5 i", "/HostConfig/NanoCpus", json!(500_000_000)),
            (
                "--cap-add net_admin --cap-drop all i",
                "/HostConfig/CapAdd",
                json!(["CAP_NET_ADMIN"]),
            ),
            (
                "--cap-add net_admin --cap-drop all i",
                "/HostConfig/CapDrop",
                json!(["ALL"]),
            ),
            (
                "--cap-add chown --cap-drop CAP_CHOWN i",
                "/HostConfig/CapDrop",
                Value::Null,
            ),
            (
                "--restart on-failure:2 i",
                "/HostConfig/RestartPolicy",
                json!({"Name": "on-failure", "MaximumRetryCount": 2}),
            ),
            ("--net host i", "/HostConfig/NetworkMode", json!("host")),
            ("--net host i", "/NetworkingConfig/EndpointsConfig", json!({})),
            ("i", "/NetworkingConfig/EndpointsConfig", json!({"default": {}})),
            (
                "--network n --ip 1.2.3.4 i",
                "/NetworkingConfig/EndpointsConfig/n",
                json!({"IPAMConfig": {"IPv4Address": "1.2.3.4"}}),
            ),
            (
                "--tmpfs /t:size=1 i",
                "/HostConfig/Tmpfs",
                json!({"/t": "size=1"}),
            ),
            (
                "--security-opt systempaths=unconfined i",
                "/HostConfig/MaskedPaths",
                json!([]),
            ),
            (
                "--ulimit nofile=1:2 i",
                "/HostConfig/Ulimits",
                json!([{"Name": "nofile", "Soft": 1, "Hard": 2}]),
            ),
            (
                "--device vendor.com/class=x i",
                "/HostConfig/DeviceRequests",
                json!([{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=x"]}]),
            ),
        ] {
            check(line, pointer, &want);
        }
    }

    #[test]
    fn conflicts_and_bad_values_are_named() {
        for (line, want) in [
            (
                "--rm --restart always i",
                "conflicting options: cannot specify both --restart and --rm",
            ),
            ("--pid x i", "--pid: invalid PID mode"),
            (
                "--memory-swappiness 101 i",
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
            (
                "--no-healthcheck --health-cmd x i",
                "--no-healthcheck conflicts with --health-* options",
            ),
            ("--health-retries -1 i", "--health-retries cannot be negative"),
            (
                "--network-alias a i",
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (
                "--network a --network a i",
                "network \"a\" is specified multiple times",
            ),
            ("--security-opt x i", "Invalid --security-opt: \"x\""),
            ("--gpus all i", "unsupported flag: --gpus"),
            (
                "--mount type=bind i",
                "invalid argument \"type=bind\" for \"--mount\" flag: target is required",
            ),
        ] {
            assert_eq!(made(line).unwrap_err(), want, "{line}");
        }
    }
}
