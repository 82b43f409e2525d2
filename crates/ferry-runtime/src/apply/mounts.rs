//! Mounts, all by descriptor: the root, file systems, binds, cgroups, hidden and read-only paths, and the pivot.

use super::child::Scene;
use super::paths::attach;
use super::report::{Done, During, Fault, detail};
use super::wires::{CgroupTree, Root, Wires};
use crate::plan::{Bind, CgroupMount, FileSystem};
use ferry_sys::mount::{MountAttr, attr, mount_old, setattr, setattr_at};
use ferry_sys::{Errno, fd, path};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MS_REC: u64 = 0x4000;
const MS_SLAVE: u64 = 1 << 19;
const MS_PRIVATE: u64 = 1 << 18;
const MS_MOVE: u64 = 1 << 13;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Makes an instance of a file system, detached.
fn create(
    kind: &CStr,
    source: &CStr,
    parameters: &[(CString, Option<CString>)],
    attributes: u64,
) -> Done<OwnedFd> {
    let context = open_context(kind, source, parameters)?;
    finish(&context, attributes)
}

fn open_context(kind: &CStr, source: &CStr, parameters: &[(CString, Option<CString>)]) -> Done<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during(detail::CREATE)?;
    // Shown in mountinfo; file systems that have no use for it may refuse it, which costs nothing.
    match fsconfig_set_string(&context, c"source", source) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno).during(detail::SOURCE),
    }
    for (index, (key, value)) in parameters.iter().enumerate() {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str()),
            None => fsconfig_set_flag(&context, key.as_c_str()),
        }
        .during(detail::PARAMETER + index as u32)?;
    }
    Ok(context)
}

fn finish(context: &OwnedFd, attributes: u64) -> Done<OwnedFd> {
    fsconfig_create(context).during(detail::CREATE)?;
    // The two share their values; fsmount(2) takes those below 32 bits only, which are all there are.
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).during(detail::ATTRIBUTES)
}

