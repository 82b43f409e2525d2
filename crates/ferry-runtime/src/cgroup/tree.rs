//! Files of one cgroup directory, by fd.

use super::{CgroupError, Knob, Version, bad_value, unsupported};
use ferry_oci::runtime::Resources;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// No file of a cgroup that this crate reads is longer, `cgroup.procs` of a million tasks included.
const LONGEST_FILE: usize = 16 << 20;
/// How deep a tree inside a container's cgroup is followed.
const DEEPEST_TREE: usize = 64;

/// An open cgroup directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// For messages.
    path: String,
}

impl Dir {
    /// Opens `relative` beneath `at`; `path` is what messages say.
    pub fn open(at: BorrowedFd<'_>, relative: &str, path: String) -> Result<Dir, CgroupError> {
        let relative = if relative.is_empty() { "." } else { relative };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(at, relative, flags, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(Errno::NOENT) => Err(CgroupError::NotFound { path }),
            Err(errno) => Err(io("open", path, errno)),
        }
    }

    /// The path that messages show.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens one file of the directory.
    pub fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.fd,
            file,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
    }

    /// Writes `value` with one system call, as the kernel wants it.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let fd = self.open_file(file, OFlags::WRONLY)?;
        write_value(fd.as_fd(), value)
    }

    /// The whole text of a file; `None` when this kernel has no such file.
    pub fn read(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match self.read_raw(file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.io("read", file, errno)),
        }
    }

    fn read_raw(&self, file: &str) -> Result<String, Errno> {
        let fd = self.open_file(file, OFlags::RDONLY)?;
        let mut text = Vec::with_capacity(4096);
        while text.len() < LONGEST_FILE {
            text.reserve(4096);
            if rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut text))? == 0 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A file that holds one number; `max` reads as `u64::MAX`.
    pub fn number(&self, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self.read(file)?.and_then(|text| number(text.trim())))
    }

    /// Whether the kernel offers this file.
    pub fn has(&self, file: &str) -> bool {
        rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Names of the cgroups directly inside.
    pub fn children(&self) -> Result<Vec<String>, CgroupError> {
        let list = || -> Result<Vec<String>, Errno> {
            let fd = self.open_file(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::new(fd)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy();
                if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
                    names.push(name.into_owned());
                }
            }
            Ok(names)
        };
        match list() {
            Err(Errno::NOENT | Errno::NODEV) => Ok(Vec::new()),
            other => other.map_err(|errno| self.io("list", "", errno)),
        }
    }

    /// The directory of a child.
    pub fn child(&self, name: &str) -> Result<Dir, CgroupError> {
        Dir::open(self.as_fd(), name, format!("{}/{name}", self.path))
    }

    /// An error about one file of this directory.
    pub fn io(&self, op: &'static str, file: &str, errno: Errno) -> CgroupError {
        let path = if file.is_empty() {
            self.path.clone()
        } else {
            format!("{}/{file}", self.path)
        };
        io(op, path, errno)
    }

    /// Calls `visit` for this directory and everything below.
    pub fn walk(&self, visit: &mut dyn FnMut(&Dir) -> Result<(), CgroupError>) -> Result<(), CgroupError> {
        self.walk_from(visit, 0)
    }

    fn walk_from(
        &self,
        visit: &mut dyn FnMut(&Dir) -> Result<(), CgroupError>,
        depth: usize,
    ) -> Result<(), CgroupError> {
        visit(self)?;
        if depth == DEEPEST_TREE {
            return Ok(());
        }
        for name in self.children()? {
            match self.child(&name) {
                Ok(child) => child.walk_from(visit, depth + 1)?,
                Err(CgroupError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One system call's worth of writing, retried when a signal comes between.
pub(crate) fn write_value(fd: BorrowedFd<'_>, value: &str) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::io::write(fd, value.as_bytes())).map(|_| ())
}

/// Writes knobs in their order. One that the kernel finds invalid is tried again after the others, since some are valid
/// only once another is changed (a quota above the old burst, a limit above the old one of memory and swap).
pub(crate) fn write_all(
    dir: &Dir,
    _version: Version,
    knobs: &[Knob],
    _resources: &Resources,
) -> Result<(), CgroupError> {
    let mut pending: Vec<&Knob> = knobs.iter().collect();
    while !pending.is_empty() {
        let mut refused = Vec::new();
        for knob in &pending {
            match dir.write(&knob.file, &knob.value) {
                Ok(()) => {}
                Err(Errno::INVAL) => refused.push(*knob),
                Err(errno) => return Err(knob_error(dir, knob, errno)),
            }
        }
        match refused.first() {
            Some(knob) if refused.len() == pending.len() => return Err(knob_error(dir, knob, Errno::INVAL)),
            _ => pending = refused,
        }
    }
    Ok(())
}

/// Writes one knob; a refusal is told in the specification's words.
pub(crate) fn write_knob(dir: &Dir, knob: &Knob) -> Result<(), CgroupError> {
    dir.write(&knob.file, &knob.value)
        .map_err(|errno| knob_error(dir, knob, errno))
}

/// What a refused write of a knob means.
pub(crate) fn knob_error(dir: &Dir, knob: &Knob, errno: Errno) -> CgroupError {
    match errno {
        Errno::NOENT if dir.has(".") => {
            unsupported(knob.field, format!("the kernel does not offer {}", knob.file))
        }
        Errno::OPNOTSUPP => unsupported(knob.field, format!("the kernel refuses {}", knob.file)),
        Errno::INVAL | Errno::RANGE | Errno::NODEV | Errno::NXIO | Errno::BUSY => bad_value(
            knob.field,
            &knob.value,
            format!("{}/{}: {}", dir.path(), knob.file, std::io::Error::from(errno)),
        ),
        errno => dir.io("write", &knob.file, errno),
    }
}

/// Removes the cgroup `relative` beneath `at` with all below it. The kernel answers EBUSY until the last process is
/// gone from its lists, shortly after it was reaped, so this retries until `patience` is over. Gone already is fine.
pub(crate) fn remove(
    at: BorrowedFd<'_>,
    relative: &str,
    path: &str,
    patience: Duration,
) -> Result<(), CgroupError> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(100);
    loop {
        match rustix::fs::unlinkat(at, relative, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => remove_children(at, relative, path)?,
            Err(errno) => return Err(io("rmdir", path, errno)),
        }
        match rustix::fs::unlinkat(at, relative, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) if Instant::now() < deadline => {}
            Err(Errno::BUSY | Errno::NOTEMPTY) => {
                return Err(CgroupError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(io("rmdir", path, errno)),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_children(at: BorrowedFd<'_>, relative: &str, path: &str) -> Result<(), CgroupError> {
    let dir = match Dir::open(at, relative, path.to_owned()) {
        Ok(dir) => dir,
        Err(CgroupError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    remove_below(&dir, 0)
}

fn remove_below(dir: &Dir, depth: usize) -> Result<(), CgroupError> {
    if depth == DEEPEST_TREE {
        return Ok(());
    }
    for name in dir.children()? {
        match dir.child(&name) {
            Ok(child) => remove_below(&child, depth + 1)?,
            Err(CgroupError::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        }
        match rustix::fs::unlinkat(dir.as_fd(), name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(dir.io("rmdir", &name, errno)),
        }
    }
    Ok(())
}

/// An [`CgroupError::Io`].
pub(crate) fn io(op: &'static str, path: impl Into<String>, errno: Errno) -> CgroupError {
    CgroupError::Io {
        op,
        path: path.into(),
        source: errno.into(),
    }
}

/// A decimal number, or `max`.
pub(crate) fn number(text: &str) -> Option<u64> {
    if text == "max" {
        Some(u64::MAX)
    } else {
        text.parse().ok()
    }
}

/// `key value` lines (`memory.stat`, `cpu.stat`).
pub(crate) fn flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value.trim())?))
    })
}

/// `name key=value key=value` lines (`io.stat`, `rdma.current`).
pub(crate) fn nested_keyed(text: &str) -> impl Iterator<Item = (&str, Vec<(&str, u64)>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let pairs = words.filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            Some((key, number(value)?))
        });
        Some((name, pairs.collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_keyed_files() {
        assert_eq!(number("max"), Some(u64::MAX));
        assert_eq!(number("12"), Some(12));
        assert_eq!(number("-1"), None);
        assert_eq!(
            flat_keyed("a 1\nbad\nb 2\n").collect::<Vec<_>>(),
            [("a", 1), ("b", 2)]
        );
        let nested = nested_keyed("8:0 rbytes=1 wbytes=max\n").collect::<Vec<_>>();
        assert_eq!(nested, [("8:0", vec![("rbytes", 1), ("wbytes", u64::MAX)])]);
    }

    #[test]
    fn a_missing_file_is_unsupported_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(temp.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let dir = Dir::open(root.as_fd(), "", "/g".into()).unwrap();
        let error = write_knob(&dir, &Knob::new("blockIO.weight", "blkio.weight", "10")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "blockIO.weight is not supported here: the kernel does not offer blkio.weight"
        );
        assert!(dir.read("nothing").unwrap().is_none());
    }

    #[test]
    fn removing_takes_children_along() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("g/a/b")).unwrap();
        std::fs::create_dir_all(temp.path().join("g/c")).unwrap();
        let root = rustix::fs::open(temp.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove(root.as_fd(), "g", "/g", Duration::ZERO).unwrap();
        assert!(!temp.path().join("g").exists());
        remove(root.as_fd(), "g", "/g", Duration::ZERO).unwrap();
    }
}
