//! Layers made for the suite, and directory trees told as text.

use crate::tar::{Header, Kind, Writer};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A layer's tar in the making.
#[derive(Clone, Default)]
pub(super) struct Layer {
    entries: Vec<(Header, Vec<u8>)>,
}

impl Layer {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn add(mut self, mut header: Header, data: &[u8]) -> Self {
        header.mtime = 1_600_000_000;
        self.entries.push((header, data.to_vec()));
        self
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(Header::new(Kind::File, name, 0o644, data.len() as u64), data)
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        self.add(Header::new(Kind::Directory, name, mode, 0), b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        let link = target.as_bytes().to_vec();
        self.add(
            Header {
                link,
                ..Header::new(Kind::HardLink, name, 0o644, 0)
            },
            b"",
        )
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        let link = target.as_bytes().to_vec();
        self.add(
            Header {
                link,
                ..Header::new(Kind::Symlink, name, 0o777, 0)
            },
            b"",
        )
    }

    pub(super) fn device(self, name: &str, (major, minor): (u32, u32)) -> Self {
        self.add(
            Header {
                major,
                minor,
                ..Header::new(Kind::CharDevice, name, 0o666, 0)
            },
            b"",
        )
    }

    pub(super) fn fifo(self, name: &str) -> Self {
        self.add(Header::new(Kind::Fifo, name, 0o600, 0), b"")
    }

    /// Changes the header of an entry that is there.
    pub(super) fn last_mut(&mut self, name: &str, change: impl FnOnce(&mut Header)) {
        let entry = self
            .entries
            .iter_mut()
            .rev()
            .find(|(h, _)| h.path == name.as_bytes());
        change(&mut entry.expect("an entry of that name").0);
    }

    pub(super) fn tar(&self) -> Vec<u8> {
        let mut tar = Writer::new(Vec::new());
        for (header, data) in &self.entries {
            tar.header(header).unwrap();
            tar.data(data).unwrap();
            tar.pad(header.size).unwrap();
        }
        tar.finish().unwrap()
    }
}

/// Every path beneath `root`, sorted.
pub(super) fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, root, &mut |path, _| found.push(path));
    found
}

/// Every path beneath `root` with what it is, sorted.
pub(super) fn snapshot(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(root, root, &mut |path, full| {
        let meta = fs::symlink_metadata(full).unwrap();
        let content = match meta.file_type() {
            t if t.is_file() => format!("{:?}", fs::read(full).unwrap()),
            t if t.is_symlink() => format!("{:?}", fs::read_link(full).unwrap()),
            _ => String::new(),
        };
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        found.push(format!(
            "{path} {:o} {}:{} {} {links} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev()
        ));
    });
    found
}

fn walk(root: &Path, dir: &Path, see: &mut dyn FnMut(String, &Path)) {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        see(
            path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
            &path,
        );
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            walk(root, &path, see);
        }
    }
}
