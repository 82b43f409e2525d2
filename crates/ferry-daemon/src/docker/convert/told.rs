//! What a container was asked to be, told again: `Config` and `HostConfig` of an inspection.
//!
//! Where a list is empty it is `null` or `[]` as it is after Docker's own command line, whose requests most containers come from.

use super::{endpoint, mounts, resources};
use ferry_api::docker::Empty;
use ferry_api::docker::config::{Config, HealthConfig};
use ferry_api::docker::hostconfig::{HostConfig, LogConfig, RestartPolicy as WirePolicy};
use ferry_engine::containers::spec::{
    ContainerSpec, Isolation, LogConfig as LogSpec, NamespaceMode, NetworkSpec, ProcessSpec, Resources,
    RestartPolicy,
};
use ferry_oci::image::Healthcheck;

/// What the engine's configuration puts in where a request said nothing.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// cgroup namespace: `host` or `private`.
    pub cgroupns: String,
    /// ipc: `private` or `shareable`.
    pub ipc: String,
    /// Log driver.
    pub log_driver: String,
    /// Runtime.
    pub runtime: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// The host's name.
    pub hostname: String,
    /// Whether the oom killer can be turned off for a container (cgroup v1): only then is it told that it was not.
    pub oom_kill_disable: bool,
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn mode(mode: &NamespaceMode, default: &str) -> String {
    match mode {
        NamespaceMode::Default => default.into(),
        NamespaceMode::Private => "private".into(),
        NamespaceMode::Host => "host".into(),
        NamespaceMode::Container(other) => format!("container:{other}"),
        NamespaceMode::Shareable => "shareable".into(),
        NamespaceMode::None => "none".into(),
    }
}

/// `Config`. `id` names the host where the request did not.
pub fn config(spec: &ContainerSpec, id: &str, defaults: &Defaults) -> Config {
    #[rustfmt::skip]
    let ProcessSpec {
        entrypoint, cmd, env, working_dir, user, tty, open_stdin, stdin_once, attach_stdin, attach_stdout,
        attach_stderr, shell, on_build, args_escaped,
    } = spec.process.clone();
    let hostname = match (
        spec.hostname.as_str(),
        &spec.isolation.uts,
        spec.network.mode_text.as_str(),
    ) {
        ("", NamespaceMode::Host, _) | ("", _, "host") => defaults.hostname.clone(),
        ("", _, mode) if mode.starts_with("container:") => String::new(),
        ("", _, _) => id.chars().take(12).collect(),
        (name, _, _) => name.to_owned(),
    };
    let keys = |names: &[String]| names.iter().map(|n| (n.clone(), Empty {})).collect();
    Config {
        hostname,
        domainname: spec.domainname.clone(),
        user,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        exposed_ports: keys(&spec.exposed_ports),
        tty,
        open_stdin,
        stdin_once,
        env: list(&env),
        cmd,
        healthcheck: spec.healthcheck.as_ref().map(health),
        args_escaped,
        image: spec.image.clone(),
        volumes: (!spec.volumes.is_empty()).then(|| keys(&spec.volumes)),
        working_dir,
        entrypoint,
        network_disabled: false,
        mac_address: spec.network.mac_address.clone(),
        on_build: on_build.filter(|o| !o.is_empty()),
        labels: Some(spec.labels.clone()),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout,
        shell: shell.filter(|s| !s.is_empty()),
    }
}

