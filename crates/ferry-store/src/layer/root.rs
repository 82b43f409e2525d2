//! The only way to touch a path inside a layer: everything is relative to one directory descriptor, and the kernel
//! (`openat2(2)` with `RESOLVE_IN_ROOT`) keeps every link beneath it, as a chroot would.

use super::path::os;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// How many symbolic links one path may go through, as in the kernel.
const MAX_LINKS: usize = 40;

/// Names made on the way to a parent that no entry had named.
pub(crate) type Implied = Vec<Vec<u8>>;

/// A layer's root directory.
pub(crate) struct Root {
    fd: OwnedFd,
    /// The parent of the last entry: tars come directory by directory.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
}

/// Why a parent directory cannot be had.
pub(crate) enum ParentError {
    /// Something on the way is no directory, or too many links.
    Refused(String),
    Io(Errno),
}

impl From<Errno> for ParentError {
    fn from(e: Errno) -> Self {
        Self::Io(e)
    }
}

impl Root {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            fd: File::open(path)?.into(),
            last: None,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A directory by its path as seen in a chroot: links are followed, but never out of the root.
    pub(crate) fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() {
            OsStr::new(".")
        } else {
            os(path)
        };
        open_in_root(self.fd.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// A directory by its very path, with no link on the way.
    pub(crate) fn open_dir_exact(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() {
            OsStr::new(".")
        } else {
            os(path)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)
    }

    /// Forgets the remembered parent. To be called whenever something that existed is removed or replaced.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// The directory that holds `path`, made with its ancestors where missing. A link on the way is followed inside the root,
    /// dangling or not, as Docker and containerd do. What had to be made is added to `implied`.
    pub(crate) fn parent(&mut self, dir: &[u8], implied: &mut Implied) -> Result<Arc<OwnedFd>, ParentError> {
        if let Some((_, fd)) = self.last.as_ref().filter(|(last, _)| last == dir) {
            return Ok(fd.clone());
        }
        let fd = match self.open_dir(dir) {
            Err(Errno::NOENT) => self.make_parents(dir, implied)?,
            Err(Errno::NOTDIR) => self.make_parents(dir, implied)?,
            Err(Errno::LOOP) => {
                return Err(ParentError::Refused(
                    "its parent goes through too many links".into(),
                ));
            }
            other => other?,
        };
        let fd = Arc::new(fd);
        self.last = Some((dir.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// An existing directory that holds a hard link's target.
    pub(crate) fn existing_parent(&self, dir: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_dir(dir)
    }

    fn make_parents(&self, dir: &[u8], implied: &mut Implied) -> Result<OwnedFd, ParentError> {
        let mut todo: VecDeque<Vec<u8>> = parts(dir).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                done.pop();
                continue;
            }
            let here = self.open_dir_exact(&done.join(&b'/'))?;
            let stat = match stat_at(here.as_fd(), os(&name)) {
                Err(Errno::NOENT) => {
                    make_dir(here.as_fd(), os(&name), false)?;
                    done.push(name);
                    implied.push(done.join(&b'/'));
                    continue;
                }
                stat => stat?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => done.push(name),
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ParentError::Refused(
                            "its parent goes through too many links".into(),
                        ));
                    }
                    let target = rustix::fs::readlinkat(&here, os(&name), Vec::new())?;
                    if target.to_bytes().starts_with(b"/") {
                        done.clear();
                    }
                    for part in parts(target.to_bytes()).rev() {
                        todo.push_front(part);
                    }
                }
                _ if is_whiteout(&stat) => {
                    // The layer deletes this directory and makes it anew: what lies below stays hidden.
                    rustix::fs::unlinkat(&here, os(&name), AtFlags::empty())?;
                    make_dir(here.as_fd(), os(&name), true)?;
                    done.push(name);
                    implied.push(done.join(&b'/'));
                }
                _ => {
                    done.push(name);
                    let at = String::from_utf8_lossy(&done.join(&b'/')).into_owned();
                    return Err(ParentError::Refused(format!("its parent {at:?} is no directory")));
                }
            }
        }
        Ok(self.open_dir_exact(&done.join(&b'/'))?)
    }

    /// Gives the directory at this path its time. Something else that has taken its place meanwhile is left alone.
    pub(crate) fn set_times(&self, path: &[u8], mtime: (i64, u32)) -> Result<(), Errno> {
        let path = if path.is_empty() {
            OsStr::new(".")
        } else {
            os(path)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match open_in_root(self.fd.as_fd(), path, flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            dir => rustix::fs::futimens(&dir?, &times(mtime)),
        }
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

fn open_in_root(fd: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename elsewhere raced with "..". Nobody renames in staging, but renames anywhere on the system count.
    for _ in 0..100 {
        match rustix::fs::openat2(fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A directory in 0755 whatever the umask; opaque when what layers below have of it must stay hidden.
pub(crate) fn make_dir(at: BorrowedFd<'_>, name: &OsStr, opaque: bool) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755))?;
    let fd = open_child(at, name)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
    if opaque {
        set_opaque(fd.as_fd())?;
    }
    Ok(fd)
}

/// A directory right here, never through a link.
pub(crate) fn open_child(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

pub(crate) fn set_opaque(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, super::OPAQUE, b"y", rustix::fs::XattrFlags::empty())
}

pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 2];
    matches!(rustix::fs::fgetxattr(dir, super::OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}

pub(crate) fn stat_at(at: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Overlayfs's mark of a deleted name: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Modification time as given, access time the same.
pub(crate) fn times(mtime: (i64, u32)) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec {
        tv_sec: mtime.0,
        tv_nsec: i64::from(mtime.1),
    };
    rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Removes whatever has this name, a whole tree if need be, through the trash directory.
pub(crate) fn remove(at: BorrowedFd<'_>, name: &OsStr, trash: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other,
    }
    rustix::fs::renameat(at, name, rustix::fs::CWD, trash)
}
