//! A create request into what a container is asked to be.

use super::super::error::{ApiError, Result};
use super::{check, endpoint, mounts, refuse, resources};
use ferry_api::docker::config::{Config, CreateRequest, HealthConfig};
use ferry_api::docker::hostconfig::{HostConfig, LogConfig, RestartPolicy as WirePolicy};
use ferry_api::docker::network::NetworkingConfig;
use ferry_engine::containers::spec::{
    ContainerSpec, Isolation, LogConfig as LogSpec, MountSpec, NamespaceMode, NetworkMode, NetworkSpec,
    ProcessSpec, RestartPolicy,
};
use ferry_oci::image::Healthcheck;

/// The newest version's request, as [`super::super::compat::create::lift`] leaves it.
pub fn spec(request: CreateRequest) -> Result<ContainerSpec> {
    let CreateRequest {
        config,
        host_config,
        networking_config,
    } = request;
    check::request(&config, &host_config)?;
    let mut spec = ContainerSpec::default();
    let network_disabled = from_config(config, &mut spec)?;
    from_host(host_config, &mut spec)?;
    endpoints(networking_config, &mut spec.network)?;
    if network_disabled && matches!(spec.network.mode, NetworkMode::Bridge) {
        spec.network.mode = NetworkMode::None;
        spec.network.mode_text = "none".into();
    }
    Ok(spec)
}

/// Fills in what `Config` says; true when it asks for no network.
fn from_config(config: Config, spec: &mut ContainerSpec) -> Result<bool> {
    #[rustfmt::skip]
    let Config {
        hostname, domainname, user, attach_stdin, attach_stdout, attach_stderr, exposed_ports, tty,
        open_stdin, stdin_once, env, cmd, healthcheck, args_escaped, image, volumes, working_dir,
        entrypoint, network_disabled, mac_address, on_build, labels, stop_signal, stop_timeout, shell,
    } = config;
    spec.process = ProcessSpec {
        entrypoint,
        cmd,
        env: env.unwrap_or_default(),
        working_dir,
        user,
        tty,
        open_stdin,
        stdin_once,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        shell,
        on_build,
        args_escaped,
    };
    spec.hostname = hostname;
    spec.domainname = domainname;
    spec.exposed_ports = exposed_ports
        .keys()
        .map(|p| endpoint::port_text(p))
        .collect::<Result<_>>()?;
    spec.healthcheck = healthcheck.map(health);
    spec.image = image;
    spec.volumes = volumes.unwrap_or_default().into_keys().collect();
    spec.network.mac_address = mac_address;
    spec.labels = labels.unwrap_or_default();
    spec.stop_signal = stop_signal;
    spec.stop_timeout = stop_timeout;
    Ok(network_disabled)
}

fn health(check: HealthConfig) -> Healthcheck {
    let HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = check;
    Healthcheck {
        test: test.unwrap_or_default(),
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }
}

fn from_host(mut host: HostConfig, spec: &mut ContainerSpec) -> Result<()> {
    spec.resources = resources::from_wire(&mut host)?;
    let mac_address = std::mem::take(&mut spec.network.mac_address);
    spec.network = NetworkSpec {
        mac_address,
        ..network(&host)?
    };
    let shared = namespaces(&host)?;
    storage(&mut host, spec)?;
    #[rustfmt::skip]
    let HostConfig {
        container_id_file, log_config, restart_policy, auto_remove, console_size, annotations, cap_add, cap_drop, cgroup,
        group_add, links, oom_score_adj, privileged, security_opt, sysctls, runtime, masked_paths, readonly_paths, init,
        cgroup_parent,
        // What `network`, `namespaces`, `storage`, the adapters and `resources` took or refused.
        network_mode: _, port_bindings: _, publish_all_ports: _, dns: _, dns_options: _, dns_search: _, extra_hosts: _,
        pid_mode: _, ipc_mode: _, uts_mode: _, cgroupns_mode: _, userns_mode: _, binds: _, volume_driver: _,
        volumes_from: _, readonly_rootfs: _, storage_opt: _, tmpfs: _, shm_size: _, mounts: _, capabilities: _,
        isolation: _, cpu_shares: _, memory: _, nano_cpus: _, blkio_weight: _, blkio_weight_device: _,
        blkio_device_read_bps: _, blkio_device_write_bps: _, blkio_device_read_iops: _, blkio_device_write_iops: _,
        cpu_period: _, cpu_quota: _, cpu_realtime_period: _, cpu_realtime_runtime: _, cpuset_cpus: _, cpuset_mems: _,
        devices: _, device_cgroup_rules: _, device_requests: _, kernel_memory: _, kernel_memory_tcp: _,
        memory_reservation: _, memory_swap: _, memory_swappiness: _, oom_kill_disable: _, pids_limit: _, ulimits: _,
        cpu_count: _, cpu_percent: _, io_maximum_iops: _, io_maximum_bandwidth: _,
    } = host;
    if !cgroup.is_empty() {
        return Err(refuse(
            "Cgroup",
            "joining another container's cgroup; use CgroupParent",
        ));
    }
    spec.log = log(log_config);
    spec.restart = policy(&restart_policy);
    spec.auto_remove = auto_remove;
    spec.annotations = annotations;
    spec.runtime = runtime;
    spec.console_size = console_size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    spec.container_id_file = container_id_file;
    spec.links = links.unwrap_or_default();
    let security_opt = security_opt.unwrap_or_default();
    spec.isolation = Isolation {
        privileged,
        cap_add: capabilities(cap_add.unwrap_or_default(), "CapAdd")?,
        cap_drop: capabilities(cap_drop.unwrap_or_default(), "CapDrop")?,
        seccomp_profile: profile(&security_opt),
        security_opt,
        masked_paths,
        readonly_paths,
        sysctls,
        group_add: group_add.unwrap_or_default(),
        init,
        oom_score_adj: i32::try_from(oom_score_adj).unwrap_or_default(),
        cgroup_parent,
        ..shared
    };
    Ok(())
}

