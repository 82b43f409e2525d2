//! Content: blobs by digest. A file under `blobs/` has been verified before it got that name.

use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use crate::hash::{self, Hasher};
use crate::ingest::{Ingest, Turns};
use crate::layout::{self, Layout};
use crate::lease::Leases;
use ferry_oci::image::Descriptor;
use ferry_oci::{Algorithm, Digest};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The blobs of a store. Cheap to clone.
#[derive(Clone)]
pub struct Content {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Arc<Layout>,
    leases: Leases,
    turns: Arc<Turns>,
    warnings: Mutex<Vec<String>>,
}

impl Content {
    pub(crate) fn new(layout: Arc<Layout>, leases: Leases) -> Self {
        let turns = Arc::new(Turns::default());
        Self {
            inner: Arc::new(Inner {
                layout,
                leases,
                turns,
                warnings: Mutex::default(),
            }),
        }
    }

    /// Whether the blob is here.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_ok()
    }

    /// How many bytes the blob has.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        self.inner.leases.touch(digest);
        let path = self.inner.layout.blob(digest);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(meta.len()),
            Ok(_) => Err(StoreError::corrupt(
                format!("blob {digest}"),
                "it is no regular file",
            )),
            Err(e) => Err(Self::missing(digest, "stat", &path, e)),
        }
    }

    /// The blob, to be read from its start. It was verified when it came in; a layer is verified again as it is unpacked.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        self.inner.leases.touch(digest);
        let path = self.inner.layout.blob(digest);
        File::open(&path).map_err(|e| Self::missing(digest, "open", &path, e))
    }

    /// A whole small blob of at most `max` bytes, verified again. A damaged one is set aside and reported as `Corrupt`.
    pub fn read(&self, digest: &Digest, max: usize) -> Result<Vec<u8>> {
        let size = self.size(digest)?;
        if size > max as u64 {
            return Err(StoreError::TooLarge {
                what: format!("blob {digest}"),
                limit: format!("its {size} bytes exceed the limit of {max}"),
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let path = self.inner.layout.blob(digest);
        self.open(digest)?
            .take(max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::io("read", &path, e))?;
        let actual = hash::digest(digest.algorithm(), &bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        self.set_aside(digest, &format!("its content has the digest {actual}"))
    }

    /// Stores a small document and returns its SHA-256 digest. Durable when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = hash::digest(Algorithm::Sha256, bytes);
        if self.size(&digest).is_ok_and(|size| size == bytes.len() as u64) {
            return Ok(digest);
        }
        disk::write_file(&self.inner.layout, &self.inner.layout.blob(&digest), bytes)?;
        Ok(digest)
    }

    /// Stores a small document that has to have this digest. Durable when this returns.
    pub fn put_as(&self, expected: &Digest, bytes: &[u8]) -> Result<()> {
        let mut staged = self.stage(expected.algorithm())?;
        staged.write(bytes)?;
        self.publish(staged, Some(expected)).map(|_| ())
    }

    /// Stores a stream of unknown digest and at most `max` bytes; returns its SHA-256 digest and size. Durable when this returns.
    pub fn put_stream(&self, reader: &mut dyn Read, max: u64) -> Result<(Digest, u64)> {
        let mut staged = self.stage(Algorithm::Sha256)?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return self.publish(staged, None),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(StoreError::io("read the stream for", &staged.path, e)),
            };
            if staged.size + n as u64 > max {
                return Err(StoreError::TooLarge {
                    what: "the stream".into(),
                    limit: format!("it has more than {max} bytes"),
                });
            }
            staged.write(&buffer[..n])?;
        }
    }

    /// A blob whose digest shows only at its end.
    pub(crate) fn stage(&self, algorithm: Algorithm) -> Result<Staged> {
        let path = self.inner.layout.new_staging();
        let file = disk::create_new(&path)?;
        Ok(Staged {
            path,
            file,
            hasher: Hasher::new(algorithm),
            size: 0,
        })
    }

    /// Gives a staged blob its name, which must be `expected` where that is known. Durable when this returns.
    pub(crate) fn publish(&self, mut staged: Staged, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let digest = staged.hasher.clone().finish();
        if let Some(expected) = expected.filter(|e| **e != digest) {
            let expected = expected.clone();
            return Err(StoreError::DigestMismatch {
                expected,
                actual: digest,
            });
        }
        if !self.contains(&digest) {
            staged
                .file
                .sync_all()
                .map_err(|e| StoreError::io("fsync", &staged.path, e))?;
            let path = std::mem::take(&mut staged.path);
            disk::publish(&path, &self.inner.layout.blob(&digest))?;
        }
        Ok((digest, staged.size))
    }

    /// Begins or resumes the arrival of a blob. `key` names the attempt (one file name: letters, digits, `.`, `_`, `-`, `:`);
    /// the blob's digest is a good one. Waits while another ingest of that key is open. When `offset()` is the whole size,
    /// nothing is left to fetch: just `commit`.
    pub fn ingest(&self, key: &str, expected: &Descriptor) -> Result<Ingest> {
        if !layout::plain_name(key) {
            return Err(StoreError::invalid(
                format!("ingest key {key:?}"),
                "it is no plain file name",
            ));
        }
        let turn = self.inner.turns.enter(key);
        self.inner.leases.touch(&expected.digest);
        let done = match self.size(&expected.digest) {
            Ok(size) if size == expected.size => true,
            Ok(size) => {
                return Err(StoreError::invalid(
                    format!("descriptor of {}", expected.digest),
                    format!("it promises {} bytes, but the blob has {size}", expected.size),
                ));
            }
            Err(e) if e.is_not_found() => false,
            Err(e) => return Err(e),
        };
        Ingest::begin(self.inner.layout.clone(), turn, key, expected, done)
    }

    /// Removes a blob. Absence is success. The caller knows that nothing refers to it; gc is the usual way.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.inner.layout.blob(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Drops the bytes of ingests that nobody has touched for this long and that are not open now. Returns how many bytes.
    pub(crate) fn drop_stale_ingests(&self, age: std::time::Duration) -> Result<u64> {
        let dir = self.inner.layout.ingests();
        let mut freed = 0;
        for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
            let entry = entry.map_err(|e| StoreError::io("list", &dir, e))?;
            let key = entry.file_name().to_string_lossy().into_owned();
            let Some(_turn) = self.inner.turns.try_enter(&key) else {
                continue;
            };
            let Ok(meta) = entry.metadata() else { continue };
            if meta
                .modified()
                .is_ok_and(|at| at.elapsed().is_ok_and(|old| old >= age))
            {
                fs::remove_file(entry.path()).map_err(|e| StoreError::io("remove", entry.path(), e))?;
                freed += meta.len();
            }
        }
        Ok(freed)
    }

    /// Bytes of blobs that are still arriving.
    pub(crate) fn ingest_bytes(&self) -> Result<u64> {
        let dir = self.inner.layout.ingests();
        let entries = fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))?;
        Ok(entries
            .filter_map(|e| e.ok()?.metadata().ok())
            .map(|m| m.len())
            .sum())
    }

    /// Every blob with its size, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.inner.layout.blobs(algorithm);
            for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
                let entry = entry.map_err(|e| StoreError::io("list", &dir, e))?;
                let name = format!("{}:{}", algorithm.name(), entry.file_name().to_string_lossy());
                let (Ok(digest), Ok(meta)) = (name.parse(), entry.metadata()) else {
                    continue;
                };
                found.push((digest, meta.len()));
            }
        }
        Ok(found)
    }

    /// What has been set aside since the store was opened.
    pub(crate) fn warnings(&self) -> Vec<String> {
        lock(&self.inner.warnings).clone()
    }

    /// Moves what cannot be a blob out of the way, so that one bad object never stops a start.
    pub(crate) fn quarantine_misfits(&self) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.inner.layout.blobs(algorithm);
            for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
                let entry = entry.map_err(|e| StoreError::io("list", &dir, e))?;
                let name = entry.file_name();
                let text = format!("{}:{}", algorithm.name(), name.to_string_lossy());
                let is_file = entry.file_type().is_ok_and(|t| t.is_file());
                if is_file && text.parse::<Digest>().is_ok() {
                    continue;
                }
                disk::rename(&entry.path(), &self.inner.layout.new_quarantine(&name))?;
                self.warn(format!(
                    "{text:?} under blobs/ is no blob and was moved to quarantine/"
                ));
            }
        }
        Ok(())
    }

    fn set_aside<T>(&self, digest: &Digest, reason: &str) -> Result<T> {
        let path = self.inner.layout.blob(digest);
        disk::rename(&path, &self.inner.layout.new_quarantine(digest.hex().as_ref()))?;
        self.warn(format!(
            "blob {digest} is damaged and was moved to quarantine/: {reason}; pull its image again"
        ));
        Err(StoreError::corrupt(
            format!("blob {digest}"),
            format!("{reason}; pull its image again"),
        ))
    }

    fn warn(&self, text: String) {
        lock(&self.inner.warnings).push(text);
    }

    fn missing(digest: &Digest, op: &'static str, path: &std::path::Path, e: std::io::Error) -> StoreError {
        match e.kind() {
            std::io::ErrorKind::NotFound => StoreError::not_found("content", digest),
            _ => StoreError::io(op, path, e),
        }
    }
}

/// A blob in staging; dropped unpublished, it is gone.
pub(crate) struct Staged {
    /// Empty once published.
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Staged {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(|e| StoreError::io("write", &self.path, e))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // What cannot be removed now goes at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
