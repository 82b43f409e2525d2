//! Blobs on their way in: resumable, verified, then published by the commit protocol.
//!
//! The bytes lie in `ingest/<key>` and survive a restart. A resumed ingest feeds its hash again from the file, so what a crash
//! may have torn shows as a digest mismatch at commit; the partial file is then dropped and the next attempt begins at zero.

use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use crate::hash::Hasher;
use crate::layout::Layout;
use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// One at a time for each key; whoever comes second waits.
#[derive(Default)]
pub(crate) struct Turns {
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// The right to work on one key.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    key: String,
}

impl Turns {
    pub(crate) fn enter(self: &Arc<Self>, key: &str) -> Turn {
        let mut busy = lock(&self.busy);
        while busy.contains(key) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.insert(key.to_owned());
        Turn {
            turns: self.clone(),
            key: key.to_owned(),
        }
    }

    /// The turn if nobody has it.
    pub(crate) fn try_enter(self: &Arc<Self>, key: &str) -> Option<Turn> {
        let free = lock(&self.busy).insert(key.to_owned());
        free.then(|| Turn {
            turns: self.clone(),
            key: key.to_owned(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.turns.busy).remove(&self.key);
        self.turns.freed.notify_all();
    }
}

/// A blob that is arriving. Dropped without `commit` or `discard`, its bytes stay for a later attempt.
pub struct Ingest {
    layout: Arc<Layout>,
    path: PathBuf,
    expected: Digest,
    size: u64,
    offset: u64,
    /// `None` when the blob was here before.
    open: Option<(File, Hasher)>,
    _turn: Turn,
}

impl Ingest {
    pub(crate) fn begin(
        layout: Arc<Layout>,
        turn: Turn,
        key: &str,
        expected: &Descriptor,
        done: bool,
    ) -> Result<Self> {
        let path = layout.ingest(key);
        let (digest, size) = (expected.digest.clone(), expected.size);
        let mut ingest = Self {
            layout,
            path,
            expected: digest,
            size,
            offset: 0,
            open: None,
            _turn: turn,
        };
        if done {
            ingest.offset = size;
        } else {
            ingest.resume()?;
        }
        Ok(ingest)
    }

    fn resume(&mut self) -> Result<()> {
        let at = |op| {
            let path = self.path.clone();
            move |e: std::io::Error| StoreError::io(op, &path, e)
        };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(at("open"))?;
        if file.metadata().map_err(at("stat"))?.len() > self.size {
            file.set_len(0).map_err(at("truncate"))?;
        }
        let mut hasher = Hasher::new(self.expected.algorithm());
        let mut buffer = vec![0; 128 << 10];
        let mut offset = 0;
        loop {
            let n = file.read(&mut buffer).map_err(at("read"))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            offset += n as u64;
        }
        self.offset = offset;
        self.open = Some((file, hasher));
        Ok(())
    }

    /// How many bytes are already here; the next `write` continues there.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes the blob will have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes. More than the descriptor promised is `TooLarge`, and the excess is not kept.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let too_large = || StoreError::TooLarge {
            what: format!("blob {}", self.expected),
            limit: format!("more than the promised {} bytes arrived", self.size),
        };
        if bytes.len() as u64 > self.size - self.offset {
            return Err(too_large());
        }
        if let Some((file, hasher)) = &mut self.open {
            if let Err(e) = file.write_all(bytes) {
                let error = StoreError::io("write", &self.path, e);
                // A short write must not be resumed as if it were whole, and a full disk wants its space back. Should even
                // that fail, the next attempt hashes what is there and finds out.
                let keep = if matches!(error, StoreError::NoSpace { .. }) {
                    0
                } else {
                    self.offset
                };
                let _ = file.set_len(keep).and_then(|()| file.seek(SeekFrom::End(0)));
                if keep == 0 {
                    *hasher = Hasher::new(self.expected.algorithm());
                    self.offset = 0;
                }
                return Err(error);
            }
            hasher.update(bytes);
            self.offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Forgets the bytes so far: the next `write` is the first. For a server that cannot continue in the middle.
    pub fn restart(&mut self) -> Result<()> {
        if let Some((file, hasher)) = &mut self.open {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .map_err(|e| StoreError::io("truncate", &self.path, e))?;
            *hasher = Hasher::new(self.expected.algorithm());
            self.offset = 0;
        }
        Ok(())
    }

    /// Verifies size and digest, then publishes. `Truncated` keeps the bytes for a later attempt, `DigestMismatch` drops them.
    /// Durable when this returns.
    pub fn commit(mut self) -> Result<()> {
        let Some((file, hasher)) = self.open.take() else {
            return Ok(());
        };
        if self.offset < self.size {
            return Err(StoreError::Truncated {
                digest: self.expected.clone(),
                expected: self.size,
                actual: self.offset,
            });
        }
        let actual = hasher.finish();
        if actual != self.expected {
            fs::remove_file(&self.path).map_err(|e| StoreError::io("remove", &self.path, e))?;
            return Err(StoreError::DigestMismatch {
                expected: self.expected.clone(),
                actual,
            });
        }
        file.sync_all()
            .map_err(|e| StoreError::io("fsync", &self.path, e))?;
        disk::publish(&self.path, &self.layout.blob(&self.expected))
    }

    /// Ends the attempt and drops its bytes.
    pub fn discard(mut self) -> Result<()> {
        match self.open.take() {
            Some(_) => fs::remove_file(&self.path).map_err(|e| StoreError::io("remove", &self.path, e)),
            None => Ok(()),
        }
    }
}
