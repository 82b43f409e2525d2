//! From what a container is asked to be to the OCI runtime specification, as Docker makes it. Pure.
//!
//! Everything that has to be looked up on the host (devices, volumes, other containers) comes resolved in [`Inputs`].

pub(crate) mod devices;
mod limits;
mod mounts;
mod process;
pub(crate) mod security;

use super::spec::{ContainerSpec, NamespaceMode, NetworkMode, Ulimit};
use crate::Result;
use crate::kernel::HostInfo;
use devices::Devices;
use ferry_oci::runtime::{Linux, Namespace, NamespaceKind, Root, Spec, VERSION};
use std::path::PathBuf;

pub(crate) use limits::{BlockDevices, resources, rlimit as check_ulimit};
pub(crate) use process::exec_process;

/// Everything that decides.
pub(crate) struct Inputs<'a> {
    /// What was asked, image defaults merged, volumes and network settled.
    pub spec: &'a ContainerSpec,
    /// The host.
    pub host: &'a HostInfo,
    /// The cgroup.
    pub cgroup: &'a str,
    /// First processes of the containers whose namespaces are joined.
    pub joins: Joins,
    /// The host name inside; empty where the uts namespace is the host's.
    pub hostname: &'a str,
    /// Mounts by the user and the engine's own files, resolved.
    pub mounts: &'a [ResolvedMount],
    /// Device nodes and rules.
    pub devices: Devices,
    /// Numbers of block devices that limits name.
    pub block: &'a BlockDevices,
    /// The engine's default limits.
    pub default_ulimits: &'a [Ulimit],
    /// Paths hidden by default.
    pub masked: &'a [String],
    /// Environment of legacy links.
    pub link_env: &'a [String],
}

/// First processes of the containers whose namespaces are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joins {
    /// Processes.
    pub pid: Option<i32>,
    /// Inter-process communication.
    pub ipc: Option<i32>,
    /// Network.
    pub network: Option<i32>,
}

/// One mount with everything about it known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedMount {
    /// On the host; `None` for tmpfs.
    pub source: Option<PathBuf>,
    /// Inside.
    pub destination: String,
    /// Whether it can be written.
    pub writable: bool,
    /// For binds: `rprivate` and the like; empty leaves it.
    pub propagation: String,
    /// For binds: without submounts.
    pub non_recursive: bool,
    /// For binds: submounts stay writable.
    pub read_only_non_recursive: bool,
    /// For tmpfs: options.
    pub options: Vec<String>,
}

/// The specification of a container.
pub(crate) fn spec(inputs: &Inputs<'_>) -> Result<Spec> {
    let asked = inputs.spec;
    let security = security::Options::parse(&asked.isolation.security_opt)?;
    let privileged = asked.isolation.privileged;
    let mounts = mounts::mounts(inputs, security.writable_cgroups.unwrap_or(privileged));
    let (masked, read_only) = security::paths(asked, inputs.masked);
    let linux = Linux {
        sysctl: sysctls(asked),
        resources: Some(ferry_oci::runtime::Resources {
            devices: inputs.devices.rules.clone(),
            ..resources(&asked.resources, inputs.block)
        }),
        cgroups_path: inputs.cgroup.to_owned(),
        namespaces: namespaces(inputs),
        devices: inputs.devices.nodes.clone(),
        rootfs_propagation: mounts::root_propagation(inputs.mounts),
        masked_paths: masked,
        readonly_paths: read_only,
        ..Linux::default()
    };
    Ok(Spec {
        oci_version: VERSION.into(),
        process: Some(process::process(inputs, &security)?),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: asked.read_only_root,
        }),
        hostname: inputs.hostname.to_owned(),
        domainname: asked.domainname.clone(),
        mounts,
        hooks: None,
        annotations: asked.annotations.clone(),
        linux: Some(linux),
    })
}

/// New unless shared with the host or another container.
fn namespaces(inputs: &Inputs<'_>) -> Vec<Namespace> {
    let isolation = &inputs.spec.isolation;
    let join = |kind, name: &str, pid: Option<i32>| Namespace {
        kind,
        path: pid.map(|p| format!("/proc/{p}/ns/{name}")),
    };
    let mut all = vec![join(NamespaceKind::Mount, "mnt", None)];
    if inputs.spec.network.mode != NetworkMode::Host {
        all.push(join(NamespaceKind::Network, "net", inputs.joins.network));
    }
    if isolation.uts != NamespaceMode::Host {
        all.push(join(NamespaceKind::Uts, "uts", None));
    }
    if isolation.pid != NamespaceMode::Host {
        all.push(join(NamespaceKind::Pid, "pid", inputs.joins.pid));
    }
    if isolation.ipc != NamespaceMode::Host {
        all.push(join(NamespaceKind::Ipc, "ipc", inputs.joins.ipc));
    }
    if isolation.cgroup == NamespaceMode::Private {
        all.push(join(NamespaceKind::Cgroup, "cgroup", None));
    }
    all
}

