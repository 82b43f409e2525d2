//! What Docker refuses at `create` and warns of, in its words; and what Ferry refuses by name.

use super::log_options;
use super::spec::{
    ContainerSpec, MountKind, MountSpec, NamespaceMode, NetworkMode, Resources, RestartPolicy,
};
use super::stop::parse_signal;
use super::to_oci::{devices, security};
use crate::kernel::HostInfo;
use crate::{Config, Error, Result};
use ferry_oci::image::Healthcheck;

/// The least memory a limit may allow.
const MIN_MEMORY: i64 = 6 << 20;
/// HOST_NAME_MAX.
const MAX_HOSTNAME: usize = 64;
/// The shortest time of a health check, ns.
const MIN_DURATION: i64 = 1_000_000;
/// Propagation words.
const PROPAGATION: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

fn refuse(text: impl Into<String>) -> Result<()> {
    Err(Error::invalid(text))
}

/// Before the image is merged in: what a request may not say together.
pub(crate) fn request(spec: &ContainerSpec) -> Result<()> {
    let joins_network = matches!(spec.network.mode, NetworkMode::Container(_));
    let network = &spec.network;
    let conflicts = [
        (
            joins_network && !spec.hostname.is_empty(),
            "hostname and the network mode",
        ),
        (
            joins_network && !spec.links.is_empty(),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            joins_network && !network.dns.is_empty(),
            "dns and the network mode",
        ),
        (
            joins_network && !network.extra_hosts.is_empty(),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            joins_network && (!network.ports.is_empty() || network.publish_all),
            "port publishing and the container type network mode",
        ),
        (
            joins_network && !spec.exposed_ports.is_empty(),
            "port exposing and the container type network mode",
        ),
        (
            spec.isolation.uts == NamespaceMode::Host && !spec.hostname.is_empty(),
            "hostname and the UTS mode",
        ),
        (
            network.mode == NetworkMode::Host && !spec.links.is_empty(),
            "host type networking can't be used with links. This would result in undefined behavior",
        ),
    ];
    match conflicts.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, text)) => refuse(format!("conflicting options: {text}")),
        None => Ok(()),
    }
}

/// Everything else, on the merged specification. Adjusts what the host cannot do and answers the warnings.
pub(crate) fn merged(spec: &mut ContainerSpec, config: &Config, host: &HostInfo) -> Result<Vec<String>> {
    process(spec)?;
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        refuse("can't create 'AutoRemove' container with restart policy")?;
    }
    spec.mounts.iter().try_for_each(mount)?;
    let parse =
        |h: &String| ferry_net::files::parse_extra_host(h, &[std::net::Ipv4Addr::LOCALHOST.into()]).map(drop);
    spec.network.extra_hosts.iter().try_for_each(parse)?;
    let isolation = &spec.isolation;
    security::capabilities(&isolation.cap_add, &isolation.cap_drop, false, host)?;
    security::Options::parse(&isolation.security_opt)?.check(host)?;
    if isolation.oom_score_adj.abs() > 1000 {
        refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            isolation.oom_score_adj
        ))?;
    }
    if spec.hostname.len() > MAX_HOSTNAME {
        refuse(format!(
            "hostname {:?} is too long (maximum {MAX_HOSTNAME} bytes)",
            spec.hostname
        ))?;
    }
    if spec.shm_size < 0 {
        refuse("SHM size can not be less than 0")?;
    }
    sysctls(spec)?;
    namespaces(spec, host)?;
    refused_by_name(spec, config)?;
    devices::devices(spec)?;
    devices::block_devices(&spec.resources)?;
    log_options::parse(&spec.log)?;
    let mut warnings = resources(&mut spec.resources, host, false)?;
    if spec.network.mode == NetworkMode::Host && !spec.network.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    Ok(warnings)
}

fn process(spec: &ContainerSpec) -> Result<()> {
    let process = &spec.process;
    if !process.working_dir.is_empty() && !process.working_dir.starts_with('/') {
        let dir = &process.working_dir;
        refuse(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        ))?;
    }
    if !spec.stop_signal.is_empty() {
        parse_signal(&spec.stop_signal)?;
    }
    if let Some(entry) = process.env.iter().find(|e| e.is_empty() || e.starts_with('=')) {
        refuse(format!("invalid environment variable: {entry}"))?;
    }
    if spec.annotations.contains_key("") {
        refuse("invalid Annotations: the empty string is not permitted as an annotation key")?;
    }
    spec.healthcheck.as_ref().map_or(Ok(()), health)
}

fn health(check: &Healthcheck) -> Result<()> {
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = times.iter().find(|(_, t)| *t != 0 && *t < MIN_DURATION) {
        refuse(format!("{name} in Healthcheck cannot be less than 1ms"))?;
    }
    if check.retries < 0 {
        refuse("Retries in Healthcheck cannot be negative")?;
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL" | "") => Ok(()),
        Some(other) => refuse(format!("Unknown healthcheck type '{other}' (expected 'CMD')")),
    }
}

