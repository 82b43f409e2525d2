//! What the engine needs of the kernel and cannot name itself: threaded code must not even see `clone`.
//!
//! The composition root implements these with the system-call and runtime crates; tests with a real implementation too.

use ferry_oci::runtime::{Resources, Seccomp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The overlay stack of a container, newest lower first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only directories, newest first.
    pub lowers: Vec<PathBuf>,
    /// The writable directory; `None` for a read-only view.
    pub upper: Option<PathBuf>,
    /// The work directory beside it.
    pub work: Option<PathBuf>,
}

/// Calls that block shortly; the engine makes them on its blocking pool unless noted.
pub trait Kernel: Send + Sync + 'static {
    /// Starts the launcher from a sealed clone of the running binary; `control` becomes its control socket (SEQPACKET).
    /// Must be called before nothing in particular: it forks and execs without touching the engine's threads.
    fn spawn_launcher(&self, control: OwnedFd, exec_root: &Path) -> io::Result<i32>;

    /// A detached clone of the mount tree at `path` (open_tree), for a bind.
    fn open_tree(&self, path: &Path, recursive: bool) -> io::Result<OwnedFd>;

    /// A detached mount of `overlay`, to look into an image or a stopped container.
    fn mount_overlay(&self, overlay: &Overlay) -> io::Result<OwnedFd>;

    /// A pidfd; ESRCH when it is gone.
    fn pidfd(&self, pid: i32) -> io::Result<OwnedFd>;

    /// Sends a signal by number to the process behind a pidfd (pidfd_send_signal(2)); ESRCH when it is gone.
    fn signal(&self, pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
        let named = rustix::process::Signal::from_named_raw(number).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("signal {number} is a real-time signal"),
            )
        })?;
        Ok(rustix::process::pidfd_send_signal(pidfd, named)?)
    }

    /// Field 22 of `/proc/<pid>/stat`: with the pid, the identity of a process.
    fn start_time(&self, pid: i32) -> io::Result<u64>;

    /// Usage of the cgroup at this path.
    fn cgroup_stats(&self, path: &str) -> io::Result<CgroupStats>;

    /// New limits for a live cgroup. The error's text names the controller.
    fn cgroup_update(&self, path: &str, resources: &Resources) -> io::Result<()>;

    /// Freezes or thaws, and waits until it is so.
    fn cgroup_freeze(&self, path: &str, frozen: bool) -> io::Result<()>;

    /// Whether it is frozen.
    fn cgroup_frozen(&self, path: &str) -> io::Result<bool>;

    /// Every process in it and below.
    fn cgroup_pids(&self, path: &str) -> io::Result<Vec<i32>>;

    /// Kills every process in it and below.
    fn cgroup_kill(&self, path: &str) -> io::Result<()>;

    /// Removes it and what is below; fine when it is gone.
    fn cgroup_remove(&self, path: &str) -> io::Result<()>;

    /// A seccomp profile in Docker's JSON, resolved for these capabilities on this machine.
    fn parse_seccomp(&self, json: &str, capabilities: &[String]) -> io::Result<Seccomp>;

    /// What this host offers.
    fn host(&self) -> &HostInfo;
}

/// What this host offers, probed once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostInfo {
    /// `6.18.44`.
    pub kernel: String,
    /// `x86_64`.
    pub machine: String,
    /// cgroup version, 1 (also hybrid) or 2.
    pub cgroup_version: u8,
    /// Whether controllers can be used.
    pub controllers: Vec<String>,
    /// Security modules in force: `apparmor`, `selinux`.
    pub lsms: Vec<String>,
    /// Whether seccomp filters work.
    pub seccomp: bool,
    /// Every capability the engine itself may give, `CAP_…`.
    pub capabilities: Vec<String>,
    /// Facility name to (available, what it enables), for `info` and `system check`.
    pub facilities: BTreeMap<String, (bool, String)>,
    /// Sentences about what is missing and what follows, each said once.
    pub warnings: Vec<String>,
}

/// Usage of one cgroup. Bytes and nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupStats {
    /// CPU time in all.
    pub cpu_total: u64,
    /// In user mode.
    pub cpu_user: u64,
    /// In the kernel.
    pub cpu_system: u64,
    /// By processor (v1).
    pub cpu_per: Vec<u64>,
    /// Periods, throttled periods, throttled time.
    pub throttling: (u64, u64, u64),
    /// Memory now.
    pub memory_usage: u64,
    /// The most (v1).
    pub memory_max: u64,
    /// The limit; `u64::MAX` when none.
    pub memory_limit: u64,
    /// How often the limit was hit.
    pub memory_failcnt: u64,
    /// `memory.stat`.
    pub memory_stat: BTreeMap<String, u64>,
    /// Tasks now.
    pub pids: u64,
    /// The limit; `u64::MAX` when none.
    pub pids_limit: u64,
    /// (major, minor, operation, bytes).
    pub blkio_bytes: Vec<(u64, u64, String, u64)>,
    /// (major, minor, operation, count).
    pub blkio_ops: Vec<(u64, u64, String, u64)>,
    /// How often the kernel killed for memory.
    pub oom_kills: u64,
}
