//! Where everything lies. Nothing else in the crate joins a store path.
//!
//! ```text
//! <root>/                        0700, all of it
//!   lock                         held (flock) by the one process that has the store open
//!   meta.redb                    every record: image names, and what the engine keeps here
//!   reserve                      space kept back, so that records can be deleted on a full disk
//!   names                        journal of image names, from which they are rebuilt should meta.redb be lost
//!   blobs/<algorithm>/<hex>      content, verified before it gets its name; the truth about images
//!   ingest/<key>                 bytes of a blob that is still arriving; survives a restart, to be resumed
//!   layers/<diffID hex>/fs/      one unpacked layer: an overlay lower
//!   layers/<diffID hex>/layer.json   written last, after the syncfs: a layer without it is garbage
//!   layers/<diffID hex>/fix-<chain>/ directories whose attributes only the layers below know (see snapshot::overlay)
//!   snapshots/<id>/{fs,work}/    upper and work directory of one container
//!   snapshots/<id>/layers        the stack below it, one diffID a line, lowest first
//!   empty/                       an empty lower, for images without layers
//!   staging/<n>                  being made; emptied at start
//!   trash/<n>                    logically gone; emptied in the background
//!   quarantine/<n>-<name>        damaged objects, kept for a look, never read
//! ```
//!
//! Commit protocol: write to `staging/`, fsync file (or syncfs), rename, fsync both parents, then record. Nothing refers to
//! an object before it is recorded.

use crate::error::{Result, StoreError};
use ferry_oci::{Algorithm, Digest};
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The paths of one store.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Distinguishes this process's trash from what an earlier one left.
    epoch: u128,
    next: AtomicU64,
    /// Two that empty the trash at once would trip over each other.
    pub(crate) emptying: Mutex<()>,
}

impl Layout {
    /// Makes the directories that are missing.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        let layout = Self {
            root: root.to_path_buf(),
            epoch,
            next: AtomicU64::new(0),
            emptying: Mutex::default(),
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let blobs = [Algorithm::Sha256, Algorithm::Sha512].map(|a| layout.blobs(a));
        let rest = [
            layout.ingests(),
            layout.layers(),
            layout.snapshots(),
            layout.empty(),
            layout.staging(),
            layout.trash(),
            layout.quarantine(),
        ];
        for dir in blobs.iter().chain(&rest) {
            builder
                .create(dir)
                .map_err(|e| StoreError::io("create directory", dir, e))?;
        }
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.root.join("meta.redb")
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// `key` has been checked to be one plain file name.
    pub(crate) fn ingest(&self, key: &str) -> PathBuf {
        self.ingests().join(key)
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// `id` has been checked to be one plain file name.
    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        self.snapshots().join(id)
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// A name in staging that nobody has had.
    pub(crate) fn new_staging(&self) -> PathBuf {
        self.staging().join(self.unique())
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A name in the trash that nobody has had.
    pub(crate) fn new_trash(&self) -> PathBuf {
        self.trash().join(self.unique())
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// A name in quarantine that tells what the object was.
    pub(crate) fn new_quarantine(&self, name: &OsStr) -> PathBuf {
        let mut file = std::ffi::OsString::from(self.unique());
        file.push("-");
        file.push(name);
        self.quarantine().join(file)
    }

    fn unique(&self) -> String {
        format!("{:x}-{}", self.epoch, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The parts of one layer's directory.
pub(crate) mod layer {
    use std::path::{Path, PathBuf};

    pub(crate) fn fs(layer: &Path) -> PathBuf {
        layer.join("fs")
    }

    pub(crate) fn record(layer: &Path) -> PathBuf {
        layer.join("layer.json")
    }

    pub(crate) fn fix(layer: &Path, chain: &str) -> PathBuf {
        layer.join(format!("fix-{chain}"))
    }
}

/// The parts of one snapshot's directory.
pub(crate) mod snapshot {
    use std::path::{Path, PathBuf};

    pub(crate) fn fs(snapshot: &Path) -> PathBuf {
        snapshot.join("fs")
    }

    pub(crate) fn work(snapshot: &Path) -> PathBuf {
        snapshot.join("work")
    }

    pub(crate) fn layers(snapshot: &Path) -> PathBuf {
        snapshot.join("layers")
    }
}

/// Whether `name` can be one file name of the store: no separator, no leading dot, nothing odd.
pub(crate) fn plain_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
}
