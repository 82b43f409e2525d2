//! Layers: tars unpacked beneath one directory, and directories told as changes or tars.

pub(crate) mod changes;
pub(crate) mod decompress;
pub(crate) mod entry;
pub(crate) mod export;
pub(crate) mod path;
pub(crate) mod root;
pub(crate) mod unpack;

use ferry_oci::Digest;
use serde::{Deserialize, Serialize};

/// What an unpacked layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its regular files, holes included.
    pub size: u64,
    /// How many tar entries it was made of.
    pub entries: u64,
}

/// Budgets for one layer. Exceeding one is an error and leaves nothing behind.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most uncompressed bytes for each compressed byte, once `ratio_after` bytes have come out.
    pub max_ratio: u64,
    /// Uncompressed bytes for which no ratio is asked.
    pub ratio_after: u64,
    /// The most bytes of the uncompressed tar.
    pub max_bytes: u64,
    /// The most entries.
    pub max_entries: u64,
    /// The most components in one path.
    pub max_depth: usize,
    /// Bytes of the file system that stay free.
    pub min_free: u64,
}

impl Default for Limits {
    /// gzip cannot exceed 1032:1, so the ratio catches other codecs' bombs, and free space the slow gzip ones.
    fn default() -> Self {
        Self {
            max_ratio: 1100,
            ratio_after: 64 << 20,
            max_bytes: 1 << 40,
            max_entries: 2 << 20,
            max_depth: 256,
            min_free: 16 << 20,
        }
    }
}

/// The xattr by which overlayfs hides what lies below a directory.
pub(crate) const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";
/// The prefix of a whiteout in a layer's tar.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The mark that hides everything that layers below have in a directory.
pub(crate) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// The prefix of AUFS's own records, which mean nothing here.
pub(crate) const AUFS: &[u8] = b".wh..wh.";