/// Ping and low ports without capabilities, in network namespaces of the container's own; the user's come over them.
fn sysctls(asked: &ContainerSpec) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    if !matches!(asked.network.mode, NetworkMode::Host | NetworkMode::Container(_)) {
        all.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
        all.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    }
    all.extend(asked.isolation.sysctls.clone());
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::containers::spec::*;
    use std::sync::LazyLock;

    static HOST: LazyLock<HostInfo> = LazyLock::new(host);
    static BLOCK: LazyLock<BlockDevices> = LazyLock::new(BlockDevices::default);
    static MASKED: LazyLock<Vec<String>> = LazyLock::new(|| vec!["/proc/kcore".to_owned()]);

    pub(crate) fn host() -> HostInfo {
        let capabilities = security::KNOWN
            .iter()
            .filter(|c| **c != "CAP_SYS_RESOURCE")
            .map(|c| (*c).into())
            .collect();
        HostInfo {
            cgroup_version: 1,
            capabilities,
            ..HostInfo::default()
        }
    }

    pub(crate) fn compiled<'a>(
        asked: &'a ContainerSpec,
        change: impl FnOnce(&mut Inputs<'a>),
    ) -> Result<Spec> {
        let devices = Devices {
            nodes: Vec::new(),
            rules: devices::default_rules(),
        };
        let mut inputs = Inputs {
            spec: asked,
            host: &HOST,
            cgroup: "/ferry/0123",
            joins: Joins::default(),
            hostname: "0123456789ab",
            mounts: &[],
            devices,
            block: &BLOCK,
            default_ulimits: &[],
            masked: &MASKED,
            link_env: &[],
        };
        change(&mut inputs);
        spec(&inputs)
    }

    pub(crate) fn asked() -> ContainerSpec {
        ContainerSpec {
            process: ProcessSpec {
                cmd: Some(vec!["sh".into()]),
                ..ProcessSpec::default()
            },
            shm_size: 64 << 20,
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn the_golden_default() {
        let text = serde_json::to_string_pretty(&compiled(&asked(), |_| {}).unwrap()).unwrap();
        let golden = include_str!("golden_default.json");
        assert_eq!(text.trim(), golden.trim(), "\n{text}");
    }

    #[test]
    fn shared_namespaces_are_left_out_or_joined() {
        let mut spec = asked();
        spec.isolation.pid = NamespaceMode::Host;
        spec.isolation.ipc = NamespaceMode::Container("x".into());
        spec.isolation.cgroup = NamespaceMode::Private;
        spec.network.mode = NetworkMode::Host;
        let made = compiled(&spec, |i| i.joins.ipc = Some(42)).unwrap();
        let names: Vec<_> = made
            .linux
            .as_ref()
            .unwrap()
            .namespaces
            .iter()
            .map(|n| (n.kind, n.path.clone()))
            .collect();
        let want = [
            (NamespaceKind::Mount, None),
            (NamespaceKind::Uts, None),
            (NamespaceKind::Ipc, Some("/proc/42/ns/ipc".to_owned())),
            (NamespaceKind::Cgroup, None),
        ];
        assert_eq!(names, want);
        assert!(made.linux.unwrap().sysctl.is_empty());
        assert!(
            made.mounts
                .iter()
                .all(|m| m.destination != "/dev/shm" || m.kind == "bind")
        );
    }

    #[test]
    fn the_users_sysctls_come_over_the_defaults() {
        let mut spec = asked();
        spec.isolation
            .sysctls
            .insert("net.ipv4.ip_unprivileged_port_start".into(), "1024".into());
        let sysctl = compiled(&spec, |_| {}).unwrap().linux.unwrap().sysctl;
        assert_eq!(sysctl["net.ipv4.ip_unprivileged_port_start"], "1024");
        assert_eq!(sysctl["net.ipv4.ping_group_range"], "0 2147483647");
    }
}
