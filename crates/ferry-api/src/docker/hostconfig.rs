//! `HostConfig`: how a container is confined, published and restarted.

use super::is_zero;
use super::mount::Mount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// The driver.
    #[serde(rename = "Type")]
    pub driver: String,
    /// Its options.
    #[serde(rename = "Config")]
    pub config: Option<BTreeMap<String, String>>,
}

/// What happens at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Of `on-failure`.
    pub maximum_retry_count: i64,
}

/// Where a published port is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// Address; empty means every one.
    pub host_ip: String,
    /// Port or range; empty means a free one.
    pub host_port: String,
}

/// `80/tcp` to its bindings; `null` for one that is only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// A weight by device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Device node.
    pub path: String,
    /// Weight.
    pub weight: u16,
}

/// A rate by device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Device node.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// A device given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// On the host.
    pub path_on_host: String,
    /// Inside.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// A device asked of a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// The driver.
    #[serde(rename = "Driver")]
    pub driver: String,
    /// How many; -1 is all.
    #[serde(rename = "Count")]
    pub count: i64,
    /// Which.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// What they can.
    #[serde(rename = "Capabilities")]
    pub capabilities: Option<Vec<Vec<String>>>,
    /// For the driver.
    #[serde(rename = "Options")]
    pub options: Option<BTreeMap<String, String>>,
}

/// A resource limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// Without `RLIMIT_`.
    pub name: String,
    /// Hard; -1 is unlimited.
    pub hard: i64,
    /// Soft.
    pub soft: i64,
}

/// How a container is confined. Also the body of `POST /containers/{id}/update`, where only limits and policy count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    /// `-v` spellings.
    pub binds: Option<Vec<String>>,
    /// Where the client wrote the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output goes.
    pub log_config: LogConfig,
    /// Network mode.
    pub network_mode: String,
    /// Published ports.
    pub port_bindings: Option<PortMap>,
    /// Restart policy.
    pub restart_policy: RestartPolicy,
    /// Removed at its end.
    pub auto_remove: bool,
    /// Driver of volumes that name none.
    pub volume_driver: String,
    /// Containers whose volumes are mounted too.
    pub volumes_from: Option<Vec<String>>,
    /// Rows and columns.
    pub console_size: [u32; 2],
    /// OCI annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Capabilities added.
    #[serde(deserialize_with = "super::decode::words")]
    pub cap_add: Option<Vec<String>>,
    /// Capabilities dropped.
    #[serde(deserialize_with = "super::decode::words")]
    pub cap_drop: Option<Vec<String>>,
    /// The exact list of capabilities, which only version 1.40 had; refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// cgroup namespace.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// resolv.conf options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:ip`.
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups.
    pub group_add: Option<Vec<String>>,
    /// ipc namespace.
    pub ipc_mode: String,
    /// cgroup of another container; refused.
    pub cgroup: String,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// `oom_score_adj`.
    pub oom_score_adj: i64,
    /// pid namespace.
    pub pid_mode: String,
    /// All of it off.
    pub privileged: bool,
    /// Every exposed port published.
    pub publish_all_ports: bool,
    /// Read-only root.
    pub readonly_rootfs: bool,
    /// `seccomp=…` and the like.
    pub security_opt: Option<Vec<String>>,
    /// Storage options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// `--tmpfs` spellings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// uts namespace.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// User namespace.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// OCI runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes a second.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes a second.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// µs.
    pub cpu_period: i64,
    /// µs.
    pub cpu_quota: i64,
    /// µs.
    pub cpu_realtime_period: i64,
    /// µs.
    pub cpu_realtime_runtime: i64,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Node list.
    pub cpuset_mems: String,
    /// Devices given.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Device rules.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices asked of drivers; refused.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Kernel memory, gone from Linux and from the API; refused when set.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_memory: i64,
    /// Kernel TCP memory, likewise.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero")]
    pub kernel_memory_tcp: i64,
    /// Bytes.
    pub memory_reservation: i64,
    /// Bytes.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// oom killer off.
    pub oom_kill_disable: Option<bool>,
    /// Tasks.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// `--mount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Masked paths.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths.
    pub readonly_paths: Option<Vec<String>>,
    /// An init reaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

impl HostConfig {
    /// Whether a field that means something on Windows alone is set, and which.
    pub fn windows_field(&self) -> Option<&'static str> {
        let fields = [
            (self.cpu_count != 0, "CpuCount"),
            (self.cpu_percent != 0, "CpuPercent"),
            (self.io_maximum_iops != 0, "IOMaximumIOps"),
            (self.io_maximum_bandwidth != 0, "IOMaximumBandwidth"),
            (!matches!(self.isolation.as_str(), "" | "default"), "Isolation"),
        ];
        fields.into_iter().find(|(set, _)| *set).map(|(_, name)| name)
    }
}