fn mount(mount: &MountSpec) -> Result<()> {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    };
    let wrong = |why: String| refuse(format!("invalid mount config for type {kind:?}: {why}"));
    let clean = clean_path(&mount.target);
    if mount.target.is_empty() {
        return wrong("field Target must not be empty".into());
    }
    if clean == "/" {
        return wrong("invalid specification: destination can't be '/'".into());
    }
    if !mount.target.starts_with('/') {
        return wrong(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.target
        ));
    }
    if mount.read_only_non_recursive && mount.read_only_force_recursive {
        return wrong("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive".into());
    }
    match mount.kind {
        MountKind::Bind if mount.source.is_empty() => wrong("field Source must not be empty".into()),
        MountKind::Bind if !mount.source.starts_with('/') => wrong(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )),
        MountKind::Bind
            if !mount.propagation.is_empty() && !PROPAGATION.contains(&mount.propagation.as_str()) =>
        {
            wrong(format!("invalid propagation mode: {}", mount.propagation))
        }
        MountKind::Bind if !mount.create_source && !std::path::Path::new(&mount.source).exists() => {
            wrong(format!("bind source path does not exist: {}", mount.source))
        }
        MountKind::Volume if !mount.subpath.is_empty() && mount.source.is_empty() => {
            wrong("must not set Subpath when using anonymous volumes".into())
        }
        MountKind::Volume if !mount.subpath.is_empty() && !local_path(&mount.subpath) => {
            wrong("subpath must be a relative path within the volume".into())
        }
        MountKind::Tmpfs if !mount.source.is_empty() => wrong("field Source must not be specified".into()),
        _ => Ok(()),
    }
}

/// Below the directory it is taken from.
pub(crate) fn local_path(path: &str) -> bool {
    !path.starts_with('/') && !path.split('/').any(|part| part == "..")
}

/// Without `.`, `..`, doubled and closing slashes.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Only those that belong to a namespace of the container's own.
fn sysctls(spec: &ContainerSpec) -> Result<()> {
    let isolation = &spec.isolation;
    for key in isolation.sysctls.keys() {
        let network = key.starts_with("net.");
        let ipc = key.starts_with("fs.mqueue.")
            || key.starts_with("kernel.sem")
            || key.starts_with("kernel.msg")
            || key.starts_with("kernel.shm");
        let uts = ["kernel.domainname"].contains(&key.as_str());
        if !(network || ipc || uts) {
            refuse(format!(
                "invalid sysctl {key:?}: it is not in a separate kernel namespace"
            ))?;
        }
        if network && spec.network.mode == NetworkMode::Host {
            refuse(format!("sysctl {key:?} not allowed in host network namespace"))?;
        }
        if ipc && isolation.ipc == NamespaceMode::Host {
            refuse(format!(
                "sysctl {key:?} is not allowed in the hosts ipc namespace"
            ))?;
        }
    }
    Ok(())
}

fn namespaces(spec: &ContainerSpec, host: &HostInfo) -> Result<()> {
    let isolation = &spec.isolation;
    let empty = |mode: &NamespaceMode| matches!(mode, NamespaceMode::Container(c) if c.is_empty());
    if empty(&isolation.ipc) {
        refuse("invalid IPC mode: container:")?;
    }
    if empty(&isolation.pid) || matches!(isolation.pid, NamespaceMode::Shareable | NamespaceMode::None) {
        refuse(format!("invalid PID mode: {:?}", isolation.pid))?;
    }
    if !matches!(
        isolation.uts,
        NamespaceMode::Default | NamespaceMode::Private | NamespaceMode::Host
    ) {
        refuse(format!("invalid UTS mode: {:?}", isolation.uts))?;
    }
    if !matches!(isolation.cgroup, NamespaceMode::Private | NamespaceMode::Host) {
        refuse(format!("invalid cgroup namespace mode: {:?}", isolation.cgroup))?;
    }
    if matches!(&spec.network.mode, NetworkMode::Container(c) if c.is_empty()) {
        refuse("invalid network mode: invalid container format container:<name|id>")?;
    }
    if !matches!(isolation.user, NamespaceMode::Default | NamespaceMode::Host) {
        return Err(Error::unsupported("invalid USER mode: only host is supported"));
    }
    if host.cgroup_version == 2 && isolation.privileged && isolation.cgroup == NamespaceMode::Private {
        return Ok(());
    }
    Ok(())
}

