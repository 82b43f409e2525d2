//! What the command line remembers of a container.
//!
//! On disk: `<root>/<id>/{state.json,config.json,gate,reports}`, directories 0700 (R13). `gate` and `reports` are the FIFOs
//! of a container that was created and not started; `start` removes them. `state.json` is written last and renamed in: a directory without
//! it is a `create` that failed half-way, and `delete --force` removes it.

use super::{Context, Failure};
use ferry_oci::runtime::Spec;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: tells a process from a later one of the same number.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    pub cgroup: String,
}

/// The specification's states, and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's directory.
pub(super) struct Place {
    pub directory: PathBuf,
}

impl Place {
    /// Checks the id, which becomes a file's name.
    pub fn of(context: &Context, id: &str) -> Result<Place, Failure> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() || id.len() > 1024 || !id.chars().all(allowed) || id == "." || id == ".." {
            return Err(Failure::new(format!("invalid container ID format: {id:?}")));
        }
        Ok(Place {
            directory: context.root.join(id),
        })
    }

    /// Makes the directory; it must not be there.
    pub fn make(context: &Context, id: &str) -> Result<Place, Failure> {
        let place = Place::of(context, id)?;
        let build =
            |recursive: bool, path: &Path| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
        let made = build(false, &place.directory).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                build(true, &context.root).and_then(|()| build(false, &place.directory))
            }
            _ => Err(error),
        });
        match made {
            Ok(()) => Ok(place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::new("container with given ID already exists"))
            }
            Err(error) => Err(Failure::about(
                &format!("cannot make {}", place.directory.display()),
                error,
            )),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whole or not at all; on tmpfs, so without waiting for a disk.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        write_file(&self.path(name), bytes)
            .map_err(|e| Failure::about(&format!("cannot write {}", self.path(name).display()), e))
    }

    pub fn remember(&self, record: &Record) -> Result<(), Failure> {
        let text = serde_json::to_vec(record).map_err(|e| Failure::about("cannot write the state", e))?;
        self.write("state.json.new", &text)?;
        fs::rename(self.path("state.json.new"), self.path("state.json"))
            .map_err(|e| Failure::about("cannot write the state", e))
    }

    pub fn record(&self) -> Result<Record, Failure> {
        let text = match fs::read(self.path("state.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::new("container does not exist"));
            }
            Err(error) => return Err(Failure::about("cannot read the state", error)),
        };
        serde_json::from_slice(&text).map_err(|e| Failure::about("the container's state is damaged", e))
    }

    /// The specification as it was when the container was made.
    pub fn spec(&self) -> Result<Spec, Failure> {
        read_spec(&self.path("config.json"))
    }

    pub fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::about(
                &format!("cannot remove {}", self.directory.display()),
                error,
            )),
            _ => Ok(()),
        }
    }
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}

/// At most so much of a `config.json` is read.
const MAX_SPEC: u64 = 16 << 20;

pub(super) fn read_spec(path: &Path) -> Result<Spec, Failure> {
    let length = fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    if length > MAX_SPEC {
        return Err(Failure::new(format!(
            "{} is longer than {MAX_SPEC} bytes",
            path.display()
        )));
    }
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "JSON specification file {} not found",
                path.display()
            )));
        }
        Err(error) => return Err(Failure::about(&format!("cannot read {}", path.display()), error)),
    };
    serde_json::from_slice(&text)
        .map_err(|e| Failure::about(&format!("{} is not a specification", path.display()), e))
}

/// Field 22 of `/proc/PID/stat`; None when there is no such process or it is a zombie.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    match fields.first() {
        Some(&("Z" | "X")) | None => None,
        Some(_) => fields.get(19)?.parse().ok(),
    }
}

impl Record {
    /// The container's first process, when it is alive and the same.
    pub fn process(&self) -> Option<OwnedFd> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // In this order: the number cannot be given to another process while the first look was wrong.
        (start_time(self.pid)? == self.start_time).then_some(pidfd)
    }

    pub fn status(&self, place: &Place) -> Status {
        if self.process().is_none() {
            return Status::Stopped;
        }
        if place.path("gate").exists() {
            return Status::Created;
        }
        let frozen = self
            .group()
            .ok()
            .and_then(|group| group.frozen().ok())
            .unwrap_or(false);
        if frozen { Status::Paused } else { Status::Running }
    }

    pub fn group(&self) -> Result<crate::cgroup::Group, Failure> {
        let layout =
            crate::cgroup::Layout::detect().map_err(|e| Failure::about("cannot look at cgroups", e))?;
        crate::cgroup::Group::open(&layout, &self.cgroup).map_err(|e| Failure::new(e.to_string()))
    }
}
