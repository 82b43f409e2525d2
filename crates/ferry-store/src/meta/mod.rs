//! Records: one embedded transactional database (redb) for the whole engine.
//!
//! A record is a serde value, kept as JSON under (table, key). One thread commits. Writers that wait for the disk (`Durable`)
//! and come while it is busy share its next commit, so many of them cost one fsync; writers that do not wait (`Lazy`) return at
//! once and reach the disk with the next durable commit, after a second of quiet, or when the store is closed. Readers see every
//! write at once, whether it has reached the disk or not, so order is as the callers made it.
//!
//! Nothing here is the only truth: image names can be rebuilt from their journal, and the engine's records from the containers'
//! directories. So a damaged file is set aside, not mourned.

mod commit;

use crate::disk::lock;
use crate::error::{Result, StoreError};
use crate::layout::Layout;
use commit::{Committer, Job, Pending, Shared};
use redb::{ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Where the version of the record format stands.
const SCHEMA: (&str, &str) = ("schema", "version");
const VERSION: u32 = 1;
/// Whether the caller waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk when the call returns.
    Durable,
    /// On disk soon; lost with a power cut in between, not with a killed process that had a moment.
    Lazy,
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<(String, Option<Vec<u8>>)>,
}

impl Batch {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a record.
    pub fn put<T: Serialize + ?Sized>(&mut self, table: &str, key: &str, value: &T) -> Result<()> {
        let bytes =
            serde_json::to_vec(value).map_err(|e| StoreError::invalid(format!("record {table}/{key}"), e))?;
        self.operations.push((joined(table, key)?, Some(bytes)));
        Ok(())
    }

    /// Removes a record. Absence is success.
    pub fn delete(&mut self, table: &str, key: &str) -> Result<()> {
        self.operations.push((joined(table, key)?, None));
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// The key in the one redb table: no table name has a NUL, so tables cannot mix.
fn joined(table: &str, key: &str) -> Result<String> {
    if table.is_empty() || table.contains('\0') {
        return Err(StoreError::invalid(
            format!("table name {table:?}"),
            "it is empty or has a NUL",
        ));
    }
    Ok(format!("{table}\0{key}"))
}

/// What a waiting writer hears; many may hear the same.
type Outcome = std::result::Result<(), Arc<StoreError>>;

struct Inner {
    shared: Arc<Shared>,
    pending: Arc<Mutex<Pending>>,
    /// `None` once closing.
    jobs: Mutex<Option<Sender<Job>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    rebuilt: bool,
}

/// The records of a store. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    inner: Arc<Inner>,
}

impl Meta {
    /// Opens or makes the database. One that cannot be read is set aside, `warn` hears of it, and an empty one takes its place.
    pub(crate) fn open(layout: &Layout, warn: &mut dyn FnMut(String)) -> Result<Self> {
        let path = layout.meta();
        let fresh = !path.exists();
        let (database, rebuilt) = commit::open_or_replace(layout, warn)?;
        let shared = Arc::new(Shared::new(path.clone(), database));
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (sender, receiver) = channel();
        let committer = Committer {
            shared: shared.clone(),
            pending: pending.clone(),
            receiver,
            reserve: layout.reserve(),
            backlog: Vec::new(),
        };
        committer.keep_reserve();
        let thread = std::thread::Builder::new()
            .name("meta-commit".into())
            .spawn(move || committer.run())
            .map_err(|e| StoreError::io("start the commit thread of", &path, e))?;
        let inner = Inner {
            shared,
            pending,
            jobs: Mutex::new(Some(sender)),
            committer: Mutex::new(Some(thread)),
            rebuilt,
        };
        let meta = Self {
            inner: Arc::new(inner),
        };
        meta.check_version(fresh || rebuilt)?;
        Ok(meta)
    }

    fn check_version(&self, fresh: bool) -> Result<()> {
        match self.get::<u32>(SCHEMA.0, SCHEMA.1)? {
            Some(VERSION) => Ok(()),
            Some(other) => Err(StoreError::invalid(
                "meta.redb",
                format!(
                    "its records have format {other}, this engine knows {VERSION}; use the engine that wrote them"
                ),
            )),
            None => {
                let mut batch = Batch::new();
                batch.put(SCHEMA.0, SCHEMA.1, &VERSION)?;
                self.write(
                    batch,
                    if fresh {
                        Durability::Lazy
                    } else {
                        Durability::Durable
                    },
                )
            }
        }
    }

    /// Whether the records were lost and begin anew: the engine then rebuilds its own from the containers' directories.
    pub fn was_rebuilt(&self) -> bool {
        self.inner.rebuilt
    }

