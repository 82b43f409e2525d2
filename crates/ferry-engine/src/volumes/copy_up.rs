//! Copying an image's directory into an empty volume: owners, modes, times, extended attributes, links, devices.
//!
//! Everything is reached through descriptors; nothing that lies in the image can lead out of it or of the volume.

use crate::{Error, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, fchown, fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat, openat2,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How deep directories may be nested.
const MAX_DEPTH: usize = 512;
/// The most bytes of one extended attribute, and of their names (xattr(7)).
const MAX_XATTR: usize = 64 * 1024;

/// Copies what lies at `path` of the image whose root is `image` into `volume`, if the volume is empty. False when there is nothing to copy.
///
/// # Errors
/// [`crate::Kind::Invalid`] when there is a file at `path`; [`crate::Kind::Internal`] when something cannot be copied.
pub(crate) fn copy_up(image: BorrowedFd<'_>, path: &str, volume: &Path) -> Result<bool> {
    let failed = |what: &str, e: Errno| {
        Error::internal(
            format!("failed to populate volume: {what}"),
            std::io::Error::from(e),
        )
    };
    let beneath = path.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let beneath = if beneath.is_empty() { "." } else { beneath };
    let source = match openat2(image, beneath, flags | OFlags::DIRECTORY, Mode::empty(), resolve) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::NOTDIR) => {
            return Err(Error::invalid(format!(
                "cannot mount volume over existing file, file exists {path}"
            )));
        }
        Err(e) => return Err(failed(path, e)),
    };
    let target = rustix::fs::open(
        volume,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|e| failed(&volume.display().to_string(), e))?;
    if !is_empty(target.as_fd()).map_err(|e| failed("reading the volume", e))? {
        return Ok(false);
    }
    let mut copy = Copy {
        root: target
            .try_clone()
            .map_err(|e| Error::internal("failed to populate volume", e))?,
        links: BTreeMap::new(),
    };
    copy.directory(source.as_fd(), target.as_fd(), "", 0)
        .map_err(|e| failed(path, e))?;
    let found = rustix::fs::fstat(&source).map_err(|e| failed(path, e))?;
    attributes(source.as_fd(), target.as_fd(), &found).map_err(|e| failed(path, e))?;
    rustix::fs::syncfs(&target).map_err(|e| failed("syncing", e))?;
    Ok(true)
}

fn is_empty(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut buffer = Vec::with_capacity(1024);
    let fresh = openat(
        dir,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut entries = RawDir::new(fresh, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Copy {
    root: OwnedFd,
    /// Files with several names, by inode: where the first copy lies below the root.
    links: BTreeMap<(u64, u64), CString>,
}

impl Copy {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> rustix::io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::LOOP);
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let below = format!(
                "{path}{}{}",
                if path.is_empty() { "" } else { "/" },
                name.to_string_lossy()
            );
            self.entry(from, to, (name, &below), depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        (name, below): (&CStr, &str),
        depth: usize,
    ) -> rustix::io::Result<()> {
        let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind != FileType::Directory && found.st_nlink > 1 {
            if let Some(first) = self.links.get(&(found.st_dev, found.st_ino)) {
                return linkat(&self.root, first.as_c_str(), to, name, AtFlags::empty());
            }
            if let Ok(first) = CString::new(below) {
                self.links.insert((found.st_dev, found.st_ino), first);
            }
        }
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = openat(from, name, flags, Mode::empty())?;
                let target = openat(to, name, flags, Mode::empty())?;
                self.directory(source.as_fd(), target.as_fd(), below, depth + 1)?;
                attributes(source.as_fd(), target.as_fd(), &found)
            }
            FileType::RegularFile => file(from, to, name, &found),
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new())?;
                symlinkat(target.as_c_str(), to, name)?;
                by_name(to, name, &found)
            }
            FileType::Socket | FileType::Unknown => Ok(()),
            kind => {
                mknodat(
                    to,
                    name,
                    kind,
                    Mode::from_raw_mode(found.st_mode & 0o7777),
                    found.st_rdev,
                )?;
                by_name(to, name, &found)?;
                rustix::fs::chmodat(
                    to,
                    name,
                    Mode::from_raw_mode(found.st_mode & 0o7777),
                    AtFlags::empty(),
                )
            }
        }
    }
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, found: &Stat) -> rustix::io::Result<()> {
    let source = openat(
        from,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    contents(&source, &target)?;
    attributes(source.as_fd(), target.as_fd(), found)
}

fn contents(source: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let mut fast = true;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        if fast {
            match rustix::fs::copy_file_range(source, None, target, None, 1 << 30) {
                Ok(0) => return Ok(()),
                Ok(_) => continue,
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => fast = false,
                Err(e) => return Err(e),
            }
        }
        let n = rustix::io::retry_on_intr(|| rustix::io::read(source, &mut buffer))?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(target, rest))?;
            rest = &rest[written..];
        }
    }
}

fn times(found: &Stat) -> Timestamps {
    let at = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: at(found.st_atime, found.st_atime_nsec),
        last_modification: at(found.st_mtime, found.st_mtime_nsec),
    }
}

/// Owner before mode, since a change of owner clears set-id bits; attributes before times.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, found: &Stat) -> rustix::io::Result<()> {
    fchown(
        to,
        Some(Uid::from_raw(found.st_uid)),
        Some(Gid::from_raw(found.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    extended(from, to)?;
    rustix::fs::futimens(to, &times(found))
}

fn by_name(to: BorrowedFd<'_>, name: &CStr, found: &Stat) -> rustix::io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(
        to,
        name,
        Some(Uid::from_raw(found.st_uid)),
        Some(Gid::from_raw(found.st_gid)),
        flags,
    )?;
    utimensat(to, name, &times(found), flags)
}

/// All but overlayfs's own.
fn extended(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0u8; MAX_XATTR];
    let length = match flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    for name in names[..length].split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; MAX_XATTR];
        let length = fgetxattr(from, name, &mut value)?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // The volume's file system may know fewer kinds of attributes than the image's.
            Err(Errno::OPNOTSUPP) => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn everything_is_copied_once_and_nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let (image, volume) = (dir.path().join("image"), dir.path().join("volume"));
        fs::create_dir_all(image.join("srv/deep")).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(image.join("srv/a"), b"content").unwrap();
        fs::set_permissions(image.join("srv/a"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(image.join("srv/a"), image.join("srv/deep/b")).unwrap();
        symlink("/etc/passwd", image.join("srv/link")).unwrap();
        symlink("/srv", image.join("alias")).unwrap();
        symlink("/../../../../etc", image.join("out")).unwrap();
        fs::set_permissions(image.join("srv"), fs::Permissions::from_mode(0o1777)).unwrap();
        let root = fs::File::open(&image).unwrap();
        assert!(copy_up(root.as_fd(), "/alias", &volume).unwrap());
        assert_eq!(fs::read(volume.join("a")).unwrap(), b"content");
        let found = fs::metadata(volume.join("a")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.nlink()), (0o4755, 2));
        assert_eq!(fs::metadata(volume.join("deep/b")).unwrap().ino(), found.ino());
        assert_eq!(
            fs::read_link(volume.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1777);
        assert!(
            !copy_up(root.as_fd(), "/srv", &volume).unwrap(),
            "not into a volume that has something"
        );
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        assert!(
            !copy_up(root.as_fd(), "/out", &other).unwrap(),
            "beneath the image's root there is no /etc"
        );
        assert!(copy_up(root.as_fd(), "/srv/a", &other).is_err());
        assert!(!copy_up(root.as_fd(), "/nowhere", &other).unwrap());
    }
}
