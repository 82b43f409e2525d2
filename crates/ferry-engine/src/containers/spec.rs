//! What a container is asked to be: the domain's one shape, into which every front-end converts.
//!
//! Units are in the field's docs. An empty list or string means "not asked"; where that differs from "asked to be empty",
//! the field is an `Option`. Everything here is stored in the container's record and is what `inspect` tells again.

use ferry_oci::Digest;
use ferry_oci::image::Healthcheck;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything that was asked of one container at `create`, the image's defaults already merged in where Docker does so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the user named it (`busybox`, `busybox:1`, an id).
    pub image: String,
    /// The program and how it runs.
    pub process: ProcessSpec,
    /// Names, labels and life cycle.
    pub labels: BTreeMap<String, String>,
    /// OCI annotations given by the user.
    pub annotations: BTreeMap<String, String>,
    /// Host name; empty means the first twelve digits of the id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// The signal that `stop` sends; empty means SIGTERM.
    pub stop_signal: String,
    /// Seconds that `stop` waits; `None` means 10, negative means for ever.
    pub stop_timeout: Option<i64>,
    /// The health check, after merging with the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Ports that are exposed: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths that become anonymous volumes (the request's and the image's).
    pub volumes: Vec<String>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Where its output goes.
    pub log: LogConfig,
    /// Namespaces and security.
    pub isolation: Isolation,
    /// Limits.
    pub resources: Resources,
    /// Volumes, binds, tmpfs.
    pub mounts: Vec<MountSpec>,
    /// Binds in Docker's `-v` spelling, verbatim, as `inspect` shows them.
    pub binds: Vec<String>,
    /// Containers whose volumes are mounted too: `name[:ro|:rw]`.
    pub volumes_from: Vec<String>,
    /// tmpfs mounts in `--tmpfs` spelling: path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// Network mode and endpoints.
    pub network: NetworkSpec,
    /// Whether the root is read-only.
    pub read_only_root: bool,
    /// Storage options (`size`); refused by name where the store cannot.
    pub storage_opt: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`; 0 means 64 MiB.
    pub shm_size: i64,
    /// The name of the OCI runtime; empty means Ferry's own.
    pub runtime: String,
    /// The volume driver of unnamed drivers.
    pub volume_driver: String,
    /// The size of the caller's terminal, rows and columns.
    pub console_size: [u16; 2],
    /// Where the container's id is written by the client; only told again.
    pub container_id_file: String,
    /// Legacy links: `name:alias`.
    pub links: Vec<String>,
}

/// The first process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// Entrypoint; `None` where neither the request nor the image has one.
    pub entrypoint: Option<Vec<String>>,
    /// Command; `None` where neither the request nor the image has one.
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`, or a bare `NAME` that removes it.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub working_dir: String,
    /// `user[:group]`; empty means root.
    pub user: String,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// Standard input is closed when the first attached client goes.
    pub stdin_once: bool,
    /// Which streams the creating client attaches; only told again.
    pub attach_stdin: bool,
    /// Likewise.
    pub attach_stdout: bool,
    /// Likewise.
    pub attach_stderr: bool,
    /// The shell of shell-form commands; only told again.
    pub shell: Option<Vec<String>>,
    /// Told again only.
    pub on_build: Option<Vec<String>>,
    /// Told again only.
    pub args_escaped: bool,
}

/// What happens when the container ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// Started again, and at the engine's start.
    Always,
    /// The same unless it was stopped by hand.
    UnlessStopped,
    /// Started again after a failure, at most `max` times (0: no bound).
    OnFailure {
        /// How many times.
        max: u32,
    },
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `none`; empty means the engine's default.
    pub driver: String,
    /// Driver options: `max-size`, `max-file`, `labels`, `env`, `tag`, `mode`, …
    pub options: BTreeMap<String, String>,
}

/// A namespace asked for by mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The engine's default for this kind.
    #[default]
    Default,
    /// One of its own.
    Private,
    /// The host's.
    Host,
    /// Another container's, by name or id as the user gave it.
    Container(String),
    /// An own one that others may join (ipc).
    Shareable,
    /// None at all (ipc: own namespace without `/dev/shm`).
    None,
}

/// Namespaces and security.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// Processes.
    pub pid: NamespaceMode,
    /// System V and POSIX ipc.
    pub ipc: NamespaceMode,
    /// Host name.
    pub uts: NamespaceMode,
    /// cgroup namespace.
    pub cgroup: NamespaceMode,
    /// User namespace: only `Default` and `Host` so far.
    pub user: NamespaceMode,
    /// All of it off.
    pub privileged: bool,
    /// Capabilities added, normalised to `CAP_…` or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// `seccomp=…`, `no-new-privileges`, `apparmor=…`, `label=…`, `systempaths=unconfined`, verbatim.
    pub security_opt: Vec<String>,
    /// Contents of the seccomp profile when `seccomp=` named one (clients send the JSON itself).
    pub seccomp_profile: Option<String>,
    /// Masked paths; `None` means the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths; `None` means the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// Whether an init reaps in the container; `None` means the engine's default.
    pub init: Option<bool>,
    /// Written to `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Parent cgroup; empty means the engine's.
    pub cgroup_parent: String,
}

