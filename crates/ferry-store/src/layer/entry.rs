//! One tar entry at a time, made beneath a layer's root in overlayfs's form.
//!
//! The order of attributes is the kernel's: chown clears setuid bits and capabilities, so owner, mode, xattrs, then time.
//! A directory's time is kept until the end, since every child would change it. Nothing here follows a link in the last
//! component; links in parents are resolved by `Root` and stay inside.

use super::path::{InRoot, os};
use super::root::{self, Implied, ParentError, Root};
use super::{AUFS, Limits, OPAQUE_MARK, WHITEOUT};
use crate::error::{Result, StoreError};
use crate::layout::Layout;
use crate::tar::{Entry, Kind, Reader, TarError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The latest time a file is given (the year 2446, ext4's end).
const MAX_TIME: i64 = 0x3_7fff_ffff;

/// Makes entries beneath one root and remembers what must wait for the end.
pub(crate) struct Placer<'a> {
    root: Root,
    layout: &'a Layout,
    limits: &'a Limits,
    implied: Implied,
    times: Vec<(Vec<u8>, (i64, u32))>,
    opaque_root: bool,
    size: u64,
    entries: u64,
}

/// What the entries added up to.
pub(crate) struct Placed {
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) opaque_root: bool,
    /// Directories that no entry named, sorted.
    pub(crate) implied: Implied,
}

/// Why one entry cannot be made; its name is added by `place`.
enum Refusal {
    Entry(String),
    System(&'static str, Errno),
    Tar(TarError),
}

impl From<TarError> for Refusal {
    fn from(e: TarError) -> Self {
        Self::Tar(e)
    }
}

type Outcome<T> = std::result::Result<T, Refusal>;

fn at<T>(op: &'static str, result: std::result::Result<T, Errno>) -> Outcome<T> {
    result.map_err(|e| Refusal::System(op, e))
}

fn refuse<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Refusal::Entry(reason.into()))
}

impl<'a> Placer<'a> {
    pub(crate) fn new(fs: &Path, layout: &'a Layout, limits: &'a Limits) -> Result<Self> {
        let root = Root::open(fs).map_err(|e| StoreError::io("open", fs, e))?;
        Ok(Self {
            root,
            layout,
            limits,
            implied: Vec::new(),
            times: Vec::new(),
            opaque_root: false,
            size: 0,
            entries: 0,
        })
    }