    /// One record.
    pub fn get<T: DeserializeOwned>(&self, table: &str, key: &str) -> Result<Option<T>> {
        let joined = joined(table, key)?;
        if let Some((_, value)) = lock(&self.inner.pending).writes.get(&joined) {
            return value
                .as_deref()
                .map(|bytes| decode(table, key, bytes))
                .transpose();
        }
        let value = self.inner.shared.with(|database| {
            let read = database.begin_read()?;
            match read.open_table(RECORDS) {
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                handle => Ok(handle?.get(joined.as_str())?.map(|guard| guard.value().to_vec())),
            }
        })?;
        value.map(|bytes| decode(table, key, &bytes)).transpose()
    }

    /// Every record of a table whose key begins with `prefix`, in the order of their keys. One that cannot be decoded is an error
    /// that names it.
    pub fn scan<T: DeserializeOwned>(&self, table: &str, prefix: &str) -> Result<Vec<(String, T)>> {
        let start = joined(table, prefix)?;
        // Pending first: what commits in between is then seen twice rather than never.
        let pending: Vec<(String, Option<Vec<u8>>)> = {
            let pending = lock(&self.inner.pending);
            let range = pending
                .writes
                .range(start.clone()..)
                .take_while(|(key, _)| key.starts_with(&start));
            range
                .map(|(key, (_, value))| (key.clone(), value.clone()))
                .collect()
        };
        let mut rows = self.inner.shared.with(|database| {
            let read = database.begin_read()?;
            let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let handle = match read.open_table(RECORDS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(rows),
                handle => handle?,
            };
            for row in handle.range(start.as_str()..)? {
                let (key, value) = row?;
                if !key.value().starts_with(&start) {
                    break;
                }
                rows.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(rows)
        })?;
        for (key, value) in pending {
            match value {
                Some(bytes) => rows.insert(key, bytes),
                None => rows.remove(&key),
            };
        }
        let skip = table.len() + 1;
        rows.into_iter()
            .map(|(key, bytes)| {
                decode(table, &key[skip..], &bytes).map(|value| (key[skip..].to_owned(), value))
            })
            .collect()
    }

    /// Sets one record.
    pub fn put<T: Serialize + ?Sized>(
        &self,
        table: &str,
        key: &str,
        value: &T,
        durability: Durability,
    ) -> Result<()> {
        let mut batch = Batch::new();
        batch.put(table, key, value)?;
        self.write(batch, durability)
    }

    /// Removes one record. Absence is success.
    pub fn delete(&self, table: &str, key: &str, durability: Durability) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(table, key)?;
        self.write(batch, durability)
    }

    /// Makes all changes of a batch, or none. Durable writers that come at the same time share one fsync.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        let waiting = self.submit(batch, durability)?;
        match waiting {
            None => Ok(()),
            Some(reply) => reply
                .recv()
                .map_err(|_| StoreError::corrupt("meta.redb", "its commit thread is gone"))?
                .map_err(|e| shared_error(&e)),
        }
    }

    /// Waits until everything written so far is on disk.
    pub fn flush(&self) -> Result<()> {
        self.write(Batch::new(), Durability::Durable)
    }

    fn submit(&self, batch: Batch, durability: Durability) -> Result<Option<Receiver<Outcome>>> {
        let (reply, waiting) = match durability {
            Durability::Durable => {
                let (sender, receiver) = channel();
                (Some(sender), Some(receiver))
            }
            Durability::Lazy => (None, None),
        };
        let jobs = lock(&self.inner.jobs);
        let mut pending = lock(&self.inner.pending);
        pending.sequence += 1;
        let sequence = pending.sequence;
        for (key, value) in &batch.operations {
            pending.writes.insert(key.clone(), (sequence, value.clone()));
        }
        drop(pending);
        jobs.as_ref()
            .and_then(|jobs| {
                jobs.send(Job {
                    sequence,
                    operations: batch.operations,
                    reply,
                })
                .ok()
            })
            .ok_or_else(|| StoreError::corrupt("meta.redb", "its commit thread is gone"))?;
        Ok(waiting)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.jobs).take();
        if let Some(thread) = lock(&self.committer).take() {
            // It only ends by panic or by the closed channel; both leave redb consistent.
            let _ = thread.join();
        }
    }
}

fn decode<T: DeserializeOwned>(table: &str, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| StoreError::corrupt(format!("record {table}/{key}"), e))
}

/// One writer's copy of what befell the whole group.
fn shared_error(e: &StoreError) -> StoreError {
    match e {
        StoreError::NoSpace { path, detail } => StoreError::NoSpace {
            path: path.clone(),
            detail: detail.clone(),
        },
        StoreError::Io { op, path, source } => StoreError::Io {
            op,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        e => StoreError::corrupt("meta.redb", e),
    }
}
