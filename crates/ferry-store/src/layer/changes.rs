//! What a container changed: its upper directory against the layers below, in the words of `docker diff`.
//!
//! The walk holds one descriptor for each level and merged lower layer, so it stops at `MAX_DEPTH`.

use super::path::{join, os, owned};
use super::root::{is_opaque, is_whiteout, open_child, stat_at};
use crate::error::{Result, StoreError};
use crate::snapshot::{Change, ChangeKind};
use rustix::fs::{Dir, FileType, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Deeper than anything but a program that tries to be.
pub(crate) const MAX_DEPTH: usize = 512;

/// Names in a directory, sorted, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn too_deep(path: &[u8]) -> StoreError {
    StoreError::TooLarge {
        what: format!(
            "the container's tree at {:?}",
            String::from_utf8_lossy(&path[..path.len().min(200)])
        ),
        limit: format!("it is nested deeper than {MAX_DEPTH} directories"),
    }
}

fn fail(path: &[u8]) -> impl Fn(Errno) -> StoreError + '_ {
    move |e| StoreError::io("read", os(path), e)
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_dir(stat: &Stat) -> bool {
    file_type(stat) == FileType::Directory
}

pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    File::open(path)
        .map(Into::into)
        .map_err(|e| StoreError::io("open", path, e))
}

/// Bytes that the files beneath `dir` take on disk; a file with several names counts once.
pub(crate) fn usage(dir: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    walk(open(dir)?.as_fd(), &[], 0, &mut |_, stat| {
        if stat.st_nlink < 2 || is_dir(stat) || seen.insert(stat.st_ino) {
            total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    })?;
    Ok(total)
}

fn walk(dir: BorrowedFd<'_>, path: &[u8], depth: usize, see: &mut dyn FnMut(&[u8], &Stat)) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(too_deep(path));
    }
    for name in names(dir).map_err(fail(path))? {
        let stat = match stat_at(dir, os(&name)) {
            // It runs: files come and go.
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(fail(path))?,
        };
        see(&join(path, &name), &stat);
        if is_dir(&stat) {
            let child = match open_child(dir, os(&name)) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                child => child.map_err(fail(path))?,
            };
            walk(child.as_fd(), &join(path, &name), depth + 1, see)?;
        }
    }
    Ok(())
}

/// What overlayfs would show of a name in a stack of directories: the topmost thing, and if that is a directory, all the
/// directories that are merged into it, newest first.
struct Lower {
    top: Stat,
    dirs: Vec<OwnedFd>,
}

fn lookup(stack: &[OwnedFd], name: &[u8]) -> std::result::Result<Option<Lower>, Errno> {
    let mut found: Option<Lower> = None;
    for layer in stack {
        let stat = match stat_at(layer.as_fd(), os(name)) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if is_whiteout(&stat) {
            break;
        }
        if !is_dir(&stat) {
            if found.is_none() {
                found = Some(Lower {
                    top: stat,
                    dirs: Vec::new(),
                });
            }
            break;
        }
        let dir = open_child(layer.as_fd(), os(name))?;
        let opaque = is_opaque(dir.as_fd());
        found
            .get_or_insert(Lower {
                top: stat,
                dirs: Vec::new(),
            })
            .dirs
            .push(dir);
        if opaque {
            break;
        }
    }
    Ok(found)
}

/// Every name that a stack of directories shows.
fn merged_names(stack: &[OwnedFd]) -> std::result::Result<BTreeSet<Vec<u8>>, Errno> {
    let mut shown = BTreeSet::new();
    for layer in stack {
        shown.extend(names(layer.as_fd())?);
    }
    let mut hidden = Vec::new();
    for name in &shown {
        if lookup(stack, name)?.is_none() {
            hidden.push(name.clone());
        }
    }
    for name in hidden {
        shown.remove(&name);
    }
    Ok(shown)
}

/// The differences that `upper` makes to the stack `lowers` (newest first), sorted by path.
pub(crate) fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>> {
    let stack = lowers.iter().map(|l| open(l)).collect::<Result<Vec<_>>>()?;
    let mut found = Vec::new();
    compare(open(upper)?.as_fd(), &stack, &[], 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Compares one directory; says whether anything beneath it differs.
fn compare(
    upper: BorrowedFd<'_>,
    lowers: &[OwnedFd],
    path: &[u8],
    depth: usize,
    found: &mut Vec<Change>,
) -> Result<bool> {
    if depth > MAX_DEPTH {
        return Err(too_deep(path));
    }
    let before = found.len();
    let here = names(upper).map_err(fail(path))?;
    for name in &here {
        child(upper, lowers, &join(path, name), depth, found)?;
    }
    if depth > 0 && is_opaque(upper) {
        let kept: HashSet<&Vec<u8>> = here.iter().collect();
        for name in merged_names(lowers).map_err(fail(path))? {
            if !kept.contains(&name) {
                add(found, &join(path, &name), ChangeKind::Deleted);
            }
        }
    }
    Ok(found.len() > before)
}

fn child(
    upper: BorrowedFd<'_>,
    lowers: &[OwnedFd],
    path: &[u8],
    depth: usize,
    found: &mut Vec<Change>,
) -> Result<()> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let stat = match stat_at(upper, os(name)) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat.map_err(fail(path))?,
    };
    let below = lookup(lowers, name).map_err(fail(path))?;
    if is_whiteout(&stat) {
        if below.is_some() {
            add(found, path, ChangeKind::Deleted);
        }
        return Ok(());
    }
    let own = match &below {
        None => Some(ChangeKind::Added),
        Some(lower) => differs(&stat, &lower.top).then_some(ChangeKind::Modified),
    };
    if !is_dir(&stat) {
        if let Some(kind) = own {
            add(found, path, kind);
        }
        return Ok(());
    }
    let dir = match open_child(upper, os(name)) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        dir => dir.map_err(fail(path))?,
    };
    let dirs = below.map(|lower| lower.dirs).unwrap_or_default();
    let inside = compare(dir.as_fd(), &dirs, path, depth + 1, found)?;
    if let Some(kind) = own.or(inside.then_some(ChangeKind::Modified)) {
        add(found, path, kind);
    }
    Ok(())
}

/// Docker's rule: mode, owner, device, and for what is no directory also size and time.
fn differs(new: &Stat, old: &Stat) -> bool {
    let common = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid);
    if common(new) != common(old) {
        return true;
    }
    let device = matches!(file_type(new), FileType::CharacterDevice | FileType::BlockDevice);
    if device && new.st_rdev != old.st_rdev {
        return true;
    }
    let content = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
    !is_dir(new) && content(new) != content(old)
}

fn add(found: &mut Vec<Change>, path: &[u8], kind: ChangeKind) {
    let mut absolute = vec![b'/'];
    absolute.extend_from_slice(path);
    found.push(Change {
        path: owned(absolute).into(),
        kind,
    });
}
