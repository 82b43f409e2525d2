//! What the engine tells of containers: snapshots that no lock holds.

use super::spec::{ContainerSpec, ExecSpec, ImageIdentity};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Where a container stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Made, never started.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended, and about to be started again by its policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed whole; removal can be asked again.
    Dead,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it stands.
    pub status: Status,
    /// The first process, as the host sees it; 0 when none.
    pub pid: i32,
    /// Of the last end.
    pub exit_code: i32,
    /// Why the last start failed, or what is known of a lost shim; else empty.
    pub error: String,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// When it last started.
    pub started_at: Option<SystemTime>,
    /// When it last ended.
    pub finished_at: Option<SystemTime>,
    /// Health, where a check is defined.
    pub health: Option<Health>,
}

/// Health of a container that has a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five results.
    pub log: Vec<HealthResult>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthResult {
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// 0 healthy, 1 unhealthy.
    pub exit_code: i32,
    /// Up to 4096 bytes.
    pub output: String,
}

/// One container, whole.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Sixty-four hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// What was asked, image defaults merged.
    pub spec: Arc<ContainerSpec>,
    /// From which image.
    pub image: ImageIdentity,
    /// Where it stands.
    pub state: State,
    /// What is mounted, volumes resolved.
    pub mounts: Vec<MountPoint>,
    /// Its endpoints, by network.
    pub endpoints: Vec<EndpointView>,
    /// Published ports in force.
    pub ports: Vec<PublishedPort>,
    /// How often its policy started it again.
    pub restart_count: u32,
    /// Whether it was stopped by hand.
    pub manually_stopped: bool,
    /// The program as executed.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Paths of its files on the host.
    pub files: FilePaths,
    /// Execs that run, by id.
    pub execs: Vec<String>,
    /// Bytes of its own layer and of all layers, where asked for.
    pub size: Option<(u64, u64)>,
    /// The effective limits as set in the cgroup path.
    pub cgroup_path: String,
    /// The network sandbox: id and path of the namespace (`/proc/<pid>/ns/net`), empty when not running.
    pub sandbox: (String, String),
}

/// Paths of a container's files on the host; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePaths {
    /// The log.
    pub log: String,
    /// `/etc/hostname`.
    pub hostname: String,
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Overlay: lower directories, newest first.
    pub lowers: Vec<String>,
    /// Overlay: upper directory.
    pub upper: String,
    /// Overlay: work directory.
    pub work: String,
}

/// One mount in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: super::spec::MountKind,
    /// The volume's name.
    pub name: String,
    /// On the host.
    pub source: String,
    /// Inside.
    pub destination: String,
    /// The volume's driver.
    pub driver: String,
    /// Mode words.
    pub mode: String,
    /// Writable.
    pub writable: bool,
    /// `rprivate` and the like.
    pub propagation: String,
}

/// One endpoint in force, or what a stopped container will have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// The endpoint's id; empty when not running.
    pub endpoint_id: String,
    /// Address and prefix length.
    pub ipv4: Option<(IpAddr, u8)>,
    /// Address and prefix length.
    pub ipv6: Option<(IpAddr, u8)>,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Gateway.
    pub gateway6: Option<IpAddr>,
    /// MAC address.
    pub mac: String,
    /// Names it answers to.
    pub aliases: Vec<String>,
    /// All names in DNS.
    pub dns_names: Vec<String>,
}

/// A published port in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Inside.
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// On the host; `None` for a port that is only exposed.
    pub host: Option<(IpAddr, u16)>,
}

/// One exec.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Its id.
    pub id: String,
    /// Of which container.
    pub container_id: String,
    /// What was asked.
    pub spec: Arc<ExecSpec>,
    /// Whether it runs.
    pub running: bool,
    /// Once it ended.
    pub exit_code: Option<i32>,
    /// As the host sees it; 0 when none.
    pub pid: i32,
    /// Whether its stdin, stdout, stderr are open.
    pub can_remove: bool,
}

/// What a start or stop waits for, `wait`'s condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Now, if it does not run.
    #[default]
    NotRunning,
    /// The next end.
    NextExit,
    /// Until it is gone.
    Removed,
}

/// `wait`'s answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitResult {
    /// The exit code.
    pub code: i32,
    /// Why there is none.
    pub error: Option<String>,
}

/// One change to the file system: `diff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute path inside.
    pub path: String,
    /// `C` changed, `A` added, `D` deleted.
    pub kind: char,
}

/// `top`'s answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Column heads.
    pub titles: Vec<String>,
    /// Rows.
    pub processes: Vec<Vec<String>>,
}
