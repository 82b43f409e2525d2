//! `tmpcopyup`: what a tmpfs hides is copied into it first. No allocation, so the depth is bounded.

use ferry_sys::Errno;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Uid};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Deeper trees are refused with ELOOP: a level costs some kilobytes of stack.
const DEPTH: u32 = 64;

/// Copies the contents of `from` into `to`: directories, files, symlinks, nodes, with owners and modes.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    directory(open(from, c".", OFlags::DIRECTORY)?, to, DEPTH)
}

fn open(at: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        at,
        name,
        flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn directory(from: OwnedFd, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth == 0 {
        return Err(Errno::LOOP);
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from.as_fd(), to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode)?;
            let made = open(to, name, OFlags::DIRECTORY)?;
            directory(open(from, name, OFlags::DIRECTORY)?, made.as_fd(), depth - 1)?;
        }
        FileType::RegularFile => file(from, to, name)?,
        FileType::Symlink => {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let (target, _) = rustix::fs::readlinkat_raw(from, name, &mut buffer[..4095])?;
            let mut text = [0u8; 4096];
            text[..target.len()].copy_from_slice(target);
            let target = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::NAMETOOLONG)?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
        }
        FileType::Unknown => return Err(Errno::INVAL),
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        // After the owner, whose change clears set-user-id.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let source = open(from, name, OFlags::NONBLOCK)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    loop {
        if rustix::fs::sendfile(&target, &source, None, 1 << 20)? == 0 {
            return Ok(());
        }
    }
}
