//! A layer from its compressed stream to a directory: one thread inflates, another hashes, reads the tar and writes.

use super::decompress::{self, Fed, Intake};
use super::entry::{Placed, Placer, tar_error};
use super::{LayerInfo, Limits};
use crate::disk::lock;
use crate::error::{Result, StoreError};
use crate::hash::Hasher;
use crate::layout::Layout;
use crate::tar;
use ferry_oci::Digest;
use ferry_oci::media::Compression;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// How often free space is looked at, in bytes of the tar.
const SPACE_EVERY: u64 = 32 << 20;

/// What came out.
pub(crate) struct Unpacked {
    pub(crate) info: LayerInfo,
    pub(crate) opaque_root: bool,
    pub(crate) implied: Vec<Vec<u8>>,
}

/// Watches a layer's stream while it is written.
struct Budget {
    limits: Limits,
    fs: PathBuf,
    intake: Arc<Intake>,
    produced: u64,
    next_look: u64,
}

impl Budget {
    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.produced += bytes;
        let too_large = |limit| {
            Err(StoreError::TooLarge {
                what: "the layer".into(),
                limit,
            })
        };
        if self.produced > self.limits.max_bytes {
            return too_large(format!(
                "it has more than {} bytes uncompressed",
                self.limits.max_bytes
            ));
        }
        let consumed = self.intake.bytes.load(Ordering::Relaxed).max(1);
        if self.produced > self.limits.ratio_after && self.produced / consumed > self.limits.max_ratio {
            return too_large(format!(
                "it is a decompression bomb: more than {} bytes come out of each compressed byte",
                self.limits.max_ratio
            ));
        }
        if self.produced >= self.next_look {
            self.next_look = self.produced + SPACE_EVERY;
            return self.look();
        }
        Ok(())
    }

    fn look(&self) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.fs).map_err(|e| StoreError::io("statvfs", &self.fs, e))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.limits.min_free {
            return Err(StoreError::NoSpace {
                path: self.fs.clone(),
                detail: format!("{free} bytes are free, and {} must stay so", self.limits.min_free),
            });
        }
        if stat.f_files > 0 && stat.f_favail == 0 {
            return Err(StoreError::NoSpace {
                path: self.fs.clone(),
                detail: "no inodes are free".into(),
            });
        }
        Ok(())
    }
}

/// Unpacks into the empty directory `fs` and verifies the digest of the uncompressed tar. On an error, what is in `fs` is
/// worthless.
pub(crate) fn unpack(
    layout: &Layout,
    fs: &Path,
    expected: &Digest,
    (promised, reader): (Compression, &mut dyn Read),
    limits: &Limits,
) -> Result<Unpacked> {
    let intake = Arc::new(Intake::default());
    let mut budget = Budget {
        limits: limits.clone(),
        fs: fs.to_path_buf(),
        intake: intake.clone(),
        produced: 0,
        next_look: SPACE_EVERY,
    };
    budget.look()?;
    let hasher = Arc::new(Mutex::new(Hasher::new(expected.algorithm())));
    let tapped = hasher.clone();
    let (feeder, source) = decompress::queue(move |chunk| {
        budget.spend(chunk.len() as u64).map_err(io::Error::other)?;
        lock(&tapped).update(chunk);
        Ok(())
    });
    let mut decoder = decompress::decoder(reader, promised, intake.clone())?;
    let placed = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(layout, fs, source, limits));
        let fed = feeder.run(&mut *decoder);
        let written = writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match fed {
            Err(e) if intake.failed.load(Ordering::Relaxed) => Err(StoreError::io("read", "layer", e)),
            Err(e) => Err(StoreError::invalid(
                "layer",
                format!("its compressed stream is broken: {e}"),
            )),
            Ok(Fed::All | Fed::Unwanted) => written,
        }
    })?;
    let actual = lock(&hasher).clone().finish();
    if actual != *expected {
        return Err(StoreError::DigestMismatch {
            expected: expected.clone(),
            actual,
        });
    }
    Ok(Unpacked {
        info: LayerInfo {
            diff_id: actual,
            size: placed.size,
            entries: placed.entries,
        },
        opaque_root: placed.opaque_root,
        implied: placed.implied,
    })
}

fn write(layout: &Layout, fs: &Path, source: decompress::Source, limits: &Limits) -> Result<Placed> {
    let mut tar = tar::Reader::new(source);
    let mut placer = Placer::new(fs, layout, limits)?;
    while let Some(entry) = tar.next().map_err(tar_error)? {
        placer.place(&entry, &mut tar)?;
    }
    tar.drain().map_err(tar_error)?;
    placer.finish()
}
