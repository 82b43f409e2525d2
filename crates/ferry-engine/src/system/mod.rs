//! The engine as a whole: what it is, what it holds, what its host can do.

use crate::containers::core::Core;
use crate::containers::options::Filter;
use crate::containers::view::{ContainerView, Status};
use crate::images::ImageListOptions;
use crate::kernel::HostInfo;
use crate::volumes::VolumeView;
use crate::{Config, Error, Result, blocking, ids};
use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct System {
    core: Arc<Core>,
    started: SystemTime,
}

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

impl System {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            started: SystemTime::now(),
        }
    }

    /// What the engine is and holds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn info(&self) -> Result<SystemInfo> {
        let core = &self.core;
        let states: Vec<_> = core.table.all().iter().map(|c| c.state().status()).collect();
        let count = |wanted: Status| states.iter().filter(|s| **s == wanted).count();
        let (running, paused) = (count(Status::Running), count(Status::Paused));
        let images = core.images.list(ImageListOptions::default()).await?.len();
        let (of, started) = (Arc::clone(core), self.started);
        let containers = states.len();
        let listeners = core.events.listeners();
        blocking::run("describe the engine", move || -> Result<SystemInfo> {
            let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
            let word = |key: &str| os_release(&release, key);
            Ok(SystemInfo {
                id: engine_id(&of)?,
                name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                containers,
                running,
                paused,
                stopped: containers - running - paused,
                images,
                snapshotter: of.store.layers().name().to_owned(),
                backing_filesystem: file_system(&of.config.data_root),
                memory_total: memory_total(),
                cpus: cpus(),
                operating_system: word("PRETTY_NAME"),
                os_version: word("VERSION_ID"),
                open_fds: entries("/proc/self/fd"),
                tasks: entries("/proc/self/task"),
                event_listeners: listeners,
                started,
                host: of.kernel.host().clone(),
                config: Arc::clone(&of.config),
                warnings: warnings(&of),
                log_drivers: vec!["json-file", "none"],
                volume_drivers: vec!["local"],
                network_drivers: vec!["bridge", "host", "null"],
            })
        })
        .await
    }

    /// What containers and volumes take on the disk.
    ///
    /// # Errors
    /// Where it cannot be measured.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let core = &self.core;
        let filter = Filter {
            all: true,
            size: true,
            ..Filter::default()
        };
        let containers = crate::containers::Containers::new(Arc::clone(core))
            .list(&filter)
            .await?;
        let volumes = core.volumes.usage().await?;
        let store = core.store.clone();
        let usage = blocking::run("measure the store", move || store.usage()).await?;
        Ok(DiskUsage {
            containers,
            volumes,
            layers: usage.blob_bytes + usage.layer_bytes,
        })
    }

    /// What the host offers and what that enables.
    ///
    /// # Errors
    /// None today.
    #[allow(clippy::unused_async)]
    pub async fn check(&self) -> Result<Vec<Facility>> {
        let rows = self.core.kernel.host().facilities.iter();
        Ok(rows
            .map(|(name, (available, enables))| Facility {
                name: name.clone(),
                available: *available,
                enables: enables.clone(),
            })
            .collect())
    }
}

/// Made once for the data root.
fn engine_id(core: &Core) -> Result<String> {
    let path = core.config.data_root.join("engine-id");
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let hex = ids::random()?;
    let part = |at: usize, length: usize| hex.get(at..at + length).unwrap_or_default();
    let id = [part(0, 8), part(8, 4), part(12, 4), part(16, 4), part(20, 12)].join("-");
    fs::write(&path, &id).map_err(|e| Error::internal(format!("writing {}", path.display()), e))?;
    Ok(id)
}

fn os_release(text: &str, key: &str) -> String {
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    value.map_or_else(|| "Linux".into(), |v| v.trim_matches('"').to_owned())
}

fn file_system(path: &std::path::Path) -> String {
    let kind = rustix::fs::statfs(path).map_or(0, |s| s.f_type);
    match kind {
        0xef53 => "extfs",
        0x0102_1994 => "tmpfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlayfs",
        _ => "<unknown>",
    }
    .into()
}

fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| {
        l.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}

fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn warnings(core: &Core) -> Vec<String> {
    let mut all = core.kernel.host().warnings.clone();
    all.extend(core.store.warnings());
    all
}
