//! Snapshots: stacks of layers with a place to write on top.
//!
//! A snapshotter keeps unpacked layers and makes root file systems of them. It never mounts anything: it says what to mount, and
//! the runtime does so in the container's own namespace.

mod fix;
mod overlay;

pub(crate) use overlay::Overlay;

use crate::error::Result;
use crate::layer::{LayerInfo, Limits};
use ferry_oci::Digest;
use ferry_oci::media::Compression;
use std::io::{Read, Write};
use std::path::PathBuf;

/// What to mount as a container's root: an overlay of these directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// Read-only directories, the newest (uppermost) first; never empty.
    pub lowers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// Overlayfs's own directory, on the same file system.
    pub work: PathBuf,
}

/// How a path differs from the image; Docker's three letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// `A`
    Added,
    /// `C`
    Modified,
    /// `D`
    Deleted,
}

impl ChangeKind {
    /// Docker's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// One difference between a container's root and its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute, as the container sees it.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

/// What keeps layers and makes root file systems of them. Every implementation passes `suite`.
///
/// Layers are known by diffID alone, so they can be unpacked in any order and in parallel.
pub trait Snapshotter: Send + Sync {
    /// The name that `info` shows, `overlay`.
    fn name(&self) -> &'static str;

    /// Unpacks a layer and verifies that its uncompressed tar has the digest `expected`. Where it is here already, nothing is
    /// read. Callers of the same layer wait for one of them. `promised` is what the media type says; the bytes decide.
    /// The layer is usable at once, and outlives the process once `sync_image` has been called for it.
    fn apply(
        &self,
        expected: &Digest,
        promised: Compression,
        reader: &mut dyn Read,
        limits: &Limits,
    ) -> Result<LayerInfo>;

    /// Makes these layers durable, all of an image with one `syncfs`. Recording an image does this by itself. Layers that are not
    /// here are passed over.
    fn sync_image(&self, layers: &[Digest]) -> Result<()>;

    /// Whether the layer is here, whole.
    fn has(&self, diff_id: &Digest) -> bool;

    /// What the layer is.
    fn layer(&self, diff_id: &Digest) -> Result<LayerInfo>;

    /// Bytes of the layer's regular files.
    fn size(&self, diff_id: &Digest) -> Result<u64> {
        Ok(self.layer(diff_id)?.size)
    }

    /// Every layer.
    fn list_layers(&self) -> Result<Vec<LayerInfo>>;

    /// Removes a layer that no snapshot stands on. Absence is success.
    fn remove_layer(&self, diff_id: &Digest) -> Result<()>;

    /// Makes a snapshot of these layers, lowest first. Waits for no disk: after a power cut the snapshot may have to be prepared
    /// again, which is allowed at any time and keeps what was written in it.
    fn prepare(&self, id: &str, layers: &[Digest]) -> Result<Mounts>;

    /// What to mount for a snapshot that was prepared.
    fn mounts(&self, id: &str) -> Result<Mounts>;

    /// The layers a snapshot stands on, lowest first.
    fn parents(&self, id: &str) -> Result<Vec<Digest>>;

    /// Every snapshot's id.
    fn list(&self) -> Result<Vec<String>>;

    /// Takes a snapshot away in one step; `empty_trash` frees the space. Absence is success.
    fn remove(&self, id: &str) -> Result<()>;

    /// Frees what was removed. Slow; for a background thread.
    fn empty_trash(&self) -> Result<()>;

    /// Bytes that a snapshot's own files take.
    fn usage(&self, id: &str) -> Result<u64>;

    /// How a snapshot differs from its layers, sorted by path.
    fn changes(&self, id: &str) -> Result<Vec<Change>>;

    /// Writes those differences as a layer's tar.
    fn diff(&self, id: &str, writer: &mut dyn Write) -> Result<()>;
}
