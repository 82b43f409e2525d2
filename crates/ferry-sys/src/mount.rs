//! The part of the fd-based mount API that rustix lacks: mount_setattr(2).

use crate::{Errno, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `MOUNT_ATTR_RDONLY` and its fellows, of linux/mount.h.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NOSUID: u64 = 0x2;
    /// No device files.
    pub const NODEV: u64 = 0x4;
    /// No programs.
    pub const NOEXEC: u64 = 0x8;
    /// The mask of the three access time modes; relatime is 0.
    pub const ATIME: u64 = 0x70;
    /// No access times.
    pub const NOATIME: u64 = 0x10;
    /// Every access time.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Id-mapped by the user namespace in `userns_fd`.
    pub const IDMAP: u64 = 0x0010_0000;
    /// No symlink is followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear (the whole of [`attr::ATIME`] when an access time mode is set).
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// For [`attr::IDMAP`].
    pub userns_fd: u64,
}

impl MountAttr {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == MountAttr::default()
    }
}

/// mount_setattr(2) on the mount that `fd` is the root of, and on those below it when `recursive`.
pub fn setattr(fd: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> Result<(), Errno> {
    setattr_at(fd, c"", attributes, recursive)
}

/// mount_setattr(2) on the mount whose root is at `path`.
pub fn setattr_at(
    directory: BorrowedFd<'_>,
    path: &CStr,
    attributes: &MountAttr,
    recursive: bool,
) -> Result<(), Errno> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is NUL-terminated, `attributes` has the kernel's layout and both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// mount(2), for the file systems and kernels where the fd-based calls cannot take what must be said: `data` may be a page.
pub fn mount_old(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    // SAFETY: all strings are NUL-terminated and outlive the call; the kernel copies them.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount,
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr(),
        )
    })
    .map(drop)
}
