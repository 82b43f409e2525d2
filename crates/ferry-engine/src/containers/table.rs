//! The containers in memory: found by id, name or prefix; each behind one short lock.

use super::record::Record;
use super::state::{Phase, State};
use super::view::Health;
use crate::networks::Attachment;
use crate::supervisor::ShimLink;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// One container.
pub(crate) struct Container {
    /// Its id, which never changes.
    pub id: String,
    cell: Mutex<Cell>,
    progress: watch::Sender<Progress>,
}

/// What is behind the lock.
pub(crate) struct Cell {
    /// What outlives the engine, but for the state.
    pub record: Arc<Record>,
    /// Where it stands.
    pub state: State,
    /// The present run, from the start's beginning until everything is released.
    pub run: Option<Arc<Run>>,
    /// Clients that attached before there was a shim.
    pub waiting: Vec<Waiting>,
    /// Of the present or last run.
    pub health: Option<Health>,
    /// The health checks' task.
    pub health_task: Option<AbortHandle>,
    /// The back-off's task.
    pub backoff_task: Option<AbortHandle>,
    /// Execs that run.
    pub execs: BTreeSet<String>,
    /// Rows and columns asked for before there was a terminal.
    pub size: Option<(u16, u16)>,
}

/// A run of a container.
pub(crate) struct Run {
    /// The shim's link.
    pub link: ShimLink,
    /// The first process, once known.
    pub pidfd: Mutex<Option<OwnedFd>>,
    /// What a new engine has to know of it.
    pub facts: RunFacts,
}

/// What a new engine has to know of a run; in the runtime directory as `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunFacts {
    /// Endpoints and ports.
    pub network: Attachment,
    /// The cgroup.
    pub cgroup: String,
    /// The host name inside.
    pub hostname: String,
}

/// A client that attached before there was a shim: the shim's end of its stream.
pub(crate) struct Waiting {
    /// The shim's end.
    pub stream: OwnedFd,
    /// Which streams it wants.
    pub streams: (bool, bool, bool),
}

/// What those who wait look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Where it stands.
    pub phase: Phase,
    /// Whether the last run still holds something.
    pub held: bool,
    /// How often it ended since the engine knows it.
    pub exits: u64,
    /// Of the last end.
    pub exit_code: i32,
    /// Of the last end.
    pub error: String,
    /// Whether it is gone.
    pub removed: bool,
}

impl Container {
    /// A container that stands as its record says.
    pub(crate) fn new(record: Record, state: State) -> Arc<Self> {
        let progress = Progress {
            phase: state.phase,
            held: state.held,
            exit_code: state.exit_code,
            error: state.error.clone(),
            ..Progress::default()
        };
        let cell = Cell {
            record: Arc::new(record),
            state,
            run: None,
            waiting: Vec::new(),
            health: None,
            health_task: None,
            backoff_task: None,
            execs: BTreeSet::new(),
            size: None,
        };
        let (progress, _) = watch::channel(progress);
        let id = cell.record.id.clone();
        Arc::new(Self {
            id,
            cell: Mutex::new(cell),
            progress,
        })
    }

    /// The lock; never held across an await.
    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.cell().record)
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.cell().state.clone()
    }

    /// The present run.
    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        self.cell().run.clone()
    }

    /// Follows its progress.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells those who wait; called with every change of the state.
    pub(crate) fn tell(&self, state: &State, ended: bool) {
        self.progress.send_modify(|p| {
            p.phase = state.phase;
            p.held = state.held;
            p.removed = state.phase == Phase::Removed;
            if ended {
                p.exits += 1;
            }
            p.exit_code = state.exit_code;
            p.error.clone_from(&state.error);
        });
    }
}

impl Progress {
    /// Whether a process of it is there or about to be.
    pub(crate) fn running(&self) -> bool {
        matches!(
            self.phase,
            Phase::Running | Phase::Paused | Phase::Starting | Phase::Restarting
        )
    }
}

/// All containers.
#[derive(Default)]
pub(crate) struct Table {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    by_name: BTreeMap<String, String>,
}

impl Table {
    /// Takes a name for an id.
    ///
    /// # Errors
    /// The id that has it.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> std::result::Result<(), String> {
        match self.write().by_name.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(taken) if taken.get() != id => {
                Err(taken.get().clone())
            }
            entry => {
                entry.or_insert_with(|| id.to_owned());
                Ok(())
            }
        }
    }

    /// Lets a name go if this id has it.
    pub(crate) fn release(&self, name: &str, id: &str) {
        let mut index = self.write();
        if index.by_name.get(name).is_some_and(|have| have == id) {
            index.by_name.remove(name);
        }
    }

    /// Whether somebody has the name.
    pub(crate) fn taken(&self, name: &str) -> bool {
        self.read().by_name.contains_key(name)
    }

    /// Adds a container; its name is reserved already.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.write().by_id.insert(container.id.clone(), container);
    }

    /// Takes a container and its name out.
    pub(crate) fn remove(&self, id: &str) {
        let mut index = self.write();
        index.by_id.remove(id);
        index.by_name.retain(|_, have| have != id);
    }

    /// By full id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.read().by_id.get(id).cloned()
    }

    /// By full id, name, or unique beginning of an id.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: `No such container: x`.
    pub(crate) fn find(&self, key: &str) -> Result<Arc<Container>> {
        if key.is_empty() {
            return Err(Error::invalid(format!("invalid name or ID supplied: {key:?}")));
        }
        let index = self.read();
        if let Some(found) = index.by_id.get(key) {
            return Ok(Arc::clone(found));
        }
        let name = key.strip_prefix('/').unwrap_or(key);
        if let Some(found) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(Arc::clone(found));
        }
        let mut beginning = index
            .by_id
            .range(key.to_owned()..)
            .take_while(|(id, _)| id.starts_with(key));
        match (beginning.next(), beginning.next()) {
            (Some((_, found)), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => Err(Error::new(
                Kind::Invalid,
                format!("multiple IDs found with provided prefix: {key}"),
            )),
            _ => Err(Error::not_found(format!("No such container: {key}"))),
        }
    }

    /// All of them, in no order that means something.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}
