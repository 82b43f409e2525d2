//! Garbage collection: mark from the roots, sweep the rest, online at any time.
//!
//! Roots are image names, what the engine passes (the images of its containers), the snapshots on disk, and everything that was
//! touched under a live lease. The collection holds a lease of its own from before the mark, so what somebody begins to use
//! meanwhile is spared. Removing is one rename each; the space comes back when the trash is emptied at the end.

use crate::disk;
use crate::error::{Result, StoreError};
use crate::image::Closure;
use crate::store::Store;
use ferry_oci::Digest;
use std::collections::BTreeSet;
use std::time::Duration;

/// A broken-off download is kept this long for a resumption.
const STALE_INGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What must stay besides named images and what snapshots stand on.
#[derive(Clone, Debug, Default)]
pub struct GcRoots {
    /// Manifests or indexes: the images of containers whose name is gone.
    pub images: Vec<Digest>,
    /// Layers by diffID.
    pub layers: Vec<Digest>,
    /// Single blobs.
    pub content: Vec<Digest>,
}

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes, with those of stale ingests.
    pub blob_bytes: u64,
    /// Layers removed.
    pub layers: u64,
    /// Bytes of their files.
    pub layer_bytes: u64,
    /// What could not be followed or removed; everything it may refer to was kept where that could be known.
    pub problems: Vec<String>,
}

/// How much space the store takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// How many unpacked layers.
    pub layers: u64,
    /// Bytes of their files.
    pub layer_bytes: u64,
    /// Bytes of blobs that are still arriving.
    pub ingest_bytes: u64,
}

impl Store {
    /// Removes every blob and layer that nothing refers to. May run while images are pulled and containers start.
    pub fn gc(&self, roots: &GcRoots) -> Result<GcReport> {
        let _lease = self.leases().acquire();
        let mut report = GcReport::default();
        let mut live = Closure::default();
        live.blobs.extend(roots.content.iter().cloned());
        live.layers.extend(roots.layers.iter().cloned());
        let named = self
            .images()
            .list()?
            .into_iter()
            .map(|record| record.target.digest);
        for target in named.chain(roots.images.iter().cloned()).collect::<BTreeSet<_>>() {
            match live.add(self.content(), &target) {
                Ok(()) => {}
                Err(StoreError::Io { op, path, source }) => return Err(StoreError::Io { op, path, source }),
                Err(e) => report.problems.push(format!("image {target}: {e}")),
            }
        }
        let sweep_layers = self.mark_snapshots(&mut live, &mut report)?;
        self.sweep_blobs(&live, &mut report)?;
        if sweep_layers {
            self.sweep_layers(&live, &mut report)?;
        }
        report.blob_bytes += self.content().drop_stale_ingests(STALE_INGEST)?;
        if let Err(e) = self.layers().empty_trash() {
            report.problems.push(e.to_string());
        }
        Ok(report)
    }

    /// Whether it is known of every snapshot what it stands on; if not, no layer may go.
    fn mark_snapshots(&self, live: &mut Closure, report: &mut GcReport) -> Result<bool> {
        let mut known = true;
        for id in self.layers().list()? {
            match self.layers().parents(&id) {
                Ok(layers) => live.layers.extend(layers),
                // Removed meanwhile.
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => {
                    known = false;
                    report
                        .problems
                        .push(format!("snapshot {id}: {e}; no layer is removed"));
                }
            }
        }
        Ok(known)
    }

    fn sweep_blobs(&self, live: &Closure, report: &mut GcReport) -> Result<()> {
        for (digest, size) in self.content().list()? {
            if live.blobs.contains(&digest) {
                continue;
            }
            let layout = self.layout();
            match self
                .leases()
                .sweep(&digest, || disk::discard(layout, &layout.blob(&digest)))
            {
                None => {}
                Some(Ok(())) => {
                    report.blobs += 1;
                    report.blob_bytes += size;
                }
                Some(Err(e)) => report.problems.push(e.to_string()),
            }
        }
        Ok(())
    }

    fn sweep_layers(&self, live: &Closure, report: &mut GcReport) -> Result<()> {
        for layer in self.layers().list_layers()? {
            if live.layers.contains(&layer.diff_id) {
                continue;
            }
            match self
                .leases()
                .sweep(&layer.diff_id, || self.layers().remove_layer(&layer.diff_id))
            {
                None => {}
                Some(Ok(())) => {
                    report.layers += 1;
                    report.layer_bytes += layer.size;
                }
                Some(Err(e)) => report.problems.push(e.to_string()),
            }
        }
        Ok(())
    }

    /// How much space blobs and layers take.
    pub fn usage(&self) -> Result<Usage> {
        let (blobs, layers) = (self.content().list()?, self.layers().list_layers()?);
        Ok(Usage {
            blobs: blobs.len() as u64,
            blob_bytes: blobs.iter().map(|(_, size)| size).sum(),
            layers: layers.len() as u64,
            layer_bytes: layers.iter().map(|layer| layer.size).sum(),
            ingest_bytes: self.content().ingest_bytes()?,
        })
    }
}
