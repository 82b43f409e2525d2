//! Records: one embedded transactional database (redb) for the whole engine.
//!
//! A record is a serde value, kept as JSON under (table, key). One thread commits. Writers that wait for the disk (`Durable`)
//! and come while it is busy share its next commit, so many of them cost one fsync; writers that do not wait (`Lazy`) return at
//! once and reach the disk with the next durable commit, after a second of quiet, or when the store is closed. Readers see every
//! write at once, whether it has reached the disk or not, so order is as the callers made it.
//!
//! Nothing here is the only truth: image names can be rebuilt from their journal, and the engine's records from the containers'
//! directories. So a damaged file is set aside, not mourned.

use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use crate::layout::Layout;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Where the version of the record format stands.
const SCHEMA: (&str, &str) = ("schema", "version");
const VERSION: u32 = 1;
/// redb's page cache; its default is a gigabyte.
const CACHE: usize = 4 << 20;
/// How long lazy writes may stay unsynced while nothing else happens.
const QUIET: Duration = Duration::from_secs(1);

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

type Outcome = std::result::Result<(), String>;

struct Job {
    sequence: u64,
    operations: Vec<(String, Option<Vec<u8>>)>,
    reply: Option<Sender<Outcome>>,
}

/// Writes that redb's readers do not see yet, each with the number of the job that made it.
#[derive(Default)]
struct Pending {
    sequence: u64,
    writes: BTreeMap<String, (u64, Option<Vec<u8>>)>,
}

struct Inner {
    database: Arc<Database>,
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
        let (database, rebuilt) = match open(&path) {
            Ok(database) => (database, false),
            Err(reason) => {
                disk::rename(&path, &layout.new_quarantine("meta.redb".as_ref()))?;
                warn(format!(
                    "the records in {} were damaged and set aside: {reason}",
                    path.display()
                ));
                let database = open(&path).map_err(|reason| StoreError::corrupt("meta.redb", reason))?;
                (database, true)
            }
        };
        let database = Arc::new(database);
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (sender, receiver) = channel();
        let committer = Committer {
            database: database.clone(),
            pending: pending.clone(),
            receiver,
            dirty: false,
        };
        let thread = std::thread::Builder::new()
            .name("meta-commit".into())
            .spawn(move || committer.run())
            .map_err(|e| StoreError::io("start the commit thread of", &path, e))?;
        let inner = Inner {
            database,
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
        let read = self.inner.database.begin_read().map_err(broken)?;
        let table_handle = match read.open_table(RECORDS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            handle => handle.map_err(broken)?,
        };
        let value = table_handle.get(joined.as_str()).map_err(broken)?;
        value.map(|guard| decode(table, key, guard.value())).transpose()
    }

    /// Every record of a table whose key begins with `prefix`, in the order of their keys. One that cannot be decoded is an error
    /// that names it.
    pub fn scan<T: DeserializeOwned>(&self, table: &str, prefix: &str) -> Result<Vec<(String, T)>> {
        let start = joined(table, prefix)?;
        let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
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
        let read = self.inner.database.begin_read().map_err(broken)?;
        match read.open_table(RECORDS) {
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            handle => {
                for row in handle.map_err(broken)?.range(start.as_str()..).map_err(broken)? {
                    let (key, value) = row.map_err(broken)?;
                    if !key.value().starts_with(&start) {
                        break;
                    }
                    rows.insert(key.value().to_owned(), value.value().to_vec());
                }
            }
        }
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
                .map_err(|reason| self.failed(&reason)),
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

    fn failed(&self, reason: &str) -> StoreError {
        if reason.contains("No space left") || reason.contains("Disk quota") {
            return StoreError::NoSpace {
                path: "meta.redb".into(),
                detail: reason.to_owned(),
            };
        }
        StoreError::corrupt("meta.redb", reason)
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

fn broken(e: impl Into<redb::Error>) -> StoreError {
    StoreError::corrupt("meta.redb", e.into())
}

/// redb promises errors for damage that it finds while checking; a panic of its is treated as one more.
fn open(path: &Path) -> std::result::Result<Database, String> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        redb::Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create(path)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("the database library gave up on it".into()),
    }
}

struct Committer {
    database: Arc<Database>,
    pending: Arc<Mutex<Pending>>,
    receiver: Receiver<Job>,
    /// Whether there are commits that have not been synced.
    dirty: bool,
}

impl Committer {
    fn run(mut self) {
        loop {
            let first = if self.dirty {
                match self.receiver.recv_timeout(QUIET) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match self.receiver.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                }
            };
            let mut jobs: Vec<Job> = first.into_iter().collect();
            jobs.extend(self.receiver.try_iter());
            self.commit(jobs);
        }
        self.commit(Vec::new());
    }

    /// Commits a group; an empty group only syncs.
    fn commit(&mut self, jobs: Vec<Job>) {
        let durable = jobs.is_empty() || jobs.iter().any(|job| job.reply.is_some());
        let outcome = self.transact(&jobs, durable).map_err(|e| e.to_string());
        if outcome.is_ok() {
            self.dirty = !durable;
        }
        let mut pending = lock(&self.pending);
        for job in &jobs {
            for (key, _) in &job.operations {
                if pending
                    .writes
                    .get(key)
                    .is_some_and(|(sequence, _)| *sequence == job.sequence)
                {
                    pending.writes.remove(key);
                }
            }
        }
        drop(pending);
        for reply in jobs.into_iter().filter_map(|job| job.reply) {
            // Whoever does not wait any more does not want to know.
            let _ = reply.send(outcome.clone());
        }
    }

    fn transact(&self, jobs: &[Job], durable: bool) -> std::result::Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        let durability = if durable {
            redb::Durability::Immediate
        } else {
            redb::Durability::None
        };
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for (key, value) in jobs.iter().flat_map(|job| &job.operations) {
                match value {
                    Some(bytes) => table.insert(key.as_str(), bytes.as_slice())?,
                    None => table.remove(key.as_str())?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
