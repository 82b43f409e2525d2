//! The engine as a whole: what it is, what it holds, what its host can do.

use crate::containers::view::ContainerView;
use crate::kernel::HostInfo;
use crate::volumes::VolumeView;
use crate::{Config, Error, Result};
use std::sync::Arc;
use std::time::SystemTime;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct System {}

/// `info`.
#[derive(Clone, Debug)]
pub struct SystemInfo {
    /// The engine's own id, made once for its data root.
    pub id: String,
    /// The host's name.
    pub name: String,
    /// Containers in all.
    pub containers: usize,
    /// Running ones.
    pub running: usize,
    /// Paused ones.
    pub paused: usize,
    /// The others.
    pub stopped: usize,
    /// Images in all.
    pub images: usize,
    /// `overlay`.
    pub snapshotter: String,
    /// The file system below the data root: `extfs`, `tmpfs`, …
    pub backing_filesystem: String,
    /// Bytes of memory of the machine.
    pub memory_total: u64,
    /// Processors.
    pub cpus: u32,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Open descriptors of the engine.
    pub open_fds: usize,
    /// Tasks of the engine.
    pub tasks: usize,
    /// Clients of the events.
    pub event_listeners: usize,
    /// When the engine came up.
    pub started: SystemTime,
    /// The host.
    pub host: HostInfo,
    /// The configuration, to be told again.
    pub config: Arc<Config>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// Log drivers.
    pub log_drivers: Vec<&'static str>,
    /// Volume drivers.
    pub volume_drivers: Vec<&'static str>,
    /// Network drivers.
    pub network_drivers: Vec<&'static str>,
}

/// `system df`, but for images, which their own service tells.
#[derive(Clone, Debug)]
pub struct DiskUsage {
    /// Containers with the sizes of their layers.
    pub containers: Vec<ContainerView>,
    /// Volumes with their sizes.
    pub volumes: Vec<VolumeView>,
    /// Bytes of all layers of images, each counted once.
    pub layers: u64,
}

/// One thing that the host offers or lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facility {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub available: bool,
    /// What it enables.
    pub enables: String,
}

#[allow(missing_docs, clippy::unused_async)]
impl System {
    pub async fn info(&self) -> Result<SystemInfo> {
        Err(Error::unsupported("being written"))
    }
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        Err(Error::unsupported("being written"))
    }
    pub async fn check(&self) -> Result<Vec<Facility>> {
        Err(Error::unsupported("being written"))
    }
}
