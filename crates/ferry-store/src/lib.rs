//! The image store: verified content, unpacked layers, snapshots, image names and the engine's records.
//!
//! Synchronous throughout. Knows no registry and no container: it takes bytes, digests and ids. Where everything lies on disk and
//! how it gets there is told in `layout.rs`.
//!
//! ```text
//! content    blobs by digest, resumable ingests          image    names -> target -> manifest, config, layers
//! snapshot   unpacked layers, overlay stacks             meta     records, group commit
//! layer      tars to directories and back                lease    what gc must not touch
//! tar        one strict parser                           gc       what nobody refers to
//! archive    docker save and load
//! ```

pub mod archive;
mod content;
mod disk;
mod error;
mod gc;
mod hash;
mod image;
mod ingest;
mod layer;
mod layout;
mod lease;
mod meta;
mod snapshot;
mod store;
#[cfg(test)]
mod suite;
mod tar;

pub use content::Content;
pub use error::{Result, StoreError};
pub use gc::{GcReport, GcRoots, Usage};
pub use image::{ImageLayer, ImageRecord, Images, ResolvedImage};
pub use ingest::Ingest;
pub use layer::{LayerInfo, Limits};
pub use lease::{Lease, Leases};
pub use meta::{Batch, Durability, Meta};
pub use snapshot::{Change, ChangeKind, Mounts, Snapshotter};
pub use store::{Layers, Store};