fn log(LogConfig { driver, config }: LogConfig) -> LogSpec {
    LogSpec {
        driver,
        options: config.unwrap_or_default(),
    }
}

/// Mounts and the root; takes them out of `host`.
fn storage(host: &mut HostConfig, spec: &mut ContainerSpec) -> Result<()> {
    let binds = host.binds.take().unwrap_or_default();
    spec.mounts = all_mounts(
        &binds,
        host.mounts.take().unwrap_or_default(),
        &host.volume_driver,
    )?;
    spec.binds = binds;
    spec.volumes_from = host.volumes_from.take().unwrap_or_default();
    spec.tmpfs = std::mem::take(&mut host.tmpfs);
    spec.read_only_root = host.readonly_rootfs;
    spec.storage_opt = std::mem::take(&mut host.storage_opt);
    spec.shm_size = host.shm_size;
    spec.volume_driver = std::mem::take(&mut host.volume_driver);
    Ok(())
}

/// The namespaces of a request; the rest of the isolation is left at its defaults.
fn namespaces(host: &HostConfig) -> Result<Isolation> {
    // Where several are wrong, Docker names ipc first.
    let ipc = ["none", "private", "host", "shareable", "container:"];
    let ipc = namespace(&host.ipc_mode, "IPC", &ipc)?;
    Ok(Isolation {
        ipc,
        pid: namespace(&host.pid_mode, "PID", &["host", "container:"])?,
        uts: namespace(&host.uts_mode, "UTS", &["host"])?,
        cgroup: namespace(&host.cgroupns_mode, "cgroup namespace", &["private", "host"])?,
        user: namespace(&host.userns_mode, "user namespace", &["host"])?,
        ..Isolation::default()
    })
}

/// The network of a request, without its endpoints.
fn network(host: &HostConfig) -> Result<NetworkSpec> {
    let list = |items: &Option<Vec<String>>| items.clone().unwrap_or_default();
    Ok(NetworkSpec {
        mode: mode(&host.network_mode),
        mode_text: host.network_mode.clone(),
        endpoints: Default::default(),
        ports: endpoint::bindings(host.port_bindings.clone().unwrap_or_default())?,
        publish_all: host.publish_all_ports,
        dns: list(&host.dns),
        dns_search: list(&host.dns_search),
        dns_options: list(&host.dns_options),
        extra_hosts: list(&host.extra_hosts),
        mac_address: String::new(),
    })
}

/// A policy's domain form.
pub fn policy(policy: &WirePolicy) -> RestartPolicy {
    let WirePolicy {
        name,
        maximum_retry_count,
    } = policy;
    match name.as_str() {
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure {
            max: u32::try_from(*maximum_retry_count).unwrap_or(0),
        },
        _ => RestartPolicy::No,
    }
}

fn mode(text: &str) -> NetworkMode {
    match text {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        _ => match text.strip_prefix("container:") {
            Some(other) => NetworkMode::Container(other.into()),
            None => NetworkMode::Network(text.into()),
        },
    }
}

fn namespace(text: &str, what: &str, allowed: &[&str]) -> Result<NamespaceMode> {
    let refused = || ApiError::invalid(format!("invalid {what} mode: {text}"));
    if text.is_empty() {
        return Ok(NamespaceMode::Default);
    }
    let (known, other) = match text.strip_prefix("container:") {
        Some(other) => ("container:", Some(other)),
        None => (text, None),
    };
    if !allowed.contains(&known) {
        return Err(refused());
    }
    match (known, other) {
        ("host", _) => Ok(NamespaceMode::Host),
        ("private", _) => Ok(NamespaceMode::Private),
        ("shareable", _) => Ok(NamespaceMode::Shareable),
        ("none", _) => Ok(NamespaceMode::None),
        (_, Some(other)) if !other.is_empty() => Ok(NamespaceMode::Container(other.into())),
        _ => Err(refused()),
    }
}

