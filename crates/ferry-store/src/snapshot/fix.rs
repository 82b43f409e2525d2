//! Implied directories, put right.
//!
//! A layer whose tar has `tmp/x` but no `tmp/` says nothing about the mode of `tmp`, yet overlayfs shows the attributes of the
//! topmost directory, so a layer unpacked on its own would turn `/tmp` into 0755. Which attributes are right depends on the
//! layers below. So for a stack that has such layers, one more directory on top holds just those directories with the
//! attributes that the stack means. It is made once for each stack and can be made again at any time.

use crate::disk::Stage;
use crate::error::{Result, StoreError};
use crate::hash;
use crate::layer::changes::is_dir;
use crate::layer::path::os;
use crate::layer::root::{self, Root, is_opaque, is_whiteout, stat_at};
use crate::layout::{self, Layout};
use ferry_oci::{Algorithm, Digest};
use rustix::fs::{Mode, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a directory should look like.
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
}

/// The extra lower for this stack, `None` when every implied directory happens to be right. `lowers` and `implied` are newest
/// first; `home` is the directory of the topmost layer, where the result lies and with which it goes.
pub(super) fn layer(
    layout: &Layout,
    home: &Path,
    layers: &[Digest],
    lowers: &[PathBuf],
    implied: &[&[Vec<u8>]],
) -> Result<Option<PathBuf>> {
    let chain: String = layers.iter().map(Digest::to_string).collect();
    let path = layout::layer::fix(
        home,
        &hash::digest(Algorithm::Sha256, chain.as_bytes()).hex()[..16],
    );
    if path.is_dir() {
        return Ok(Some(path));
    }
    let wrong = wrong(lowers, implied)?;
    if wrong.is_empty() {
        return Ok(None);
    }
    let stage = Stage::new(layout)?;
    make(stage.path(), &wrong, lowers)?;
    stage.rename(&path)?;
    Ok(Some(path))
}

/// Directories whose topmost appearance is an implied one, with what the layers below say. Where none says anything, an
/// implied directory stays as it is.
fn wrong(lowers: &[PathBuf], implied: &[&[Vec<u8>]]) -> Result<BTreeMap<Vec<u8>, Attributes>> {
    let roots = open_all(lowers)?;
    let mut wrong = BTreeMap::new();
    for (at, paths) in implied.iter().enumerate() {
        for path in *paths {
            if wrong.contains_key(path) || appears_above(&roots[..at], path)? {
                continue;
            }
            let mut meant = None;
            for below in at..roots.len() {
                match look(&roots[below], path)? {
                    Seen::Absent => {}
                    Seen::Hidden => break,
                    Seen::Directory(stat, opaque) => {
                        if !implied[below].contains(path) {
                            meant = Some(stat);
                            break;
                        }
                        if opaque {
                            break;
                        }
                    }
                }
            }
            if let Some(stat) = meant {
                let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
                let mode = stat.st_mode & 0o7777;
                wrong.insert(
                    path.clone(),
                    Attributes {
                        mode,
                        uid: stat.st_uid,
                        gid: stat.st_gid,
                        mtime,
                    },
                );
            }
        }
    }
    Ok(wrong)
}

fn open_all(lowers: &[PathBuf]) -> Result<Vec<Root>> {
    lowers
        .iter()
        .map(|l| Root::open(l).map_err(|e| StoreError::io("open", l, e)))
        .collect()
}

fn appears_above(above: &[Root], path: &[u8]) -> Result<bool> {
    for root in above {
        if !matches!(look(root, path)?, Seen::Absent) {
            return Ok(true);
        }
    }
    Ok(false)
}

enum Seen {
    Absent,
    /// Something on the way or at the end hides what is below.
    Hidden,
    /// A directory, and whether it or one above it is opaque.
    Directory(Stat, bool),
}

fn look(root: &Root, path: &[u8]) -> Result<Seen> {
    let failed = |e: Errno| StoreError::io("look for", os(path), e);
    let mut here: OwnedFd = root.open_dir_exact(b"").map_err(failed)?;
    let mut opaque = false;
    let mut names = path.split(|&b| b == b'/').peekable();
    while let Some(name) = names.next() {
        let stat = match stat_at(here.as_fd(), os(name)) {
            Err(Errno::NOENT) if opaque => return Ok(Seen::Hidden),
            Err(Errno::NOENT) => return Ok(Seen::Absent),
            stat => stat.map_err(failed)?,
        };
        if is_whiteout(&stat) || !is_dir(&stat) {
            return Ok(Seen::Hidden);
        }
        here = root::open_child(here.as_fd(), os(name)).map_err(failed)?;
        opaque |= is_opaque(here.as_fd());
        if names.peek().is_none() {
            return Ok(Seen::Directory(stat, opaque));
        }
    }
    Ok(Seen::Absent)
}

/// Makes the directories with their ancestors, which get the attributes that the stack shows for them.
fn make(top: &Path, wrong: &BTreeMap<Vec<u8>, Attributes>, lowers: &[PathBuf]) -> Result<()> {
    let failed = |path: &[u8]| {
        let path = os(path).to_owned();
        move |e: Errno| StoreError::io("make directory", &path, e)
    };
    let shown = open_all(lowers)?;
    let root = Root::open(top).map_err(|e| StoreError::io("open", top, e))?;
    rustix::fs::fchmod(root.fd(), Mode::from_raw_mode(0o755)).map_err(failed(b""))?;
    let mut all: BTreeMap<Vec<u8>, Attributes> = BTreeMap::new();
    for path in wrong.keys() {
        for (slash, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let ancestor = path[..slash].to_vec();
            if !wrong.contains_key(&ancestor)
                && !all.contains_key(&ancestor)
                && let Some(seen) = topmost(&shown, &ancestor)?
            {
                all.insert(ancestor, seen);
            }
        }
    }
    let all: BTreeMap<&Vec<u8>, &Attributes> = all.iter().chain(wrong).collect();
    for (path, attributes) in &all {
        let (dir, name) = path
            .iter()
            .rposition(|&b| b == b'/')
            .map_or((&[][..], &path[..]), |slash| (&path[..slash], &path[slash + 1..]));
        let parent = root.open_dir_exact(dir).map_err(failed(path))?;
        let fd = root::make_dir(parent.as_fd(), os(name), false).map_err(failed(path))?;
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(attributes.uid),
            rustix::fs::Gid::from_raw(attributes.gid),
        );
        rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(failed(path))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)).map_err(failed(path))?;
    }
    for (path, attributes) in all.iter().rev() {
        root.set_times(path, attributes.mtime).map_err(failed(path))?;
    }
    Ok(())
}

fn topmost(shown: &[Root], path: &[u8]) -> Result<Option<Attributes>> {
    for root in shown {
        if let Seen::Directory(stat, _) = look(root, path)? {
            let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
            let mode = stat.st_mode & 0o7777;
            return Ok(Some(Attributes {
                mode,
                uid: stat.st_uid,
                gid: stat.st_gid,
                mtime,
            }));
        }
    }
    Ok(None)
}
