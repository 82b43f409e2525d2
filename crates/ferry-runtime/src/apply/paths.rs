//! Nodes, links and kernel parameters.

use super::child::Scene;
use super::report::{Done, During, detail};
use crate::plan::Device;
use ferry_sys::{Errno, clone, path};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Makes a device node, or binds the host's where nodes cannot be made. One that exists stays as it is.
pub(crate) fn device(device: &Device, scene: &Scene) -> Done {
    if let Some(source) = &device.bind {
        let tree = rustix::mount::open_tree(
            rustix::fs::CWD,
            source,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .during(detail::SOURCE)?;
        let place =
            path::make_file(scene.root()?, &device.path, Mode::empty()).during(detail::DESTINATION)?;
        return attach(tree.as_fd(), place.as_fd()).during(detail::MOVE);
    }
    let (parent, name) = path::make_parent_of(scene.root()?, &device.path).during(detail::DESTINATION)?;
    let (major, minor) = device.number;
    let kind = FileType::from_raw_mode(device.mode);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(major, minor)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    if device.owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = device.owner;
    let owner = (
        Some(rustix::fs::Uid::from_raw(uid)),
        Some(rustix::fs::Gid::from_raw(gid)),
    );
    Ok(rustix::fs::chownat(
        &parent,
        name,
        owner.0,
        owner.1,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Makes a symbolic link. One that exists stays as it is.
pub(crate) fn link(place: &CStr, target: &CStr, scene: &Scene) -> Done {
    let (parent, name) = path::make_parent_of(scene.root()?, place).during(detail::DESTINATION)?;
    match rustix::fs::symlinkat(target, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Moves a detached mount onto `place`.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::move_mount(
        mount,
        c"",
        place,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Writes a file of the private procfs: no symlink is followed and no mount crossed, so it is procfs's own file (R2).
pub(crate) fn write_proc(proc: BorrowedFd<'_>, name: &CStr, value: &CStr) -> Result<(), Errno> {
    let file = path::open_with(
        proc,
        name,
        OFlags::WRONLY,
        ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
    )?;
    rustix::io::write(&file, value.to_bytes()).map(drop)
}

/// As [`write_proc`], beneath this process's own directory.
pub(crate) fn write_own(scene: &Scene, name: &CStr, value: &CStr) -> Done {
    let proc = scene
        .own_proc
        .as_ref()
        .or(scene.proc.as_ref())
        .ok_or(Errno::BADF)?;
    // `self` is the one symlink that is wanted; procfs itself makes it.
    let own = path::open_with(
        proc.as_fd(),
        c"self",
        OFlags::PATH | OFlags::DIRECTORY,
        ResolveFlags::NO_XDEV,
    )?;
    Ok(write_proc(own.as_fd(), name, value)?)
}

pub(crate) fn sysctl(scene: &Scene, name: &CStr, value: &CStr) -> Done {
    let proc = scene.proc.as_ref().ok_or(Errno::BADF)?;
    let tree = path::open_with(
        proc.as_fd(),
        c"sys",
        OFlags::PATH | OFlags::DIRECTORY,
        ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
    )?;
    Ok(write_proc(tree.as_fd(), name, value)?)
}

/// A new time namespace: its offsets can be written while no process is in it; then we enter.
pub(crate) fn time_namespace(scene: &Scene, offsets: Option<&CStr>) -> Done {
    clone::unshare(clone::NEWTIME)?;
    if let Some(offsets) = offsets {
        write_own(scene, c"timens_offsets", offsets)?;
    }
    let proc = scene
        .own_proc
        .as_ref()
        .or(scene.proc.as_ref())
        .ok_or(Errno::BADF)?;
    // A namespace file is a magic link, which `path` refuses; this procfs is private, so it is procfs's own.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::openat(proc, c"self/ns/time_for_children", flags, Mode::empty())?;
    Ok(clone::setns(namespace.as_fd(), clone::NEWTIME)?)
}