fn clone_tree(from: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(from, c"", tree_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// The root's tree, attached where pivot_root can find it.
pub(crate) fn attach_root(wires: &Wires<'_>, scene: &mut Scene, private_parent: bool) -> Done {
    let (tree, at) = match &wires.root {
        Root::Directory(path) => {
            let tree = open_tree(CWD, path.as_c_str(), tree_flags(true)).during(detail::SOURCE)?;
            (tree, path)
        }
        Root::Tree(number, at) => (
            rustix::io::fcntl_dupfd_cloexec(fd::borrow(*number), 3).during(detail::SOURCE)?,
            at,
        ),
        Root::Overlay {
            options,
            legacy: None,
            at,
        } => (create(c"overlay", c"overlay", options, 0)?, at),
        Root::Overlay {
            legacy: Some(data),
            at,
            ..
        } => {
            mount_old(c"overlay", at, c"overlay", 0, data).during(detail::CREATE)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            scene.root = Some(rustix::fs::open(at.as_c_str(), flags, Mode::empty())?);
            return Ok(());
        }
        Root::Entered => return Ok(()),
    };
    let place = rustix::fs::open(
        at.as_c_str(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during(detail::DESTINATION)?;
    if private_parent {
        make_mount_private(at).during(detail::ATTRIBUTES)?;
    }
    attach(tree.as_fd(), place.as_fd()).during(detail::MOVE)?;
    scene.root = Some(tree);
    Ok(())
}

/// The mount that holds `path`: the longest prefix that is a mount's root.
fn make_mount_private(path: &CStr) -> Result<(), Errno> {
    let private = MountAttr {
        propagation: MS_PRIVATE,
        ..MountAttr::default()
    };
    let bytes = path.to_bytes();
    let mut buffer = [0u8; 4096];
    let mut end = bytes.len();
    loop {
        if end >= buffer.len() {
            return Err(Errno::NAMETOOLONG);
        }
        buffer[..end].copy_from_slice(&bytes[..end]);
        buffer[end] = 0;
        let prefix = if end == 0 {
            c"/"
        } else {
            CStr::from_bytes_until_nul(&buffer).unwrap_or(c"/")
        };
        match setattr_at(CWD, prefix, &private, false) {
            Err(Errno::INVAL) if end > 0 => {}
            other => return other,
        }
        end = bytes[..end].iter().rposition(|b| *b == b'/').unwrap_or(0);
    }
}

/// A procfs that nothing of the container's has touched (R2).
pub(crate) fn open_proc(wires: &Wires<'_>, scene: &mut Scene) -> Done {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC).during(detail::CREATE)?;
    fsconfig_set_string(&context, c"source", c"proc")?;
    if let Some(pid_ns) = wires.sibling.as_ref().and_then(|s| s.pid_ns) {
        // From 6.17; this process is outside the pid namespace whose processes are to be seen.
        fsconfig_set_fd(&context, c"pidns", fd::borrow(pid_ns)).during(detail::PARAMETER)?;
    }
    match finish(&context, attr::NOSUID | attr::NODEV | attr::NOEXEC) {
        Ok(proc) => (scene.proc, scene.proc_is_detached) = (Some(proc), true),
        // A user namespace may not have its own where the pid namespace is the host's; the host's is still untouched.
        Err(fault) if fault.errno == Errno::PERM.raw_os_error() => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            scene.proc = Some(rustix::fs::open(c"/proc", flags, Mode::empty())?);
        }
        Err(fault) => return Err(fault),
    }
    Ok(())
}

/// A new instance of a file system at its destination.
pub(crate) fn file_system(mount: &FileSystem, scene: &mut Scene) -> Done {
    let kind = mount.kind.as_c_str();
    let root = scene.root()?;
    let kernels_own = kind == c"proc" || kind == c"sysfs";
    let place = if kernels_own {
        // An image in which /proc or /sys is a symlink is an attack, or of no use.
        let made = path::make_directory(root, &mount.destination, DIRECTORY).during(detail::DESTINATION)?;
        drop(made);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        path::open_with(root, &mount.destination, flags, ResolveFlags::NO_SYMLINKS)
            .during(detail::DESTINATION)?
    } else {
        path::make_directory(root, &mount.destination, DIRECTORY).during(detail::DESTINATION)?
    };
    if !kernels_own {
        refuse_proc(place.as_fd())?;
    }
    if kind == c"proc" && mount.parameters.is_empty() && scene.proc_is_detached {
        return attach_proc(mount, place.as_fd(), scene);
    }
    let context = open_context(kind, &mount.source, &mount.parameters)?;
    if kind == c"tmpfs" && !mount.parameters.iter().any(|(key, _)| key.as_c_str() == c"mode") {
        inherit_mode(&context, place.as_fd())?;
    }
    let writable = if mount.copy_up {
        mount.attributes & !attr::RDONLY
    } else {
        mount.attributes
    };
    let made = finish(&context, writable)?;
    if mount.copy_up {
        super::copyup::copy(place.as_fd(), made.as_fd()).during(detail::COPY_UP)?;
        change(made.as_fd(), mount.attributes & attr::RDONLY, 0, false)?;
    }
    attach(made.as_fd(), place.as_fd()).during(detail::MOVE)?;
    propagate(made.as_fd(), mount.propagation)
}

/// The private procfs becomes the container's: one superblock less, and our own writes come before its first process.
fn attach_proc(mount: &FileSystem, place: BorrowedFd<'_>, scene: &mut Scene) -> Done {
    let proc = scene.proc.as_ref().ok_or(Errno::BADF)?;
    let had = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    change(
        proc.as_fd(),
        mount.attributes & !had,
        had & !mount.attributes,
        false,
    )?;
    attach(proc.as_fd(), place).during(detail::MOVE)?;
    scene.proc_is_detached = false;
    propagate(proc.as_fd(), mount.propagation)
}

fn change(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Done {
    if set == 0 && clear == 0 {
        return Ok(());
    }
    let clear = if set & attr::ATIME != 0 {
        clear | attr::ATIME
    } else {
        clear
    };
    let attributes = MountAttr {
        set,
        clear,
        ..MountAttr::default()
    };
    setattr(mount, &attributes, recursive).during(detail::ATTRIBUTES)
}

fn propagate(mount: BorrowedFd<'_>, flags: u64) -> Done {
    if flags == 0 {
        return Ok(());
    }
    let attributes = MountAttr {
        propagation: flags & !MS_REC,
        ..MountAttr::default()
    };
    setattr(mount, &attributes, flags & MS_REC != 0).during(detail::ATTRIBUTES)
}

/// A tmpfs without a mode takes that of the directory it hides.
fn inherit_mode(context: &OwnedFd, place: BorrowedFd<'_>) -> Done {
    let mode = rustix::fs::fstat(place)?.st_mode & 0o7777;
    let mut text = [0u8; 5];
    for (at, digit) in text[..4].iter_mut().enumerate() {
        *digit = b'0' + (mode >> (9 - 3 * at) & 7) as u8;
    }
    let text = CStr::from_bytes_with_nul(&text).unwrap_or(c"0755");
    fsconfig_set_string(context, c"mode", text).during(detail::PARAMETER)
}

/// Only procfs itself, and what the plan allows, may be mounted in procfs, whatever symlinks led there.
fn refuse_proc(place: BorrowedFd<'_>) -> Done {
    if rustix::fs::fstatfs(place)?.f_type as u64 == PROC_SUPER_MAGIC {
        return Err(Fault {
            detail: detail::INSIDE_PROC,
            errno: Errno::PERM.raw_os_error(),
        });
    }
    Ok(())
}

/// A part of an existing tree at its destination.
pub(crate) fn bind(bind: &Bind, wires: &Wires<'_>, scene: &Scene) -> Done {
    let given = wires.binds.iter().find(|(index, _)| *index == bind.index);
    let tree = match given {
        Some((_, number)) => rustix::io::fcntl_dupfd_cloexec(fd::borrow(*number), 3),
        None => open_tree(CWD, bind.source.as_c_str(), tree_flags(bind.recursive)),
    }
    .during(detail::SOURCE)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree).during(detail::SOURCE)?.st_mode);
    let root = scene.root()?;
    let place = if kind == FileType::Directory {
        path::make_directory(root, &bind.destination, DIRECTORY)
    } else {
        path::make_file(root, &bind.destination, Mode::from_raw_mode(0o755))
    }
    .during(detail::DESTINATION)?;
    if !bind.in_proc {
        refuse_proc(place.as_fd())?;
    }
    if !bind.attributes.is_empty() {
        setattr(tree.as_fd(), &bind.attributes, false).during(detail::ATTRIBUTES)?;
    }
    if !bind.recursive_attributes.is_empty() {
        setattr(tree.as_fd(), &bind.recursive_attributes, true).during(detail::ATTRIBUTES)?;
    }
    attach(tree.as_fd(), place.as_fd()).during(detail::MOVE)?;
    propagate(tree.as_fd(), bind.propagation)
}

/// The container's cgroups at its destination.
pub(crate) fn cgroups(mount: &CgroupMount, wires: &Wires<'_>, scene: &Scene) -> Done {
    let place =
        path::make_directory(scene.root()?, &mount.destination, DIRECTORY).during(detail::DESTINATION)?;
    refuse_proc(place.as_fd())?;
    if !mount.v1 {
        let tree = match create(c"cgroup2", c"cgroup", &[], mount.attributes) {
            // A user namespace without a cgroup namespace of its own sees the host's.
            Err(fault) if fault.errno == Errno::PERM.raw_os_error() => {
                let tree = open_tree(CWD, c"/sys/fs/cgroup", tree_flags(true)).during(detail::SOURCE)?;
                change(tree.as_fd(), mount.attributes, 0, true)?;
                tree
            }
            other => other?,
        };
        return attach(tree.as_fd(), place.as_fd()).during(detail::MOVE);
    }
    let context = open_context(c"tmpfs", c"tmpfs", &[])?;
    fsconfig_set_string(&context, c"mode", c"755").during(detail::CREATE)?;
    let top = finish(&context, mount.attributes & !attr::RDONLY)?;
    attach(top.as_fd(), place.as_fd()).during(detail::MOVE)?;
    for tree in &wires.cgroups {
        hierarchy(tree, mount, top.as_fd())?;
    }
    change(top.as_fd(), mount.attributes & attr::RDONLY, 0, false)
}

fn hierarchy(tree: &CgroupTree, mount: &CgroupMount, top: BorrowedFd<'_>) -> Done {
    rustix::fs::mkdirat(top, tree.name.as_c_str(), DIRECTORY).during(detail::MAKE)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(top, tree.name.as_c_str(), flags, Mode::empty()).during(detail::MAKE)?;
    let made = if mount.private {
        create(c"cgroup", c"cgroup", &tree.parameters, mount.attributes)?
    } else {
        let made = open_tree(CWD, tree.source.as_c_str(), tree_flags(false)).during(detail::SOURCE)?;
        change(made.as_fd(), mount.attributes, 0, false)?;
        made
    };
    attach(made.as_fd(), place.as_fd()).during(detail::MOVE)?;
    for link in &tree.links {
        rustix::fs::symlinkat(tree.name.as_c_str(), top, link.as_c_str()).during(detail::MAKE)?;
    }
    Ok(())
}

/// Hides a path: a directory behind one shared empty tmpfs, anything else behind the null device. An absent path needs none.
pub(crate) fn mask(target: &CStr, scene: &mut Scene) -> Done {
    let place = match path::open(scene.root()?, target, OFlags::PATH) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno).during(detail::DESTINATION),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if kind != FileType::Directory {
        let null = null_device(scene)?;
        let tree = clone_tree(null.as_fd(), false).during(detail::SOURCE)?;
        return attach(tree.as_fd(), place.as_fd()).during(detail::MOVE);
    }
    match &scene.empty {
        Some(empty) => {
            let tree = clone_tree(empty.as_fd(), false).during(detail::SOURCE)?;
            attach(tree.as_fd(), place.as_fd()).during(detail::MOVE)
        }
        None => {
            let context = open_context(c"tmpfs", c"tmpfs", &[])?;
            fsconfig_set_string(&context, c"nr_inodes", c"1").during(detail::CREATE)?;
            let empty = finish(&context, attr::RDONLY)?;
            attach(empty.as_fd(), place.as_fd()).during(detail::MOVE)?;
            scene.empty = Some(empty);
            Ok(())
        }
    }
}

/// The null device, seen to be it on the descriptor that is used: the container's own, or else the host's.
fn null_device(scene: &Scene) -> Done<OwnedFd> {
    let own = path::open_with(
        scene.root()?,
        c"dev/null",
        OFlags::PATH,
        ResolveFlags::NO_SYMLINKS,
    );
    if let Ok(own) = own
        && is_null(own.as_fd())
    {
        return Ok(own);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let host = rustix::fs::open(c"/dev/null", flags, Mode::empty()).during(detail::SOURCE)?;
    if is_null(host.as_fd()) {
        Ok(host)
    } else {
        Err(Fault {
            detail: detail::NOT_A_DEVICE,
            errno: Errno::NODEV.raw_os_error(),
        })
    }
}

fn is_null(device: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(device).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}

/// Makes a path read-only by a mount of itself. An absent path needs none.
pub(crate) fn read_only(target: &CStr, scene: &Scene) -> Done {
    let place = match path::open(scene.root()?, target, OFlags::PATH) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno).during(detail::DESTINATION),
    };
    let tree = clone_tree(place.as_fd(), true).during(detail::SOURCE)?;
    change(tree.as_fd(), attr::RDONLY, 0, false)?;
    attach(tree.as_fd(), place.as_fd()).during(detail::MOVE)
}

pub(crate) fn root_read_only(scene: &Scene) -> Done {
    change(scene.root()?, attr::RDONLY, 0, false)
}

pub(crate) fn root_propagation(scene: &Scene, flags: u64) -> Done {
    propagate(scene.root()?, flags)
}

/// Makes the root `/`. The old one ends up stacked on it and is detached; nothing of that reaches the host.
pub(crate) fn pivot(scene: &mut Scene) -> Done {
    rustix::process::fchdir(scene.root()?)?;
    rustix::process::pivot_root(c".", c".")?;
    // The old root, which `.` now resolves to, might still be shared with the host.
    mount_old(c"", c".", c"", MS_SLAVE | MS_REC, c"")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

/// For a root that cannot be pivoted (initramfs): move the mount onto `/` and chroot. A process with CAP_SYS_ADMIN in
/// the container can undo it, so this is only by request.
pub(crate) fn move_root(scene: &mut Scene) -> Done {
    rustix::process::fchdir(scene.root()?)?;
    mount_old(c".", c"/", c"", MS_MOVE, c"")?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")?;
    Ok(())
}
