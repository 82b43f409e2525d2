//! The commit thread and the database behind it.
//!
//! A database that has met an I/O error wants to be opened again, and what was committed without a sync is then gone. So writes
//! that did not wait stay in memory until a synced commit has them, and go into the next one again. A full disk is noticed before
//! redb meets it: writes are refused while there is little space, and deletes get the space of a file kept for that.

use super::{Outcome, RECORDS};
use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use redb::Database;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// redb's page cache; its default is a gigabyte.
const CACHE: usize = 4 << 20;
/// How long lazy writes may stay unsynced while nothing else happens.
const QUIET: Duration = Duration::from_secs(1);
/// Free space below which nothing but deletes is taken: redb grows its file in steps.
const MARGIN: u64 = 2 << 20;
/// What is kept back for deletes.
const RESERVE: u64 = 4 << 20;

/// What redb's error means to us.
pub(super) enum Trouble {
    /// The file is no database of ours any more.
    Damaged(String),
    /// The system does not let us.
    System(std::io::Error),
}

/// Opens or makes a database. redb promises errors for the damage that it finds while checking; a panic of its is one more.
pub(super) fn open(path: &Path, check: bool) -> std::result::Result<Database, Trouble> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    // redb would make it readable for all.
    drop(options.open(path).map_err(Trouble::System)?);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        redb::Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(check)
            .create(path)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(e)))) if is_environment(&e) => {
            Err(Trouble::System(e))
        }
        Ok(Err(e)) => Err(Trouble::Damaged(e.to_string())),
        Err(_) => Err(Trouble::Damaged("the database library gave up on it".into())),
    }
}

/// An error that says nothing about the file.
fn is_environment(e: &std::io::Error) -> bool {
    use ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        e.kind(),
        PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    )
}

/// The open database. `None` while it is being opened again, or when that failed.
pub(super) struct Shared {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl Shared {
    pub(super) fn new(path: PathBuf, database: Database) -> Self {
        Self {
            path,
            database: RwLock::new(Some(database)),
        }
    }

    /// Uses the database; waits a little where it is just being opened again.
    pub(super) fn with<T>(
        &self,
        work: impl Fn(&Database) -> std::result::Result<T, redb::Error>,
    ) -> Result<T> {
        for _ in 0..100 {
            let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match guard.as_ref().map(&work) {
                Some(Err(redb::Error::PreviousIo)) | None => {}
                Some(done) => return done.map_err(|e| self.error(e)),
            }
            drop(guard);
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(StoreError::corrupt(
            "meta.redb",
            "it met an I/O error and could not be opened again",
        ))
    }

    fn error(&self, e: redb::Error) -> StoreError {
        match e {
            redb::Error::Io(e) => StoreError::io("access", &self.path, e),
            e => StoreError::corrupt("meta.redb", e),
        }
    }

    fn reopen(&self) {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one holds the file's lock.
        drop(guard.take());
        *guard = open(&self.path, false).ok();
    }
}

/// Changes on their way.
pub(super) struct Job {
    pub(super) sequence: u64,
    pub(super) operations: Vec<(String, Option<Vec<u8>>)>,
    pub(super) reply: Option<Sender<Outcome>>,
}

/// Writes that have not been synced, each with the number of the job that made it. Readers look here first.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) sequence: u64,
    pub(super) writes: BTreeMap<String, (u64, Option<Vec<u8>>)>,
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) pending: Arc<Mutex<Pending>>,
    pub(super) receiver: Receiver<Job>,
    /// The file that keeps space back.
    pub(super) reserve: PathBuf,
    /// Jobs that did not wait and have not been synced.
    pub(super) backlog: Vec<Job>,
}

impl Committer {
    pub(super) fn run(mut self) {
        let mut due = Instant::now();
        loop {
            let first = if self.backlog.is_empty() {
                match self.receiver.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                }
            } else {
                match self
                    .receiver
                    .recv_timeout(due.saturating_duration_since(Instant::now()))
                {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            };
            if self.backlog.is_empty() {
                due = Instant::now() + QUIET;
            }
            let group = first.into_iter().chain(self.receiver.try_iter());
            let (waiting, lazy): (Vec<Job>, Vec<Job>) = group.partition(|job| job.reply.is_some());
            self.backlog.extend(lazy);
            if !waiting.is_empty() || Instant::now() >= due {
                self.commit(waiting);
                due = Instant::now() + QUIET;
            }
        }
        self.commit(Vec::new());
    }

