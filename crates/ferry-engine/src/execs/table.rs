//! The execs that are known: those that run, and those that ended a while ago.

use crate::containers::spec::ExecSpec;
use crate::containers::view::ExecView;
use crate::supervisor::ShimLink;
use crate::{Error, Result};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an exec that ended can be inspected.
const KEEP: Duration = Duration::from_secs(300);

/// Where an exec stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Made, never started.
    #[default]
    Created,
    /// Being started.
    Starting,
    /// Its program runs.
    Running,
    /// Ended, or could not be started.
    Ended,
}

/// What changes in an exec.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stand {
    /// Where it stands.
    pub stage: Stage,
    /// As the host sees it; 0 when none.
    pub pid: i32,
    /// Once it ended.
    pub exit_code: Option<i32>,
    /// When it ended.
    ended: Option<Instant>,
}

/// One exec.
pub(crate) struct Exec {
    /// Sixty-four hexadecimal digits.
    pub id: String,
    /// Of which container.
    pub container_id: String,
    /// What was asked.
    pub spec: Arc<ExecSpec>,
    stand: watch::Sender<Stand>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    link: Option<ShimLink>,
    pidfd: Option<Arc<OwnedFd>>,
}

impl Exec {
    /// One that was not started yet.
    pub(crate) fn new(id: String, container_id: String, spec: ExecSpec) -> Arc<Self> {
        let (stand, _) = watch::channel(Stand::default());
        Arc::new(Self {
            id,
            container_id,
            spec: Arc::new(spec),
            stand,
            held: Mutex::default(),
        })
    }

    /// Where it stands.
    pub(crate) fn stand(&self) -> Stand {
        *self.stand.borrow()
    }

    /// Follows it.
    pub(crate) fn watch(&self) -> watch::Receiver<Stand> {
        self.stand.subscribe()
    }

    /// Takes it for the one start that it can have.
    ///
    /// # Errors
    /// [`crate::Kind::Conflict`] when it was started already.
    pub(crate) fn claim(&self) -> Result<()> {
        let mut before = Stage::Created;
        self.stand.send_modify(|stand| {
            before = stand.stage;
            if before == Stage::Created {
                stand.stage = Stage::Starting;
            }
        });
        let id = &self.id;
        match before {
            Stage::Created => Ok(()),
            Stage::Ended => Err(Error::conflict(format!(
                "Error: Exec command {id} has already run"
            ))),
            Stage::Starting | Stage::Running => Err(Error::conflict(format!(
                "Error: Exec command {id} is already running"
            ))),
        }
    }

    /// Its program runs.
    pub(crate) fn runs(&self, pid: i32) {
        self.stand.send_modify(|stand| {
            stand.stage = Stage::Running;
            stand.pid = pid;
        });
    }

    /// It is over.
    pub(crate) fn ended(&self, code: i32) {
        *self.held() = Held::default();
        self.stand.send_modify(|stand| {
            *stand = Stand {
                stage: Stage::Ended,
                pid: 0,
                exit_code: Some(code),
                ended: Some(Instant::now()),
            };
        });
    }

    /// Holds on to its monitor.
    pub(crate) fn hold_link(&self, link: ShimLink) {
        self.held().link = Some(link);
    }

    /// Holds on to its process, so that a signal never reaches another one.
    pub(crate) fn hold_process(&self, pidfd: OwnedFd) {
        self.held().pidfd = Some(Arc::new(pidfd));
    }

    /// Its monitor, while it runs.
    pub(crate) fn link(&self) -> Option<ShimLink> {
        self.held().link.clone()
    }

    /// Its process, while it runs.
    pub(crate) fn process(&self) -> Option<Arc<OwnedFd>> {
        self.held().pidfd.clone()
    }

    /// What is told of it.
    pub(crate) fn view(&self) -> ExecView {
        let stand = self.stand();
        ExecView {
            id: self.id.clone(),
            container_id: self.container_id.clone(),
            spec: Arc::clone(&self.spec),
            running: matches!(stand.stage, Stage::Starting | Stage::Running),
            exit_code: stand.exit_code,
            pid: stand.pid,
            can_remove: stand.stage == Stage::Ended,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All execs, by id.
#[derive(Default)]
pub(crate) struct ExecTable {
    entries: Mutex<HashMap<String, Arc<Exec>>>,
}

impl ExecTable {
    /// Adds one, and lets those go that ended long ago.
    pub(crate) fn insert(&self, exec: Arc<Exec>) {
        let mut entries = self.entries();
        entries.retain(|_, exec| fresh(exec));
        entries.insert(exec.id.clone(), exec);
    }

    /// By full id.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]: `No such exec instance: x`.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let found = self.entries().get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// The container's run is over: what was never started goes; what ran can be inspected for a while.
    pub(crate) fn forget_container(&self, id: &str) {
        self.entries().retain(|_, exec| {
            fresh(exec) && !(exec.container_id == id && exec.stand().stage == Stage::Created)
        });
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh(exec: &Exec) -> bool {
    exec.stand().ended.is_none_or(|at| at.elapsed() < KEEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn an_exec_starts_once_and_is_told_of_after_its_end() {
        let table = ExecTable::default();
        let exec = Exec::new("e".into(), "c".into(), ExecSpec::default());
        let idle = Exec::new("i".into(), "c".into(), ExecSpec::default());
        table.insert(Arc::clone(&exec));
        table.insert(idle);
        exec.claim().unwrap();
        assert_eq!(
            exec.claim().unwrap_err().to_string(),
            "Error: Exec command e is already running"
        );
        exec.runs(7);
        assert!(exec.view().running && exec.view().pid == 7);
        exec.ended(3);
        assert_eq!(
            exec.claim().unwrap_err().to_string(),
            "Error: Exec command e has already run"
        );
        table.forget_container("c");
        let view = table.find("e").unwrap().view();
        assert_eq!((view.running, view.exit_code, view.pid), (false, Some(3), 0));
        let error = table.find("i").err().unwrap();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::NotFound, "No such exec instance: i".into())
        );
    }
}