/// What is not there yet.
fn refused_by_name(spec: &ContainerSpec, config: &Config) -> Result<()> {
    if let Some(option) = spec.storage_opt.keys().next() {
        return Err(Error::unsupported(format!(
            "--storage-opt {option} is not supported by the overlay snapshotter"
        )));
    }
    if ![
        "",
        "ferry",
        "runc",
        "io.containerd.runc.v2",
        &config.default_runtime,
    ]
    .contains(&spec.runtime.as_str())
    {
        refuse(format!("unknown or invalid runtime name: {}", spec.runtime))?;
    }
    if !["", "local"].contains(&spec.volume_driver.as_str()) {
        let driver = &spec.volume_driver;
        return Err(Error::not_found(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found"
        )));
    }
    if let Some(link) = spec.links.first() {
        return Err(Error::unsupported(format!(
            "--link {link} is not supported: use a user-defined network"
        )));
    }
    for (network, endpoint) in &spec.network.endpoints {
        if let Some(link) = endpoint.links.first() {
            return Err(Error::unsupported(format!(
                "link {link} on network {network} is not supported"
            )));
        }
        if let Some(ip) = endpoint.link_local.first() {
            return Err(Error::unsupported(format!(
                "link-local address {ip} on network {network} is not supported"
            )));
        }
        if let Some(option) = endpoint.driver_opts.keys().next() {
            return Err(Error::unsupported(format!(
                "driver option {option} of an endpoint on network {network} is not supported"
            )));
        }
        if endpoint.gw_priority != 0 {
            return Err(Error::unsupported(format!(
                "gateway priority on network {network} is not supported"
            )));
        }
    }
    let labelled = |m: &MountSpec| m.mode.split(',').any(|o| o == "z" || o == "Z");
    if let Some(mount) = spec.mounts.iter().find(|m| labelled(m)) {
        tracing::debug!(target = mount.target, "SELinux is not there: nothing to relabel");
    }
    Ok(())
}

/// Limits, for `create` and `update`.
pub(crate) fn resources(asked: &mut Resources, host: &HostInfo, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    memory(asked, update)?;
    let has =
        |controller: &str| host.controllers.is_empty() || host.controllers.iter().any(|c| c == controller);
    if host.cgroup_version == 2 {
        if asked.memory_swappiness.take().is_some_and(|s| s >= 0) {
            let text = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.";
            warnings.push(text.into());
        }
        if asked.oom_kill_disable.take() == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
        }
    }
    if asked.oom_kill_disable == Some(true) && asked.memory == 0 {
        let text = "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.";
        warnings.push(text.into());
    }
    if asked.memory > 0 && !has("memory") {
        let text = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
        warnings.push(text.into());
        (asked.memory, asked.memory_swap) = (0, -1);
    }
    if asked.pids_limit.is_some_and(|l| l > 0) && !has("pids") {
        let text = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";
        warnings.push(text.into());
        asked.pids_limit = None;
    }
    cpu(asked)?;
    if asked.blkio_weight != 0 && !(10..=1000).contains(&asked.blkio_weight) {
        refuse("Range of blkio weight is from 10 to 1000")?;
    }
    for limit in &asked.ulimits {
        super::to_oci::check_ulimit(limit)?;
    }
    Ok(warnings)
}

fn memory(asked: &mut Resources, update: bool) -> Result<()> {
    if asked.memory_swappiness == Some(-1) {
        asked.memory_swappiness = None;
    }
    let Resources {
        memory,
        memory_swap,
        memory_reservation,
        memory_swappiness,
        ..
    } = asked;
    let checks = [
        (
            *memory != 0 && *memory < MIN_MEMORY,
            "Minimum memory limit allowed is 6MB",
        ),
        (
            *memory > 0 && *memory_swap > 0 && memory_swap < memory,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            *memory == 0 && *memory_swap > 0 && !update,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            *memory_reservation > 0 && *memory_reservation < MIN_MEMORY,
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            *memory > 0 && *memory_reservation > 0 && memory < memory_reservation,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
    ];
    if let Some((_, text)) = checks.into_iter().find(|(wrong, _)| *wrong) {
        refuse(text)?;
    }
    match memory_swappiness {
        Some(s) if !(0..=100).contains(s) => refuse(format!(
            "Invalid value: {s}, valid memory swappiness range is 0-100"
        )),
        _ => Ok(()),
    }
}

fn cpu(asked: &Resources) -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let all = i64::try_from(cpus).unwrap_or(1).saturating_mul(1_000_000_000);
    let period = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
    let checks = [
        (
            asked.nano_cpus > 0 && asked.cpu_period > 0,
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            asked.nano_cpus > 0 && asked.cpu_quota > 0,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            asked.cpu_period != 0 && !(1000..=1_000_000).contains(&asked.cpu_period),
            period,
        ),
        (
            asked.cpu_quota > 0 && asked.cpu_quota < 1000,
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ),
        (
            asked.cpu_realtime_period != 0
                && asked.cpu_realtime_runtime != 0
                && asked.cpu_realtime_runtime > asked.cpu_realtime_period,
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ),
    ];
    if let Some((_, text)) = checks.into_iter().find(|(wrong, _)| *wrong) {
        refuse(text)?;
    }
    if asked.nano_cpus < 0 || asked.nano_cpus > all {
        refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ))?;
    }
    available(
        &asked.cpuset_cpus,
        "cpus",
        "CPUs",
        "/sys/devices/system/cpu/online",
    )?;
    available(
        &asked.cpuset_mems,
        "mems",
        "memory nodes",
        "/sys/devices/system/node/online",
    )
}