/// Names with the prefix, in capitals, each once.
fn capabilities(names: Vec<String>, field: &str) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let upper = name.trim().to_ascii_uppercase();
        let full = if upper == "ALL" || upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        if full != "ALL" && !CAPABILITIES.contains(&full.trim_start_matches("CAP_")) {
            return Err(ApiError::invalid(format!(
                "invalid {field}: unknown capability: {full:?}"
            )));
        }
        if !out.contains(&full) {
            out.push(full);
        }
    }
    Ok(out)
}

/// capabilities(7), without the prefix.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The profile of `seccomp=…` when it is JSON itself rather than a word.
fn profile(options: &[String]) -> Option<String> {
    let values = options
        .iter()
        .filter_map(|o| o.strip_prefix("seccomp=").or_else(|| o.strip_prefix("seccomp:")));
    values
        .map(str::trim)
        .find(|v| v.starts_with('{'))
        .map(str::to_owned)
}

fn all_mounts(
    binds: &[String],
    mounts: Vec<ferry_api::docker::mount::Mount>,
    volume_driver: &str,
) -> Result<Vec<MountSpec>> {
    let mut all = binds
        .iter()
        .map(|b| mounts::bind(b, volume_driver))
        .collect::<Result<Vec<_>>>()?;
    for mount in mounts {
        all.push(mounts::mount(mount)?);
    }
    for (i, mount) in all.iter().enumerate() {
        let clean = |m: &MountSpec| m.target.trim_end_matches('/').to_owned();
        if all[..i].iter().any(|other| clean(other) == clean(mount)) {
            return Err(ApiError::invalid(format!(
                "Duplicate mount point: {}",
                mount.target
            )));
        }
    }
    Ok(all)
}

fn endpoints(config: NetworkingConfig, network: &mut NetworkSpec) -> Result<()> {
    let NetworkingConfig { endpoints_config } = config;
    for (name, settings) in endpoints_config {
        network
            .endpoints
            .insert(name, endpoint::spec(settings.unwrap_or_default())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ContainerSpec> {
        spec(CreateRequest::decode(body.as_bytes()).unwrap())
    }

    #[test]
    fn modes_are_checked() {
        for (body, want) in [
            (r#"{"IpcMode":"foo"}"#, "invalid IPC mode: foo"),
            (r#"{"PidMode":"bar"}"#, "invalid PID mode: bar"),
            (r#"{"PidMode":"container:"}"#, "invalid PID mode: container:"),
            (r#"{"UTSMode":"private"}"#, "invalid UTS mode: private"),
            (
                r#"{"CapAdd":["FOO"]}"#,
                "invalid CapAdd: unknown capability: \"CAP_FOO\"",
            ),
            (r#"{"Memory":1000}"#, "Minimum memory limit allowed is 6MB"),
            (r#"{"ShmSize":-1}"#, "SHM size can not be less than 0"),
            (
                r#"{"OomScoreAdj":9999}"#,
                "Invalid value 9999, range for oom score adj is [-1000, 1000]",
            ),
            (
                r#"{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (
                r#"{"NetworkMode":"container:c","PortBindings":{"80/tcp":[{}]}}"#,
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                r#"{"PortBindings":{"x":[{}]}}"#,
                "invalid JSON: invalid port 'x': invalid syntax",
            ),
        ] {
            let body = format!(r#"{{"Image":"a","HostConfig":{body}}}"#);
            assert_eq!(read(&body).unwrap_err().message, want, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (field, value) in [
            ("DeviceRequests", r#"[{"Count":-1}]"#),
            ("KernelMemory", "1"),
            ("KernelMemoryTCP", "1"),
            ("Cgroup", r#""container:x""#),
            ("CpuCount", "1"),
            ("CpuPercent", "1"),
            ("Isolation", r#""hyperv""#),
            ("IOMaximumIOps", "1"),
        ] {
            let body = format!(r#"{{"Image":"a","HostConfig":{{"{field}":{value}}}}}"#);
            let message = read(&body).unwrap_err().message.to_lowercase();
            assert!(
                message.contains(&field.to_lowercase()) || message.contains("iops"),
                "{field}: {message}"
            );
        }
    }

    #[test]
    fn capabilities_are_normalised() {
        let got =
            read(r#"{"Image":"a","HostConfig":{"CapAdd":["net_admin","CAP_NET_ADMIN","all"]}}"#).unwrap();
        assert_eq!(got.isolation.cap_add, ["CAP_NET_ADMIN", "ALL"]);
    }

    #[test]
    fn a_disabled_network_is_none() {
        let got = read(r#"{"Image":"a","NetworkDisabled":true}"#).unwrap();
        assert_eq!(got.network.mode, NetworkMode::None);
    }
}
