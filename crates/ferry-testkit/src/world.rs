//! Mount and network namespaces of a test's own.

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::fs::File;
use std::os::fd::AsFd;

const NEWNS: u64 = libc::CLONE_NEWNS as u64;
const NEWNET: u64 = libc::CLONE_NEWNET as u64;
const FS: u64 = libc::CLONE_FS as u64;

/// The namespaces; they end when this and every process inside are gone.
pub struct World {
    mounts: File,
    network: File,
}

impl World {
    /// New namespaces: mounts private, `/run` empty and in memory, own sysfs, loopback up.
    ///
    /// # Errors
    /// Without the privileges for it.
    pub fn new() -> Result<Self> {
        on_a_thread(|| {
            ferry_sys::clone::unshare(NEWNS | NEWNET).context("making mount and network namespaces")?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .context("making mounts private")?;
            own_sysfs()?;
            mount(
                "tmpfs",
                "/run",
                "tmpfs",
                MountFlags::NOSUID | MountFlags::NODEV,
                None,
            )
            .context("mounting /run")?;
            ferry_sys::net::loopback_up().context("bringing the loopback up")?;
            Ok(Self {
                mounts: this("mnt")?,
                network: this("net")?,
            })
        })
    }

    /// A network namespace beside this world's, with this world's mounts: another host.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn neighbour(&self) -> Result<Self> {
        let mounts = self.mounts.try_clone()?;
        on_a_thread(move || {
            ferry_sys::clone::unshare(FS | NEWNET).context("making a network namespace")?;
            ferry_sys::net::loopback_up().context("bringing the loopback up")?;
            Ok(Self {
                mounts,
                network: this("net")?,
            })
        })
    }

    /// Does `work` on a thread inside; processes that it starts are inside too.
    ///
    /// # Errors
    /// Those of `work`, and of entering.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            ferry_sys::clone::unshare(FS).context("unsharing the working directory")?;
            ferry_sys::clone::setns(self.network.as_fd(), NEWNET)
                .context("entering the network namespace")?;
            ferry_sys::clone::setns(self.mounts.as_fd(), NEWNS).context("entering the mount namespace")?;
            work()
        })
    }

    /// The network namespace, to place links in.
    pub fn network(&self) -> &File {
        &self.network
    }
}

fn this(kind: &str) -> Result<File> {
    let path = format!("/proc/thread-self/ns/{kind}");
    File::open(&path).with_context(|| format!("opening {path}"))
}

/// A sysfs shows the network namespace of whoever mounted it: the host's would hide this world's links. The cgroup tree below is kept.
fn own_sysfs() -> Result<()> {
    let aside = tempfile::Builder::new()
        .prefix("ferry-world-")
        .tempdir()
        .context("making a folder")?;
    let cgroups = std::path::Path::new("/sys/fs/cgroup");
    mount(
        cgroups,
        aside.path(),
        "",
        MountFlags::BIND | MountFlags::REC,
        None,
    )
    .context("keeping the cgroup tree")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("mounting sysfs")?;
    mount(
        aside.path(),
        cgroups,
        "",
        MountFlags::BIND | MountFlags::REC,
        None,
    )
    .context("putting the cgroup tree back")?;
    rustix::mount::unmount(aside.path(), rustix::mount::UnmountFlags::DETACH)
        .context("letting go of the folder")?;
    Ok(())
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
