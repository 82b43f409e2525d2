//! What the engine says of itself.

use super::super::version::{NEWEST, OLDEST};
use super::inspect::DRIVER;
use crate::Release;
use ferry_api::docker::registry::{IndexInfo, ServiceConfig};
use ferry_api::docker::system::{
    AddressPool, Commit, Component, FirewallInfo, Info, PlatformName, Plugins, Runtime, SwarmInfo, Version,
};
use ferry_api::docker::time::rfc3339_nano;
use ferry_engine::Config;
use ferry_engine::kernel::HostInfo;
use ferry_engine::system::SystemInfo;
use ferry_oci::Platform;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The default registry, by the name that clients know it by.
const DEFAULT_REGISTRY: &str = "docker.io";

fn has(host: &HostInfo, controller: &str) -> bool {
    host.controllers.iter().any(|c| c == controller)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn texts(list: &[&'static str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn security(host: &HostInfo) -> Vec<String> {
    let mut options = Vec::new();
    for lsm in host
        .lsms
        .iter()
        .filter(|l| matches!(l.as_str(), "apparmor" | "selinux"))
    {
        options.push(format!("name={lsm}"));
    }
    if host.seccomp {
        options.push("name=seccomp,profile=builtin".into());
    }
    if host.cgroup_version == 2 {
        options.push("name=cgroupns".into());
    }
    options
}

fn registries(config: &Config) -> ServiceConfig {
    let mirrors: Vec<String> = config
        .registry_mirrors
        .iter()
        .map(|m| format!("{}/", m.trim_end_matches('/')))
        .collect();
    let mut networks = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    let official = IndexInfo {
        name: DEFAULT_REGISTRY.into(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut indexes = BTreeMap::from([(DEFAULT_REGISTRY.to_owned(), official)]);
    for registry in &config.insecure_registries {
        if registry.contains('/') {
            networks.push(registry.clone());
        } else {
            let index = IndexInfo {
                name: registry.clone(),
                ..IndexInfo::default()
            };
            indexes.insert(registry.clone(), index);
        }
    }
    ServiceConfig {
        insecure_registry_cidrs: networks,
        index_configs: indexes,
        mirrors,
    }
}

/// `GET /info`.
pub fn info(system: &SystemInfo, release: &Release) -> Info {
    #[rustfmt::skip]
    let SystemInfo {
        id, name, containers, running, paused, stopped, images, snapshotter: _, backing_filesystem,
        memory_total, cpus, operating_system, os_version, open_fds, tasks, event_listeners, started: _,
        host, config, warnings, log_drivers: _, volume_drivers: _, network_drivers: _,
    } = system;
    let pools = config.default_address_pools.iter();
    Info {
        id: id.clone(),
        containers: count(*containers),
        containers_running: count(*running),
        containers_paused: count(*paused),
        containers_stopped: count(*stopped),
        images: count(*images),
        driver: DRIVER.into(),
        driver_status: vec![["Backing Filesystem".into(), backing_filesystem.clone()]],
        plugins: plugins(system),
        system_time: rfc3339_nano(SystemTime::now()),
        debug: config.debug,
        n_fd: count(*open_fds),
        n_goroutines: count(*tasks),
        logging_driver: config.log_driver.clone(),
        n_events_listener: count(*event_listeners),
        operating_system: operating_system.clone(),
        os_version: os_version.clone(),
        os_type: "linux".into(),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: registries(config),
        ncpu: *cpus,
        mem_total: *memory_total,
        docker_root_dir: config.data_root.display().to_string(),
        name: name.clone(),
        labels: config.labels.clone(),
        server_version: release.version.clone(),
        runtimes: BTreeMap::from([(config.default_runtime.clone(), own_runtime())]),
        default_runtime: config.default_runtime.clone(),
        swarm: SwarmInfo {
            local_node_state: "inactive".into(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: true,
        init_binary: "ferry".into(),
        // The init is a part of this binary.
        init_commit: Commit { id: "N/A".into() },
        default_address_pools: pools
            .map(|p| AddressPool {
                base: p.base.to_string(),
                size: p.size,
            })
            .collect(),
        firewall_backend: Some(FirewallInfo {
            driver: "nftables".into(),
            info: Vec::new(),
        }),
        warnings: (!warnings.is_empty()).then(|| warnings.iter().map(|w| warning(w)).collect()),
        ..host_part(host)
    }
}

fn plugins(system: &SystemInfo) -> Plugins {
    Plugins {
        volume: texts(&system.volume_drivers),
        network: texts(&system.network_drivers),
        authorization: None,
        log: texts(&system.log_drivers),
    }
}

/// Docker's warnings say that they are.
fn warning(text: &str) -> String {
    if text.starts_with("WARNING: ") {
        text.to_owned()
    } else {
        format!("WARNING: {text}")
    }
}

fn own_runtime() -> Runtime {
    Runtime {
        path: "ferry".into(),
        ..Runtime::default()
    }
}

fn host_part(host: &HostInfo) -> Info {
    Info {
        memory_limit: has(host, "memory"),
        swap_limit: has(host, "memory"),
        cpu_cfs_period: has(host, "cpu"),
        cpu_cfs_quota: has(host, "cpu"),
        cpu_shares: has(host, "cpu"),
        cpu_set: has(host, "cpuset"),
        pids_limit: has(host, "pids"),
        oom_kill_disable: host.cgroup_version == 1 && has(host, "memory"),
        ipv4_forwarding: true,
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: host.cgroup_version.to_string(),
        kernel_version: host.kernel.clone(),
        architecture: host.machine.clone(),
        security_options: security(host),
        ..Info::default()
    }
}

/// `GET /version`.
pub fn version(release: &Release, host: &HostInfo) -> Version {
    let Release {
        version,
        commit,
        built,
        toolchain,
    } = release;
    let arch = Platform::host().architecture;
    let details = [
        ("ApiVersion", NEWEST.to_string()),
        ("Arch", arch.clone()),
        ("BuildTime", built.clone()),
        ("Experimental", "false".into()),
        ("GitCommit", commit.clone()),
        ("GoVersion", toolchain.clone()),
        ("KernelVersion", host.kernel.clone()),
        ("MinAPIVersion", OLDEST.to_string()),
        ("Os", "linux".into()),
    ];
    Version {
        platform: PlatformName { name: "Ferry".into() },
        version: version.clone(),
        api_version: NEWEST.to_string(),
        min_api_version: OLDEST.to_string(),
        os: "linux".into(),
        arch,
        components: vec![Component {
            name: "Engine".into(),
            version: version.clone(),
            details: details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }],
        git_commit: commit.clone(),
        go_version: toolchain.clone(),
        kernel_version: host.kernel.clone(),
        experimental: false,
        build_time: built.clone(),
    }
}
