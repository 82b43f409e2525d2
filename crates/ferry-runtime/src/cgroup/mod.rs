//! cgroups: limits and meters for one container, on v1, hybrid and v2 machines.
//!
//! [`Layout`] says what is mounted where; [`Group`] is one cgroup in all hierarchies at once. Controllers are rows of
//! `CONTROLLERS`, one file each, with two pure halves: `knobs` turns the specification's resources into files and
//! values, `stats` reads meters. Everything goes through directory fds that [`Layout`] opened, so a process whose mount
//! namespace has no `/sys/fs/cgroup` can still use them.
//!
//! A limit that this kernel cannot do is [`CgroupError::Unsupported`], by its name in the specification; nothing is
//! skipped in silence. Never here: moving another process (a child joins by itself), and systemd's scopes.

use crate::cgroup::tree::Dir;
use ferry_oci::runtime::Resources;
use std::fmt;
use std::io;

mod blkio;
mod cpu;
mod cpuset;
mod device_program;
pub mod devices;
mod freezer;
mod group;
mod hugetlb;
mod layout;
mod memory;
mod network;
mod oom;
mod pids;
mod rdma;
pub mod stats;
mod tree;
mod unified;

pub use group::Group;
pub use layout::{Hierarchy, Layout, Mode, Support};
pub use stats::Stats;

/// The interface of one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One tree a controller (cgroup-v1/cgroups.rst).
    V1,
    /// The unified tree (cgroup-v2.rst).
    V2,
}

/// A controller, by v1's names; `Blkio` is v2's `io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// CPU metering (part of `cpu` on v2).
    Cpuacct,
    /// CPU and memory-node placement.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Tasks.
    Pids,
    /// Disks; `io` on v2.
    Blkio,
    /// Device nodes; a BPF program on v2.
    Devices,
    /// Stopping all tasks; part of the core on v2.
    Freezer,
    /// Huge pages.
    Hugetlb,
    /// Class marks on packets, v1 only.
    NetCls,
    /// Priorities of packets, v1 only.
    NetPrio,
    /// perf's grouping; has no limits.
    PerfEvent,
    /// RDMA handles and objects.
    Rdma,
    /// Scalar resources; has no limit in the specification.
    Misc,
}

impl Controller {
    /// The name in `/proc/self/cgroup` and in mount options (v1), or in `cgroup.controllers` (v2).
    pub fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Cpu, _) => "cpu",
            (Controller::Cpuacct, _) => "cpuacct",
            (Controller::Cpuset, _) => "cpuset",
            (Controller::Memory, _) => "memory",
            (Controller::Pids, _) => "pids",
            (Controller::Blkio, Version::V1) => "blkio",
            (Controller::Blkio, Version::V2) => "io",
            (Controller::Devices, _) => "devices",
            (Controller::Freezer, _) => "freezer",
            (Controller::Hugetlb, _) => "hugetlb",
            (Controller::NetCls, _) => "net_cls",
            (Controller::NetPrio, _) => "net_prio",
            (Controller::PerfEvent, _) => "perf_event",
            (Controller::Rdma, _) => "rdma",
            (Controller::Misc, _) => "misc",
        }
    }

    /// The controller of that name, if this module knows it.
    pub fn parse(name: &str, version: Version) -> Option<Controller> {
        ALL.iter().copied().find(|c| c.name(version) == name)
    }
}

const ALL: [Controller; 14] = [
    Controller::Cpu,
    Controller::Cpuacct,
    Controller::Cpuset,
    Controller::Memory,
    Controller::Pids,
    Controller::Blkio,
    Controller::Devices,
    Controller::Freezer,
    Controller::Hugetlb,
    Controller::NetCls,
    Controller::NetPrio,
    Controller::PerfEvent,
    Controller::Rdma,
    Controller::Misc,
];

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Knob {
    /// The field's name in the specification, for messages: `memory.limit`.
    pub field: &'static str,
    /// The file in the cgroup's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Whether a new cgroup has this value anyway, so that creating skips it.
    pub initial: bool,
}

impl Knob {
    pub(crate) fn new(field: &'static str, file: impl Into<String>, value: impl Into<String>) -> Knob {
        Knob {
            field,
            file: file.into(),
            value: value.into(),
            initial: false,
        }
    }

    pub(crate) fn initial_if(mut self, initial: bool) -> Knob {
        self.initial = initial;
        self
    }
}

/// Whether the cgroup is new or in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing runs in it, and every file has the kernel's initial value.
    Create,
    /// A container runs in it.
    Update,
}

/// What a controller's file offers.
pub(crate) struct ControllerRow {
    pub controller: Controller,
    /// Pure: which values the resources ask for.
    pub knobs: fn(&Resources, Version) -> Result<Vec<Knob>, CgroupError>,
    /// Writes them; most controllers need no more than [`tree::write_all`].
    pub write: fn(&Dir, Version, &[Knob], &Resources) -> Result<(), CgroupError>,
    /// Adds this controller's meters.
    pub stats: fn(&Dir, Version, &mut Stats) -> Result<(), CgroupError>,
}

/// Every controller that has a limit or a meter. A new controller is a row here and a file beside.
pub(crate) const CONTROLLERS: &[ControllerRow] = &[
    cpuset::ROW,
    cpu::ROW,
    cpu::ACCOUNTING,
    memory::ROW,
    pids::ROW,
    blkio::ROW,
    hugetlb::ROW,
    rdma::ROW,
    network::CLASS,
    network::PRIORITY,
];

/// Why a cgroup could not be made, changed or read.
#[derive(Debug)]
pub enum CgroupError {
    /// There is no such cgroup.
    NotFound {
        /// The cgroup's path.
        path: String,
    },
    /// The cgroup exists and has processes or children that are not ours.
    Busy {
        /// The cgroup's path.
        path: String,
    },
    /// The path cannot name a cgroup.
    Path {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This kernel, or the way its cgroups are mounted, cannot do what was asked.
    Unsupported {
        /// The field of the specification.
        field: String,
        /// What is missing.
        reason: String,
    },
    /// A value that no kernel accepts, or that contradicts another.
    Value {
        /// The field of the specification.
        field: String,
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call failed.
    Io {
        /// What was being done: `write`, `mkdir`.
        op: &'static str,
        /// On which file.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CgroupError::NotFound { path } => write!(f, "cgroup {path} does not exist"),
            CgroupError::Busy { path } => {
                write!(
                    f,
                    "cgroup {path} exists and is in use: choose another path or end what runs in it"
                )
            }
            CgroupError::Path { path, reason } => write!(f, "cgroup path {path:?}: {reason}"),
            CgroupError::Unsupported { field, reason } => {
                write!(f, "{field} is not supported here: {reason}")
            }
            CgroupError::Value { field, value, reason } => write!(f, "{field} = {value}: {reason}"),
            CgroupError::Io { op, path, source } => write!(f, "{op} {path}: {source}"),
        }
    }
}

impl std::error::Error for CgroupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CgroupError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

pub(crate) fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> CgroupError {
    CgroupError::Unsupported {
        field: field.into(),
        reason: reason.into(),
    }
}

pub(crate) fn bad_value(
    field: impl Into<String>,
    value: impl fmt::Display,
    reason: impl Into<String>,
) -> CgroupError {
    CgroupError::Value {
        field: field.into(),
        value: value.to_string(),
        reason: reason.into(),
    }
}
