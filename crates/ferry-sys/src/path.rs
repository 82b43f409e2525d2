//! Paths inside a root: the only way to touch one beneath a root file system.
//!
//! Every look-up is one openat2(2) with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, so `..`, absolute symlinks and
//! procfs links stay inside. Nothing here allocates.

use crate::Errno;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// openat2(2) gives up with EAGAIN when something is renamed meanwhile; so many tries are enough for any honest rename.
const TRIES: usize = 64;

/// Opens `path` as if `root` were `/`; always close-on-exec.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root, path, flags, ResolveFlags::empty())
}

/// As [`open`], with further restrictions such as `NO_XDEV` and `NO_SYMLINKS`.
pub fn open_with(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    further: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | further;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

/// Opens (`O_PATH`) the directory at `path`, making it and its parents with `mode` where they are missing.
pub fn make_directory(root: BorrowedFd<'_>, path: &CStr, mode: Mode) -> Result<OwnedFd, Errno> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut at: Option<OwnedFd> = None;
    let mut missing = false;
    let mut buffer = [0u8; BUFFER];
    let bytes = path.to_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes[start..]
            .iter()
            .position(|b| *b == b'/')
            .map_or(bytes.len(), |at| start + at);
        let component = &bytes[start..end];
        start = end + 1;
        if component.is_empty() || component == b"." {
            continue;
        }
        if !missing {
            match open(
                root,
                terminated(&mut buffer, &bytes[..end])?,
                OFlags::PATH | OFlags::DIRECTORY,
            ) {
                Ok(fd) => {
                    at = Some(fd);
                    continue;
                }
                Err(Errno::NOENT) => missing = true,
                Err(errno) => return Err(errno),
            }
        }
        let parent = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(make_one(parent, terminated(&mut buffer, component)?, mode)?);
    }
    at.ok_or(Errno::NOENT)
}

fn make_one(parent: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<OwnedFd, Errno> {
    if name.to_bytes() == b".." {
        return Err(Errno::NOENT);
    }
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens (`O_PATH`) the file at `path`, making an empty one, and its parent directories, where it is missing.
pub fn make_file(root: BorrowedFd<'_>, path: &CStr, mode: Mode) -> Result<OwnedFd, Errno> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut buffer = [0u8; BUFFER];
    let parent = make_parent(root, path, &mut buffer)?;
    let name = last_component(path);
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY | OFlags::EXCL;
    match rustix::fs::openat(&parent, name, flags, mode) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::openat(
        &parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The directory that holds `path`, made where it is missing, and the last component.
pub fn make_parent_of<'p>(root: BorrowedFd<'_>, path: &'p CStr) -> Result<(OwnedFd, &'p CStr), Errno> {
    let mut buffer = [0u8; BUFFER];
    Ok((make_parent(root, path, &mut buffer)?, last_component(path)))
}

fn make_parent(root: BorrowedFd<'_>, path: &CStr, buffer: &mut [u8; BUFFER]) -> Result<OwnedFd, Errno> {
    let bytes = path.to_bytes();
    let parent = bytes
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(&b"."[..], |at| &bytes[..at]);
    let parent = if parent.is_empty() { &b"."[..] } else { parent };
    make_directory(root, terminated(buffer, parent)?, Mode::from_raw_mode(0o755))
}

fn last_component(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    CStr::from_bytes_with_nul(&bytes[start..]).unwrap_or(c"")
}

/// The longest path, with its terminator (`PATH_MAX`).
const BUFFER: usize = 4096;

fn terminated<'b>(buffer: &'b mut [u8; BUFFER], text: &[u8]) -> Result<&'b CStr, Errno> {
    if text.len() >= BUFFER {
        return Err(Errno::NAMETOOLONG);
    }
    buffer[..text.len()].copy_from_slice(text);
    buffer[text.len()] = 0;
    CStr::from_bytes_with_nul(&buffer[..=text.len()]).map_err(|_| Errno::INVAL)
}
