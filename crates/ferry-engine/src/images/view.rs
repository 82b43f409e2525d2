//! What the engine tells of images.

use ferry_oci::image::{Descriptor, ImageConfig};
use ferry_oci::{Digest, Platform, Reference};
use futures_util::Stream;
use std::pin::Pin;
use std::time::SystemTime;

/// An image in a list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// The target's digest: an index's or a manifest's.
    pub id: Digest,
    /// The target.
    pub target: Descriptor,
    /// Names with a tag; empty for a dangling image.
    pub references: Vec<Reference>,
    /// Names by digest, `name@digest`.
    pub by_digest: Vec<Reference>,
    /// When it was made, as its configuration says.
    pub created: Option<SystemTime>,
    /// Bytes: blobs and unpacked layers.
    pub size: u64,
    /// Bytes of layers that other images have too, where asked for.
    pub shared_size: Option<u64>,
    /// How many containers use it, where asked for.
    pub containers: Option<u64>,
    /// The image's labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The platform that was chosen.
    pub platform: Platform,
}

/// One image, whole.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// The target's digest.
    pub id: Digest,
    /// The target.
    pub target: Descriptor,
    /// The manifest of the platform.
    pub manifest: Descriptor,
    /// Names with a tag.
    pub references: Vec<Reference>,
    /// Names by digest.
    pub by_digest: Vec<Reference>,
    /// The configuration.
    pub config: ImageConfig,
    /// Its exact bytes.
    pub config_bytes: Vec<u8>,
    /// Bytes of blobs and unpacked layers.
    pub size: u64,
    /// When it was last tagged here.
    pub last_tagged: Option<SystemTime>,
}

/// One step of an image's history, newest first.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    /// The image's id on the newest step; `None` else (`<missing>`).
    pub id: Option<Digest>,
    /// When.
    pub created: Option<SystemTime>,
    /// The instruction.
    pub created_by: String,
    /// Names of the newest step.
    pub tags: Vec<String>,
    /// Bytes that the step's layer has unpacked.
    pub size: u64,
    /// Free text.
    pub comment: String,
}

/// What a removal did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(Digest),
}

/// One step of a pull, push or load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// A layer's short digest, or the tag.
    pub id: Option<String>,
    /// What happens, in Docker's words.
    pub status: String,
    /// Bytes so far.
    pub current: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
    /// For programs.
    pub aux: Option<serde_json::Value>,
    /// A whole line for people, instead of a status.
    pub stream: Option<String>,
}

impl Progress {
    /// A status line.
    pub fn status(status: impl Into<String>) -> Self {
        Self {
            status: status.into(),
            ..Self::default()
        }
    }

    /// A status of one layer or tag.
    pub fn of(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            status: status.into(),
            ..Self::default()
        }
    }

    /// The same with a bar.
    #[must_use]
    pub fn at(mut self, current: u64, total: u64) -> Self {
        self.current = Some(current);
        self.total = Some(total);
        self
    }
}

/// Steps as they happen; an error ends it. Dropping it cancels the work.
pub type ProgressStream = Pin<Box<dyn Stream<Item = crate::Result<Progress>> + Send>>;

/// What is used, for `system df`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes of all layers and blobs.
    pub total: u64,
    /// Bytes that removing unused images would free.
    pub reclaimable: u64,
    /// How many images.
    pub count: usize,
    /// How many of them containers use.
    pub active: usize,
}
