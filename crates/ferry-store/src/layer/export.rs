//! An upper directory as a layer's tar: overlayfs's whiteouts become `.wh.` files again.

use super::changes::{MAX_DEPTH, file_type, is_dir, names, open, too_deep};
use super::entry::is_wanted;
use super::path::{join, os};
use super::root::{is_opaque, is_whiteout, open_child, stat_at};
use super::{OPAQUE_MARK, WHITEOUT};
use crate::error::{Result, StoreError};
use crate::tar::{Header, Kind, Writer};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

struct Export<'a> {
    tar: Writer<&'a mut dyn Write>,
    /// The first name of each file that has several.
    linked: HashMap<u64, Vec<u8>>,
}

/// Writes everything in `upper`, directories before what is in them, names in order.
pub(crate) fn tar(upper: &Path, writer: &mut dyn Write) -> Result<()> {
    let mut export = Export {
        tar: Writer::new(writer),
        linked: HashMap::new(),
    };
    let root = open(upper)?;
    export.directory(root.as_fd(), &[], 0)?;
    export
        .tar
        .finish()
        .map_err(|e| StoreError::io("write", "layer tar", e))?;
    Ok(())
}

fn wrote(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|e| StoreError::io("write", "layer tar", e))
}

impl Export<'_> {
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep(path));
        }
        if depth > 0 && is_opaque(dir) {
            wrote(
                self.tar
                    .header(&Header::new(Kind::File, join(path, OPAQUE_MARK), 0, 0)),
            )?;
        }
        for name in names(dir).map_err(|e| StoreError::io("list", os(path), e))? {
            let path = join(path, &name);
            let stat = match stat_at(dir, os(&name)) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|e| StoreError::io("stat", os(&path), e))?,
            };
            self.entry(dir, &path, &name, &stat, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<()> {
        let failed = |op| move |e: Errno| StoreError::io(op, os(path), e);
        if is_whiteout(stat) {
            let slash = path.len() - name.len();
            let hidden = [&path[..slash], WHITEOUT, name].concat();
            return wrote(self.tar.header(&Header::new(Kind::File, hidden, 0, 0)));
        }
        let mut header = header(path, stat);
        if stat.st_nlink > 1 && !is_dir(stat) {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                (header.kind, header.size, header.link) = (Kind::HardLink, 0, first.clone());
                return wrote(self.tar.header(&header));
            }
            self.linked.insert(stat.st_ino, path.to_vec());
        }
        match file_type(stat) {
            FileType::Directory => {
                let child = open_child(dir, os(name)).map_err(failed("open"))?;
                header.path.push(b'/');
                header.xattrs = xattrs(child.as_fd());
                wrote(self.tar.header(&header))?;
                self.directory(child.as_fd(), path, depth + 1)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, os(name), flags, Mode::empty()).map_err(failed("open"))?;
                header.xattrs = xattrs(fd.as_fd());
                self.file(&header, File::from(fd))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, os(name), Vec::new()).map_err(failed("read"))?;
                header.link = target.into_bytes();
                wrote(self.tar.header(&header))
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                wrote(self.tar.header(&header))
            }
            // A socket has no form in a tar, and means nothing without its process.
            _ => Ok(()),
        }
    }

    /// Exactly as many bytes as the header says, even if the file changes meanwhile.
    fn file(&mut self, header: &Header, mut file: File) -> Result<()> {
        wrote(self.tar.header(header))?;
        let mut left = header.size;
        let mut buffer = vec![0; 128 << 10];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = file
                .read(&mut buffer[..want])
                .map_err(|e| StoreError::io("read", os(&header.path), e))?;
            if n == 0 {
                buffer.fill(0);
            }
            let n = if n == 0 { want } else { n };
            wrote(self.tar.data(&buffer[..n]))?;
            left -= n as u64;
        }
        wrote(self.tar.pad(header.size))
    }
}

fn header(path: &[u8], stat: &Stat) -> Header {
    let kind = match file_type(stat) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => Kind::File,
    };
    let size = if kind == Kind::File {
        u64::try_from(stat.st_size).unwrap_or(0)
    } else {
        0
    };
    let mut header = Header::new(kind, path, stat.st_mode & 0o7777, size);
    (header.uid, header.gid, header.mtime) = (stat.st_uid, stat.st_gid, stat.st_mtime);
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        header.major = rustix::fs::major(stat.st_rdev);
        header.minor = rustix::fs::minor(stat.st_rdev);
    }
    header
}

/// The attributes that a layer may carry, sorted. What cannot be read is not there: the file system may have none.
fn xattrs(fd: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let Ok(n) = rustix::fs::flistxattr(fd, &mut list[..]) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in list[..n]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty() && is_wanted(name))
    {
        let mut value = vec![0; 64 << 10];
        if let Ok(n) = rustix::fs::fgetxattr(fd, os(name), &mut value[..]) {
            value.truncate(n);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}