    /// Commits these jobs together with everything that lies unsynced.
    fn commit(&mut self, waiting: Vec<Job>) {
        match self.shortage(&waiting) {
            None => {
                let outcome = self.transact(self.backlog.iter().chain(&waiting));
                if outcome.is_ok() {
                    let mut pending = lock(&self.pending);
                    self.backlog.drain(..).for_each(|job| settle(&mut pending, &job));
                }
                self.answer(waiting, outcome);
            }
            Some(shortage) => {
                // Without an operation it is a flush, which wants the backlog on disk.
                let (writes, deletes): (Vec<Job>, Vec<Job>) = waiting
                    .into_iter()
                    .partition(|job| size(job) > 0 || job.operations.is_empty());
                self.answer(writes, Err(shortage));
                if !deletes.is_empty() {
                    // Absent when it was used before, or when there never was room for it.
                    let _ = std::fs::remove_file(&self.reserve);
                    let outcome = self.transact(deletes.iter());
                    if outcome.is_ok() {
                        self.forget_older(&deletes);
                    }
                    self.answer(deletes, outcome);
                }
            }
        }
    }

    /// Why nothing but deletes is taken now: the disk is nearly full.
    fn shortage(&self, waiting: &[Job]) -> Option<StoreError> {
        // Where nobody can tell, redb will.
        let stat = rustix::fs::statvfs(&self.shared.path).ok()?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let wanted: u64 = waiting.iter().chain(&self.backlog).map(size).sum();
        // A page is copied whole, and its branch with it.
        let needed = wanted.saturating_mul(3).saturating_add(MARGIN);
        (free < needed).then(|| StoreError::NoSpace {
            path: self.shared.path.clone(),
            detail: format!("{free} bytes are free where {needed} are needed"),
        })
    }

    /// Writes one transaction and syncs it. After a failure the database is opened again.
    fn transact<'a>(&self, jobs: impl Iterator<Item = &'a Job> + Clone) -> Result<()> {
        let mut jobs: Vec<&Job> = jobs.collect();
        jobs.sort_by_key(|job| job.sequence);
        let result = self.shared.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(redb::Durability::Immediate)?;
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
        });
        if result.is_err() {
            self.shared.reopen();
        }
        result
    }

    /// Tells writers what came of it. What failed goes out of the readers' sight.
    fn answer(&self, waiting: Vec<Job>, outcome: Result<()>) {
        let outcome = outcome.map_err(Arc::new);
        let mut pending = lock(&self.pending);
        waiting.iter().for_each(|job| settle(&mut pending, job));
        // A failed job may have hidden an older lazy write.
        for job in &self.backlog {
            for (key, value) in &job.operations {
                if pending
                    .writes
                    .get(key)
                    .is_none_or(|(sequence, _)| *sequence < job.sequence)
                {
                    pending.writes.insert(key.clone(), (job.sequence, value.clone()));
                }
            }
        }
        drop(pending);
        for reply in waiting.into_iter().filter_map(|job| job.reply) {
            // Whoever does not wait any more does not want to know.
            let _ = reply.send(outcome.clone());
        }
    }

    /// Drops lazy writes that a delete has overtaken.
    fn forget_older(&mut self, deletes: &[Job]) {
        for delete in deletes {
            for (gone, _) in &delete.operations {
                for job in self
                    .backlog
                    .iter_mut()
                    .filter(|job| job.sequence < delete.sequence)
                {
                    job.operations.retain(|(key, _)| key != gone);
                }
            }
        }
    }

    /// Sets space aside where there is plenty.
    pub(super) fn keep_reserve(&self) {
        let Ok(stat) = rustix::fs::statvfs(&self.shared.path) else {
            return;
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let there = std::fs::metadata(&self.reserve).is_ok_and(|m| m.len() == RESERVE);
        if there || free < 4 * RESERVE {
            return;
        }
        let mut options = OpenOptions::new();
        let Ok(file) = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.reserve)
        else {
            return;
        };
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE).is_err() {
            // Some file systems cannot; then there is no reserve.
            let _ = std::fs::remove_file(&self.reserve);
        }
    }
}

/// Bytes that a job writes; a delete has none.
fn size(job: &Job) -> u64 {
    job.operations
        .iter()
        .filter_map(|(_, value)| value.as_ref())
        .map(|v| v.len() as u64)
        .sum()
}

/// Takes a job's writes out of the readers' way, unless newer ones have taken their place.
fn settle(pending: &mut Pending, job: &Job) {
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

/// Opens the database at start. One that is damaged is set aside, and an empty one takes its place; says whether that was so.
pub(super) fn open_or_replace(
    layout: &crate::layout::Layout,
    warn: &mut dyn FnMut(String),
) -> Result<(Database, bool)> {
    let path = layout.meta();
    let failed = |trouble| match trouble {
        Trouble::Damaged(reason) => StoreError::corrupt("meta.redb", reason),
        Trouble::System(e) => StoreError::io("open", layout.meta(), e),
    };
    match open(&path, true) {
        Ok(database) => Ok((database, false)),
        Err(Trouble::Damaged(reason)) => {
            disk::rename(&path, &layout.new_quarantine("meta.redb".as_ref()))?;
            warn(format!(
                "the records in {} were damaged and moved to quarantine/: {reason}",
                path.display()
            ));
            Ok((open(&path, true).map_err(failed)?, true))
        }
        Err(trouble) => Err(failed(trouble)),
    }
}