/// A health check's wire form.
pub fn health(check: &Healthcheck) -> HealthConfig {
    let Healthcheck {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = check.clone();
    HealthConfig {
        test: list(&test),
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }
}

fn policy(policy: &RestartPolicy) -> WirePolicy {
    let (name, maximum_retry_count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", i64::from(*max)),
    };
    WirePolicy {
        name: name.into(),
        maximum_retry_count,
    }
}

/// `HostConfig`.
pub fn host(spec: &ContainerSpec, defaults: &Defaults) -> HostConfig {
    #[rustfmt::skip]
    let ContainerSpec {
        log, restart, auto_remove, isolation, resources: limits, mounts: mounted, binds, volumes_from, tmpfs, network,
        read_only_root, storage_opt, shm_size, runtime, volume_driver, console_size, container_id_file, links, annotations,
        // Told in `Config`.
        image: _, process: _, labels: _, hostname: _, domainname: _, stop_signal: _, stop_timeout: _, healthcheck: _,
        exposed_ports: _, volumes: _,
    } = spec;
    let mut host = HostConfig::default();
    let LogSpec { driver, options } = log;
    host.log_config = LogConfig {
        driver: if driver.is_empty() {
            defaults.log_driver.clone()
        } else {
            driver.clone()
        },
        config: Some(options.clone()),
    };
    host.binds = list(binds);
    host.container_id_file = container_id_file.clone();
    host.restart_policy = policy(restart);
    host.auto_remove = *auto_remove;
    host.volume_driver = volume_driver.clone();
    host.volumes_from = list(volumes_from);
    host.console_size = console_size.map(u32::from);
    host.annotations = annotations.clone();
    host.links = list(links);
    host.readonly_rootfs = *read_only_root;
    host.storage_opt = storage_opt.clone();
    host.tmpfs = tmpfs.clone();
    host.shm_size = if *shm_size == 0 {
        defaults.shm_size
    } else {
        *shm_size
    };
    host.runtime = if runtime.is_empty() {
        defaults.runtime.clone()
    } else {
        runtime.clone()
    };
    let asked: Vec<_> = mounted
        .iter()
        .filter(|m| m.from_mounts)
        .map(mounts::told)
        .collect();
    host.mounts = (!asked.is_empty()).then_some(asked);
    limits_told(limits, defaults, &mut host);
    isolation_told(isolation, defaults, &mut host);
    network_told(network, &mut host);
    host
}

fn limits_told(limits: &Resources, defaults: &Defaults, host: &mut HostConfig) {
    resources::to_wire(limits, host);
    host.oom_kill_disable = host
        .oom_kill_disable
        .or(Some(false))
        .filter(|_| defaults.oom_kill_disable);
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
}

fn isolation_told(isolation: &Isolation, defaults: &Defaults, host: &mut HostConfig) {
    #[rustfmt::skip]
    let Isolation {
        pid, ipc, uts, cgroup, user, privileged, cap_add, cap_drop, security_opt, seccomp_profile:
        _in_security_opt, masked_paths, readonly_paths, sysctls, group_add, init, oom_score_adj,
        cgroup_parent,
    } = isolation;
    host.pid_mode = mode(pid, "");
    host.ipc_mode = mode(ipc, &defaults.ipc);
    host.uts_mode = mode(uts, "");
    host.cgroupns_mode = mode(cgroup, &defaults.cgroupns);
    host.userns_mode = mode(user, "");
    host.privileged = *privileged;
    host.cap_add = list(cap_add);
    host.cap_drop = list(cap_drop);
    host.security_opt = list(security_opt);
    let unlabelled = *privileged || *pid == NamespaceMode::Host || *ipc == NamespaceMode::Host;
    if host.security_opt.is_none() && unlabelled {
        host.security_opt = Some(vec!["label=disable".into()]);
    }
    let paths = |asked: &Option<Vec<String>>, usual: &[&str]| match asked {
        Some(paths) => Some(paths.clone()),
        None if *privileged => None,
        None => Some(usual.iter().map(|p| (*p).to_owned()).collect()),
    };
    host.masked_paths = paths(masked_paths, &MASKED);
    host.readonly_paths = paths(readonly_paths, &READ_ONLY);
    host.sysctls = sysctls.clone();
    host.group_add = list(group_add);
    host.init = *init;
    host.oom_score_adj = i64::from(*oom_score_adj);
    host.cgroup_parent = cgroup_parent.clone();
}

/// Docker's masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn network_told(network: &NetworkSpec, host: &mut HostConfig) {
    #[rustfmt::skip]
    let NetworkSpec {
        mode: _as_text, mode_text, endpoints: _told_per_network, ports, publish_all, dns, dns_search,
        dns_options, extra_hosts, mac_address: _in_config,
    } = network;
    host.network_mode = mode_text.clone();
    host.port_bindings = Some(endpoint::bindings_told(ports));
    host.publish_all_ports = *publish_all;
    host.dns = Some(dns.clone());
    host.dns_search = Some(dns_search.clone());
    host.dns_options = Some(dns_options.clone());
    host.extra_hosts = list(extra_hosts);
}