/// A cpuset list within what the host has.
fn available(list: &str, short: &str, long: &str, path: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let Some(wanted) = parse_list(list) else {
        return refuse(format!("Invalid value {list} for cpuset {short}: invalid format"));
    };
    let Ok(host) = std::fs::read_to_string(path) else {
        return Ok(());
    };
    let have = parse_list(host.trim()).unwrap_or_default();
    if wanted.iter().all(|n| have.contains(n)) {
        return Ok(());
    }
    refuse(format!(
        "Requested {long} are not available - requested {list}, available: {}",
        host.trim()
    ))
}

/// `0-2,4`.
fn parse_list(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            first.trim().parse::<u32>().ok()?,
            last.trim().parse::<u32>().ok()?,
        );
        if first > last || last > 8191 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(version: u8) -> HostInfo {
        HostInfo {
            cgroup_version: version,
            ..HostInfo::default()
        }
    }

    #[test]
    fn limits_are_refused_in_docker_s_words() {
        type Change = fn(&mut Resources);
        let cases: [(Change, &str); 9] = [
            (|r| r.memory = 1 << 20, "Minimum memory limit allowed is 6MB"),
            (
                |r| (r.memory, r.memory_swap) = (64 << 20, 32 << 20),
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                |r| r.memory_swap = 1,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                |r| r.memory_swappiness = Some(101),
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                |r| (r.nano_cpus, r.cpu_quota) = (1, 1),
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                |r| r.cpu_quota = 10,
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
            (|r| r.blkio_weight = 5, "Range of blkio weight is from 10 to 1000"),
            (
                |r| r.cpuset_cpus = "x".into(),
                "Invalid value x for cpuset cpus: invalid format",
            ),
            (|r| r.nano_cpus = -1, "range of CPUs is from 0.01 to"),
        ];
        for (change, text) in cases {
            let mut asked = Resources::default();
            change(&mut asked);
            let error = resources(&mut asked, &host(1), false).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let mut asked = Resources {
            cpuset_cpus: "5000".into(),
            ..Resources::default()
        };
        let error = resources(&mut asked, &host(1), false).unwrap_err().to_string();
        assert!(
            error.starts_with("Requested CPUs are not available - requested 5000, available:"),
            "{error}"
        );
    }

    #[test]
    fn what_cgroup_v2_lacks_is_discarded_with_a_warning() {
        let mut asked = Resources {
            memory_swappiness: Some(10),
            oom_kill_disable: Some(true),
            ..Resources::default()
        };
        assert_eq!(resources(&mut asked, &host(2), false).unwrap().len(), 2);
        assert_eq!((asked.memory_swappiness, asked.oom_kill_disable), (None, None));
    }

    #[test]
    fn conflicting_requests_are_refused() {
        let mut spec = ContainerSpec::default();
        spec.network.mode = NetworkMode::Container("x".into());
        assert!(request(&spec).is_ok());
        spec.hostname = "h".into();
        assert_eq!(
            request(&spec).unwrap_err().to_string(),
            "conflicting options: hostname and the network mode"
        );
        spec.network.mode = NetworkMode::Host;
        assert!(request(&spec).is_ok());
        spec.isolation.uts = NamespaceMode::Host;
        assert_eq!(
            request(&spec).unwrap_err().to_string(),
            "conflicting options: hostname and the UTS mode"
        );
    }

    #[test]
    fn sysctls_outside_the_container_s_namespaces_are_refused() {
        let check = |key: &str, mode: NetworkMode| {
            let mut spec = ContainerSpec::default();
            spec.isolation.sysctls.insert(key.into(), "1".into());
            spec.network.mode = mode;
            sysctls(&spec).is_ok()
        };
        assert!(check("net.ipv4.ip_forward", NetworkMode::Bridge));
        assert!(!check("net.ipv4.ip_forward", NetworkMode::Host));
        assert!(check("kernel.shmmax", NetworkMode::Host));
        assert!(!check("vm.swappiness", NetworkMode::Bridge));
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean_path("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(clean_path("/../.."), "/");
        assert!(local_path("a/b") && !local_path("a/../../b") && !local_path("/a"));
    }
}