/// Limits. 0 or empty means none unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes, soft.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 unlimited, 0 default (twice the memory).
    pub memory_swap: i64,
    /// 0 to 100; `None` inherits.
    pub memory_swappiness: Option<i64>,
    /// The oom killer off (v1).
    pub oom_kill_disable: Option<bool>,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Relative weight.
    pub cpu_shares: i64,
    /// µs.
    pub cpu_period: i64,
    /// µs per period.
    pub cpu_quota: i64,
    /// µs.
    pub cpu_realtime_period: i64,
    /// µs.
    pub cpu_realtime_runtime: i64,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Node list.
    pub cpuset_mems: String,
    /// Tasks; `None` is the engine's default, 0 or negative is unlimited.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device path.
    pub blkio_weight_device: Vec<(String, u16)>,
    /// Bytes a second, by device path.
    pub blkio_read_bps: Vec<(String, u64)>,
    /// Bytes a second.
    pub blkio_write_bps: Vec<(String, u64)>,
    /// Operations a second.
    pub blkio_read_iops: Vec<(String, u64)>,
    /// Operations a second.
    pub blkio_write_iops: Vec<(String, u64)>,
    /// Resource limits: name without `RLIMIT_`, soft, hard.
    pub ulimits: Vec<Ulimit>,
    /// Devices given.
    pub devices: Vec<DeviceMapping>,
    /// Rules in v1 spelling: `c 42:* rmw`.
    pub device_cgroup_rules: Vec<String>,
}

/// One `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile` and the like.
    pub name: String,
    /// The soft limit; -1 is unlimited.
    pub soft: i64,
    /// The hard limit; -1 is unlimited.
    pub hard: i64,
}

/// One `--device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// On the host: a node or a directory of nodes.
    pub host: String,
    /// Inside.
    pub container: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A host path.
    Bind,
    /// A named or anonymous volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// One mount, from `-v`, `--mount` or an image's volume list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What.
    pub kind: MountKind,
    /// Host path or volume name; empty for tmpfs and anonymous volumes.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// Bind: `rprivate`, `rslave`, …; empty means `rprivate`.
    pub propagation: String,
    /// Bind: the source's submounts are left out.
    pub non_recursive: bool,
    /// Bind: the read-only flag does not reach submounts.
    pub read_only_non_recursive: bool,
    /// Bind: fail unless the submounts can be made read-only.
    pub read_only_force_recursive: bool,
    /// Bind: the source is made as a directory when it is missing (`-v` does, `--mount` does not).
    pub create_source: bool,
    /// Volume: no copy of the image's content into an empty volume.
    pub no_copy: bool,
    /// Volume: a path below the volume.
    pub subpath: String,
    /// Volume: driver and its options when the volume is made.
    pub volume_driver: String,
    /// Volume: options when it is made.
    pub volume_options: BTreeMap<String, String>,
    /// Volume: labels when it is made.
    pub volume_labels: BTreeMap<String, String>,
    /// tmpfs: bytes; 0 means the kernel's default.
    pub tmpfs_size: i64,
    /// tmpfs: permission bits; 0 means 1777.
    pub tmpfs_mode: u32,
    /// tmpfs: further options.
    pub tmpfs_options: Vec<String>,
    /// Mode words of `-v` as the user gave them (`ro,z`), told again as `Mode`.
    pub mode: String,
    /// Whether it came through `--mount` (`HostConfig.Mounts`) and is told again there.
    pub from_mounts: bool,
}

/// Network mode and endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// The mode.
    pub mode: NetworkMode,
    /// The mode as the user wrote it (`default`, `bridge`, a network's name), told again.
    pub mode_text: String,
    /// Endpoint settings by network name as given at create.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Every exposed port published at a free host port.
    pub publish_all: bool,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// resolv.conf options.
    pub dns_options: Vec<String>,
    /// `name:ip`, ip may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Container-wide MAC address (API below 1.44).
    pub mac_address: String,
}

/// The network mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Bridge,
    /// The host's stack.
    Host,
    /// Loopback only.
    None,
    /// Another container's stack.
    Container(String),
    /// A user-defined network by name or id.
    Network(String),
}

/// One endpoint's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// Further names.
    pub aliases: Vec<String>,
    /// Legacy links.
    pub links: Vec<String>,
    /// A fixed IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// A fixed IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// A fixed MAC address.
    pub mac_address: String,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Priority as the default gateway.
    pub gw_priority: i64,
}

/// One published port as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Inside.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Empty means every address.
    pub host_ip: String,
    /// First and last host port; 0 means a free one.
    pub host_ports: (u16, u16),
}

/// An exec in a running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub cmd: Vec<String>,
    /// Added to the container's.
    pub env: Vec<String>,
    /// Empty means the container's.
    pub working_dir: String,
    /// Empty means the container's.
    pub user: String,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Attached streams.
    pub attach_stdin: bool,
    /// Attached streams.
    pub attach_stdout: bool,
    /// Attached streams.
    pub attach_stderr: bool,
    /// All capabilities.
    pub privileged: bool,
    /// The detach sequence; empty means ctrl-p,ctrl-q.
    pub detach_keys: String,
    /// Rows and columns of a new terminal.
    pub console_size: [u16; 2],
}

/// Which image a container was made from, fixed at create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// The image's id as `docker images --no-trunc` shows it: the target descriptor's digest (index or manifest).
    pub id: Digest,
    /// The manifest of the chosen platform.
    pub manifest: Digest,
    /// The layers' diffIDs, lowest first.
    pub layers: Vec<Digest>,
    /// `linux/amd64`.
    pub platform: String,
}