    /// Makes one entry, its data taken from `tar`.
    pub(crate) fn place<R: BufRead>(&mut self, entry: &Entry, tar: &mut Reader<R>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            return Err(StoreError::TooLarge {
                what: "the layer".into(),
                limit: format!("it has more than {} entries", self.limits.max_entries),
            });
        }
        self.try_place(entry, tar).map_err(|refusal| match refusal {
            Refusal::Entry(reason) => StoreError::InvalidEntry {
                entry: entry.name(),
                reason,
            },
            Refusal::System(
                op,
                Errno::NAMETOOLONG | Errno::LOOP | Errno::EXIST | Errno::NOTDIR | Errno::FBIG,
            ) => StoreError::InvalidEntry {
                entry: entry.name(),
                reason: format!("{op} is impossible there"),
            },
            Refusal::System(op, e) => StoreError::io(op, entry.name(), e),
            Refusal::Tar(e) => tar_error(e),
        })
    }

    fn try_place<R: BufRead>(&mut self, entry: &Entry, tar: &mut Reader<R>) -> Outcome<()> {
        if entry.kind == Kind::Global {
            return Ok(());
        }
        let path = InRoot::parse(&entry.path, self.limits.max_depth).map_err(Refusal::Entry)?;
        let Some((dir, name)) = path.split() else {
            return self.root_entry(entry);
        };
        if dir
            .split(|&b| b == b'/')
            .chain([name])
            .any(|part| part.starts_with(AUFS))
            && name != OPAQUE_MARK
        {
            return Ok(());
        }
        if dir.split(|&b| b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return refuse("it lies beneath a whiteout");
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, dir, name);
        }
        let parent = self.parent(dir)?;
        let parent = parent.as_fd();
        if name == OPAQUE_MARK {
            self.opaque_root |= dir.is_empty();
            return at("mark as opaque", root::set_opaque(parent));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return whiteout(parent, hidden);
        }
        let name = os(name);
        match entry.kind {
            Kind::File => self.file(entry, tar, parent, name),
            Kind::Directory => self.directory(entry, parent, name, path.as_bytes()),
            Kind::Symlink => self.symlink(entry, parent, name),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(entry, parent, name),
            Kind::Unknown(byte) => refuse(format!("its type {:?} is unknown", char::from(byte))),
            Kind::HardLink | Kind::Global => Ok(()),
        }
    }

    fn parent(&mut self, dir: &[u8]) -> Outcome<Arc<OwnedFd>> {
        self.root.parent(dir, &mut self.implied).map_err(|e| match e {
            ParentError::Refused(reason) => Refusal::Entry(reason),
            ParentError::Io(e) => Refusal::System("open the parent of", e),
        })
    }

    /// The root may get attributes, but never become anything else.
    fn root_entry(&mut self, entry: &Entry) -> Outcome<()> {
        if entry.kind != Kind::Directory {
            return refuse("the layer's root can only be a directory");
        }
        attributes(self.root.fd(), entry)?;
        self.times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        tar: &mut Reader<R>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Outcome<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let fd = match create() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                at("create", create())?
            }
            fd => at("create", fd)?,
        };
        let file = File::from(fd);
        let mut end = 0;
        tar.data(|offset, chunk| {
            end = offset + chunk.len() as u64;
            file.write_all_at(chunk, offset).map_err(|e| write_error(&e))
        })?;
        if end < entry.size {
            file.set_len(entry.size).map_err(|e| write_error(&e))?;
        }
        self.size += entry.size;
        attributes(file.as_fd(), entry)?;
        at(
            "set the time of",
            rustix::fs::futimens(&file, &root::times(bounded(entry.mtime))),
        )
    }

    fn directory(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Outcome<()> {
        let fd = match root::make_dir(parent, name, false) {
            Err(Errno::EXIST) => {
                let stat = at("stat", root::stat_at(parent, name))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    at("open", root::open_child(parent, name))?
                } else {
                    // In this layer something else was here before, or it was deleted: nothing from below may shine through.
                    self.clear(parent, name)?;
                    at("create directory", root::make_dir(parent, name, true))?
                }
            }
            fd => at("create directory", fd)?,
        };
        attributes(fd.as_fd(), entry)?;
        self.times.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return refuse("a symbolic link without a usable target");
        }
        let make = || rustix::fs::symlinkat(os(&entry.link), parent, name);
        match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                at("create symbolic link", make())?;
            }
            made => at("create symbolic link", made)?,
        }
        self.own_and_date(entry, parent, name)
    }

    fn node(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<()> {
        let (kind, device) = match entry.kind {
            Kind::CharDevice => (
                FileType::CharacterDevice,
                rustix::fs::makedev(entry.major, entry.minor),
            ),
            Kind::BlockDevice => (
                FileType::BlockDevice,
                rustix::fs::makedev(entry.major, entry.minor),
            ),
            _ => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(entry.mode);
        let make = || rustix::fs::mknodat(parent, name, kind, mode, device);
        match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                at("create node", make())?;
            }
            made => at("create node", made)?,
        }
        self.own_and_date(entry, parent, name)?;
        // No link: the node was made a moment ago, and nobody else writes here.
        at("chmod", rustix::fs::chmodat(parent, name, mode, AtFlags::empty()))
    }

    fn own_and_date(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        at(
            "chown",
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), nofollow),
        )?;
        let times = root::times(bounded(entry.mtime));
        at(
            "set the time of",
            rustix::fs::utimensat(parent, name, &times, nofollow),
        )
    }

    /// The target is looked for in this layer only, and may not be a directory.
    fn hard_link(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Outcome<()> {
        let target = InRoot::parse(&entry.link, self.limits.max_depth)
            .map_err(|e| Refusal::Entry(format!("of its target {:?}: {e}", lossy(&entry.link))))?;
        let missing = || format!("its target {:?} is not in this layer", lossy(&entry.link));
        let Some((target_dir, target_name)) = target.split() else {
            return refuse("a hard link to the layer's root");
        };
        let parent = self.parent(dir)?;
        let source = match self.root.existing_parent(target_dir) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return refuse(missing()),
            source => at("open the target's parent of", source)?,
        };
        let stat = match root::stat_at(source.as_fd(), os(target_name)) {
            Err(Errno::NOENT) => return refuse(missing()),
            stat => at("stat the target of", stat)?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return refuse("a hard link to a directory");
        }
        if root::is_whiteout(&stat) {
            return refuse(missing());
        }
        let make = || {
            rustix::fs::linkat(
                &source,
                os(target_name),
                parent.as_fd(),
                os(name),
                AtFlags::empty(),
            )
        };
        match make() {
            Err(Errno::EXIST) => {
                let old = at("stat", root::stat_at(parent.as_fd(), os(name)))?;
                if (old.st_ino, old.st_dev) == (stat.st_ino, stat.st_dev) {
                    return Ok(());
                }
                self.clear(parent.as_fd(), os(name))?;
                at("link", make())
            }
            made => at("link", made),
        }
    }

    /// Makes way for an entry that comes a second time as something else.
    fn clear(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<()> {
        self.root.forget();
        at("replace", root::remove(parent, name, &self.layout.new_trash()))
    }

    /// Sets the directories' times, deepest last entries included, and tells what there was.
    pub(crate) fn finish(mut self) -> Result<Placed> {
        for (path, mtime) in &self.times {
            self.root
                .set_times(path, bounded(*mtime))
                .map_err(|e| StoreError::io("set the time of", os(path), e))?;
        }
        let named: HashSet<&[u8]> = self.times.iter().map(|(path, _)| path.as_slice()).collect();
        self.implied.retain(|path| !named.contains(path.as_slice()));
        self.implied.sort();
        self.implied.dedup();
        Ok(Placed {
            size: self.size,
            entries: self.entries,
            opaque_root: self.opaque_root,
            implied: self.implied,
        })
    }
}

