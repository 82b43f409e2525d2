//! Telling that a cgroup ran out of memory.

use super::tree::{self, Dir};
use super::{CgroupError, Version, unsupported};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// See [`super::Group::oom_watch`].
pub(super) fn watch(dir: &Dir, version: Version) -> Result<OwnedFd, CgroupError> {
    match version {
        Version::V1 => watch_v1(dir),
        Version::V2 => watch_v2(dir),
    }
}

/// cgroup-v1/memory.rst, section 9: the kernel keeps the eventfd for as long as the cgroup or the eventfd lives.
fn watch_v1(dir: &Dir) -> Result<OwnedFd, CgroupError> {
    let fail = |op, file| move |errno: Errno| dir.io(op, file, errno);
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail("eventfd", ""))?;
    let control = dir.open_file("memory.oom_control", OFlags::RDONLY);
    let control = control.map_err(fail("open", "memory.oom_control"))?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    match dir.write("cgroup.event_control", &line) {
        Ok(()) => Ok(event),
        // A PREEMPT_RT kernel, or v1's memory events left out of the build.
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Err(unsupported(
            "out-of-memory events",
            "the kernel does not offer cgroup.event_control",
        )),
        Err(errno) => Err(dir.io("write", "cgroup.event_control", errno)),
    }
}

fn watch_v2(dir: &Dir) -> Result<OwnedFd, CgroupError> {
    let fail = |op| move |errno: Errno| dir.io(op, "memory.events", errno);
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(fail("inotify"))?;
    // By fd first: this process's mount namespace may have no cgroup mount.
    let by_fd = format!("/proc/self/fd/{}/memory.events", dir.as_fd().as_raw_fd());
    let by_path = format!("{}/memory.events", dir.path());
    let flags = WatchFlags::MODIFY | WatchFlags::DELETE_SELF;
    match inotify::add_watch(&fd, by_fd, flags) {
        Err(Errno::NOENT) => inotify::add_watch(&fd, by_path, flags).map_err(fail("watch"))?,
        other => other.map_err(fail("watch"))?,
    };
    Ok(fd)
}

/// Processes killed so far; zero once the cgroup is gone, and before 4.13.
pub(super) fn kills(dir: &Dir, version: Version) -> Result<u64, CgroupError> {
    let file = if version == Version::V1 {
        "memory.oom_control"
    } else {
        "memory.events"
    };
    let text = dir.read(file)?.unwrap_or_default();
    Ok(tree::flat_keyed(&text)
        .find(|(key, _)| *key == "oom_kill")
        .map_or(0, |(_, value)| value))
}
