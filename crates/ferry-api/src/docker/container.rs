//! Containers as they are told of.

use super::config::Config;
use super::hostconfig::{HostConfig, PortMap};
use super::is_zero;
use super::network::EndpointSettings;
use super::time::Time;
use ferry_oci::image::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One check's result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// 0 is healthy.
    pub exit_code: i64,
    /// What it printed.
    pub output: String,
}

/// Health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last results.
    pub log: Option<Vec<HealthcheckResult>>,
}

/// State.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Running, paused or restarting.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// About to be started again.
    pub restarting: bool,
    /// Killed for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed whole.
    pub dead: bool,
    /// First process; 0 when none.
    pub pid: i64,
    /// Of the last end.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// Last start.
    pub started_at: Time,
    /// Last end.
    pub finished_at: Time,
    /// Where a check is defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// A mount in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// A volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host.
    pub source: String,
    /// Inside.
    pub destination: String,
    /// A volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Mode words.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate` and the like.
    pub propagation: String,
}

/// Network state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// Sandbox id.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    #[serde(rename = "SandboxKey")]
    pub sandbox_key: String,
    /// Ports in force.
    #[serde(rename = "Ports")]
    pub ports: PortMap,
    /// Endpoints by network.
    #[serde(rename = "Networks")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A storage driver's name and data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverData {
    /// Paths and the like; `null` where none are told.
    pub data: Option<BTreeMap<String, String>>,
    /// Driver.
    pub name: String,
}

/// A snapshotter by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Snapshotter.
    #[serde(rename = "Name")]
    pub name: String,
}

/// The root's storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFsStorage {
    /// Snapshotter.
    #[serde(rename = "Snapshot", skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// The root's.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFsStorage>,
}

/// `GET /containers/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State.
    pub state: State,
    /// Image id.
    pub image: String,
    /// On the host.
    pub resolv_conf_path: String,
    /// On the host.
    pub hostname_path: String,
    /// On the host.
    pub hosts_path: String,
    /// On the host.
    pub log_path: String,
    /// With a slash.
    pub name: String,
    /// By its policy.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux.
    pub mount_label: String,
    /// SELinux.
    pub process_label: String,
    /// AppArmor.
    pub app_armor_profile: String,
    /// Running execs.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// As asked.
    pub host_config: HostConfig,
    /// Storage of versions before 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes of its own layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Bytes of all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// In force.
    pub mounts: Vec<MountPoint>,
    /// As asked, image merged.
    pub config: Config,
    /// Network.
    pub network_settings: NetworkSettings,
    /// The manifest it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// A port in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortSummary {
    /// Host address, empty for one that is only exposed.
    #[serde(rename = "IP")]
    pub ip: String,
    /// Inside.
    pub private_port: u16,
    /// On the host.
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// `tcp`.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// Of its `HostConfig`, in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// Network mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Health, in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthSummary {
    /// `none` where no check is defined.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// Endpoints, in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    /// By network.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// One row of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// Id.
    pub id: String,
    /// With slashes.
    pub names: Vec<String>,
    /// The image as named, or its id when the name has moved on.
    pub image: String,
    /// Image id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The manifest it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    /// Program and arguments.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Ports.
    pub ports: Vec<PortSummary>,
    /// Bytes, where asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: u64,
    /// Bytes, where asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// State.
    pub state: String,
    /// A sentence.
    pub status: String,
    /// A part of it.
    pub host_config: SummaryHostConfig,
    /// Health; from 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Endpoints.
    pub network_settings: SummaryNetworkSettings,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
}

/// One row of `GET /containers/{id}/changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Change {
    /// Inside.
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}

/// `GET /containers/{id}/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Top {
    /// Rows.
    pub processes: Vec<Vec<String>>,
    /// Column heads.
    pub titles: Vec<String>,
}

/// Why a wait has no exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    /// The sentence.
    pub message: String,
}

/// `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    /// Exit code.
    pub status_code: i64,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// `POST /containers/{id}/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    /// What was asked for and is not quite had.
    pub warnings: Option<Vec<String>>,
}

/// `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    /// Ids.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