/// Marks a name as deleted from what lies below. What this very layer has there stays, and only hides what is below.
fn whiteout(parent: BorrowedFd<'_>, hidden: &[u8]) -> Outcome<()> {
    if matches!(hidden, b"" | b"." | b"..") {
        return refuse("a whiteout of no name");
    }
    match rustix::fs::mknodat(parent, os(hidden), FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => {
            let stat = at("stat", root::stat_at(parent, os(hidden)))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let dir = at("open", root::open_child(parent, os(hidden)))?;
                at("mark as opaque", root::set_opaque(dir.as_fd()))?;
            }
            Ok(())
        }
        made => at("create whiteout", made),
    }
}

/// Owner, mode and extended attributes of an open file or directory.
fn attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Outcome<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    at("chown", rustix::fs::fchown(fd, Some(uid), Some(gid)))?;
    at("chmod", rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_wanted(name)) {
        match rustix::fs::fsetxattr(fd, os(name), value, XattrFlags::empty()) {
            // The file system has none of that kind, which other engines accept as well.
            Err(Errno::OPNOTSUPP) => {}
            Err(Errno::RANGE | Errno::TOOBIG | Errno::INVAL) => {
                return refuse(format!(
                    "its extended attribute {:?} is refused by the kernel",
                    lossy(name)
                ));
            }
            done => at("set an extended attribute of", done)?,
        }
    }
    Ok(())
}

/// Attributes that a layer may carry. Never `trusted.*` or `user.overlay.*`, with which it could redirect overlayfs to other
/// directories, and no security label of the machine that built it.
pub(crate) fn is_wanted(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0),
    }
}

/// Times that a file system cannot hold become 1970, as containerd does.
fn bounded(mtime: (i64, u32)) -> (i64, u32) {
    if (0..=MAX_TIME).contains(&mtime.0) {
        mtime
    } else {
        (0, 0)
    }
}

fn write_error(e: &std::io::Error) -> Refusal {
    Refusal::System(
        "write",
        e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    )
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A tar's error in the store's words. One that the store itself put into the stream comes out as it was.
pub(crate) fn tar_error(e: TarError) -> StoreError {
    match e {
        TarError::Malformed(reason) => StoreError::invalid("layer tar", reason),
        TarError::Truncated => StoreError::invalid("layer tar", TarError::Truncated),
        TarError::TooLarge(limit) => StoreError::TooLarge {
            what: "the layer".into(),
            limit,
        },
        TarError::Io(e) => match e.downcast::<StoreError>() {
            Ok(ours) => ours,
            Err(e) => StoreError::io("read", "layer", e),
        },
    }
}
