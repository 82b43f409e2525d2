//! The commit protocol's steps, moving things to the trash and taking them out for good.

use crate::error::{Result, StoreError};
use crate::layout::Layout;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, taking over from a holder that panicked: every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new file in 0600 that nobody else has.
pub(crate) fn create_new(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io("create", path, e))
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let fd = File::open(dir).map_err(|e| StoreError::io("open", dir, e))?;
    fd.sync_all().map_err(|e| StoreError::io("fsync", dir, e))
}

/// Makes everything on the file system of `path` durable.
pub(crate) fn sync_fs(path: &Path) -> Result<()> {
    let fd = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    rustix::fs::syncfs(&fd).map_err(|e| StoreError::io("syncfs", path, e))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| StoreError::io("rename to", to, e))
}

/// The last steps of the protocol for a file whose data is synced: rename, then fsync both parents.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    rename(from, to)?;
    for parent in [to.parent(), from.parent()].into_iter().flatten() {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Writes a whole small file by the protocol.
pub(crate) fn write_file(layout: &Layout, to: &Path, bytes: &[u8]) -> Result<()> {
    let staged = layout.new_staging();
    let result = (|| {
        let mut file = create_new(&staged)?;
        file.write_all(bytes)
            .map_err(|e| StoreError::io("write", &staged, e))?;
        file.sync_all().map_err(|e| StoreError::io("fsync", &staged, e))?;
        publish(&staged, to)
    })();
    if result.is_err() {
        // The cause is what the caller must see; what is left in staging goes at the next start.
        let _ = fs::remove_file(&staged);
    }
    result
}

/// Takes `path` out of sight in one step. Absence is success.
pub(crate) fn discard(layout: &Layout, path: &Path) -> Result<()> {
    match fs::rename(path, layout.new_trash()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|e| StoreError::io("remove", path, e)),
    }
}

/// Deletes everything in the trash. Goes on after a failure and reports the first one.
pub(crate) fn empty_trash(layout: &Layout) -> Result<()> {
    let _alone = lock(&layout.emptying);
    empty(&layout.trash())
}

fn empty(dir: &Path) -> Result<()> {
    let fd = File::open(dir).map_err(|e| StoreError::io("open", dir, e))?;
    empty_at(fd.as_fd()).map_err(|e| StoreError::io("remove from", dir, e))
}

/// How deep the walk goes with one descriptor a level; what lies deeper is first moved up to the top.
const DEPTH: usize = 64;
static UNIQUE: AtomicU64 = AtomicU64::new(0);

/// A container may have made a tree deeper than any stack or descriptor table: deep parts are renamed to the top and
/// taken in a later round, so this needs `DEPTH` descriptors and no memory that grows with the tree.
fn empty_at(top: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let mut moved = 0u64;
    loop {
        let before = moved;
        let mut first_error = None;
        remove_children(top, top, 0, &mut moved, &mut first_error);
        if moved == before {
            return first_error.map_or(Ok(()), Err);
        }
    }
}

fn remove_children(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
    failed: &mut Option<Errno>,
) {
    let mut fail = |e: Errno| {
        failed.get_or_insert(e);
    };
    let mut listing = match Dir::read_from(dir) {
        Ok(listing) => listing,
        Err(e) => return fail(e),
    };
    while let Some(entry) = listing.read() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => return fail(e),
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(e) => {
                    fail(e);
                    continue;
                }
            }
        }
        if let Err(e) = remove_directory(top, dir, name, depth, moved) {
            fail(e);
        }
    }
}

fn remove_directory(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    moved: &mut u64,
) -> std::result::Result<(), Errno> {
    if matches!(
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        Ok(()) | Err(Errno::NOENT)
    ) {
        return Ok(());
    }
    if depth >= DEPTH {
        let n = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let up = CString::new(format!("deep-{}-{n}", std::process::id())).expect("no NUL in it");
        rustix::fs::renameat(dir, name, top, &up)?;
        *moved += 1;
        return Ok(());
    }
    let child = open_dir(dir, name)?;
    let mut failed = None;
    remove_children(top, child.as_fd(), depth + 1, moved, &mut failed);
    drop(child);
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(failed.unwrap_or(e)),
    }
}

/// Opens a directory without following a link.
pub(crate) fn open_dir(at: BorrowedFd<'_>, name: &CStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// A directory in staging that goes to the trash unless it is published.
pub(crate) struct Stage<'a> {
    layout: &'a Layout,
    path: std::path::PathBuf,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Result<Self> {
        let path = layout.new_staging();
        fs::create_dir(&path).map_err(|e| StoreError::io("create directory", &path, e))?;
        Ok(Self { layout, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its final name (no fsync).
    pub(crate) fn rename(self, to: &Path) -> Result<()> {
        rename(&self.path, to)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // After `rename` there is nothing here any more. On a full disk even a rename may fail: then the start-up cleans.
        if discard(self.layout, &self.path).is_ok() {
            let _ = empty_trash(self.layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_stack_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut here: OwnedFd = File::open(dir.path()).unwrap().into();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&here, c"deeper", Mode::RWXU).unwrap();
            here = open_dir(here.as_fd(), c"deeper").unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(rustix::fs::openat(&here, c"file", flags, Mode::RUSR).unwrap());
        drop(here);
        fs::write(dir.path().join("beside"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }
}
