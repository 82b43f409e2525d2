//! What all services on containers share, and how events take effect.

use super::record;
use super::state::{Conflict, Effect, Event, State, step};
use super::table::{Cell, Container, Table};
use crate::db::{self, Db};
use crate::execs::ExecTable;
use crate::supervisor::Supervisor;
use crate::{Config, Error, Events, Images, Kernel, Kind, Networks, Result, Volumes};
use ferry_store::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many removals from the disk go on at a time.
const REAPERS: usize = 4;

/// Shared by [`super::Containers`] and [`crate::Execs`].
pub(crate) struct Core {
    pub config: Arc<Config>,
    pub kernel: Arc<dyn Kernel>,
    pub store: Store,
    pub db: Db,
    pub events: Events,
    pub table: Arc<Table>,
    pub images: Images,
    pub volumes: Volumes,
    pub networks: Networks,
    pub supervisor: Supervisor,
    pub execs: ExecTable,
    /// Paths hidden from containers on this host.
    pub masked: Vec<String>,
    /// One prune at a time.
    pub pruning: AtomicBool,
    closing: AtomicBool,
    reapers: Semaphore,
}

/// The parts that a core is made of.
pub(crate) struct Parts {
    pub config: Arc<Config>,
    pub kernel: Arc<dyn Kernel>,
    pub store: Store,
    pub db: Db,
    pub events: Events,
    pub table: Arc<Table>,
    pub images: Images,
    pub volumes: Volumes,
    pub networks: Networks,
    pub supervisor: Supervisor,
}

impl Core {
    /// Puts the parts together. Reads the host's list of processors.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            config,
            kernel,
            store,
            db,
            events,
            table,
            images,
            volumes,
            networks,
            supervisor,
        } = parts;
        Arc::new(Self {
            config,
            kernel,
            store,
            db,
            events,
            table,
            images,
            volumes,
            networks,
            supervisor,
            execs: ExecTable::default(),
            masked: super::to_oci::security::host_masked_paths(),
            pruning: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            reapers: Semaphore::new(REAPERS),
        })
    }

    /// From now on nothing is restarted and no end is acted upon: the next engine does.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Whether the engine shuts down.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// A place among those who remove from the disk.
    pub(crate) async fn reaper(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        self.reapers
            .acquire()
            .await
            .map_err(|e| Error::internal("waiting for the reaper", e))
    }

    /// The container's directory on the disk.
    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.config.data_root.join("containers").join(id)
    }

    /// The container's runtime directory, on tmpfs.
    pub(crate) fn runtime_dir(&self, id: &str) -> PathBuf {
        self.config.exec_root.join("containers").join(id)
    }

    /// The container's log.
    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.dir(id).join(format!("{id}-json.log"))
    }

    /// Lets an event take effect: state, events, those who wait, the record, and tasks for what takes time. What the caller has
    /// to do itself is answered: launch, signal and thaw.
    ///
    /// # Errors
    /// When it cannot be; nothing has changed then.
    pub(crate) fn apply(
        self: &Arc<Self>,
        container: &Arc<Container>,
        event: Event,
    ) -> std::result::Result<Vec<Effect>, Conflict> {
        let mut cell = container.cell();
        let (state, effects) = step(cell.state.clone(), event)?;
        cell.state = state;
        let mut rest = Vec::new();
        for effect in &effects {
            match effect {
                Effect::Launch | Effect::Signal | Effect::Thaw => rest.push(effect.clone()),
                Effect::Save => self.save(&cell),
                effect => self.act(container, &mut cell, effect),
            }
        }
        let state = cell.state.clone();
        drop(cell);
        container.tell(&state, effects.contains(&Effect::PublishDie));
        Ok(rest)
    }

    fn act(self: &Arc<Self>, container: &Arc<Container>, cell: &mut Cell, effect: &Effect) {
        match effect {
            Effect::PublishStart => self.publish(cell, "start", &[]),
            Effect::PublishStop => self.publish(cell, "stop", &[]),
            Effect::PublishOom => self.publish(cell, "oom", &[]),
            Effect::PublishDie => self.publish_die(cell),
            Effect::Release => drop(tokio::spawn(super::lifecycle::release(
                Arc::clone(self),
                Arc::clone(container),
            ))),
            Effect::Backoff(delay) => {
                let task = tokio::spawn(super::lifecycle::restart_later(
                    Arc::clone(self),
                    Arc::clone(container),
                    *delay,
                ));
                cell.backoff_task = Some(task.abort_handle());
            }
            Effect::CancelBackoff => abort(&mut cell.backoff_task),
            Effect::StartHealth => super::health::start(self, container, cell),
            Effect::StopHealth => abort(&mut cell.health_task),
            Effect::AutoRemove => drop(tokio::spawn(super::remove::automatically(
                Arc::clone(self),
                Arc::clone(container),
            ))),
            Effect::Launch | Effect::Signal | Effect::Thaw | Effect::Save => {}
        }
    }

    /// Writes the record; nobody waits for it.
    pub(crate) fn save(&self, cell: &Cell) {
        let written = record::encode(&cell.record, &cell.state)
            .and_then(|value| self.db.put_lazy(db::CONTAINERS, &cell.record.id, &value));
        if let Err(error) = written {
            tracing::error!(container = cell.record.id, %error, "the record could not be written");
        }
    }

    /// Writes the record, and answers when it is on the disk.
    pub(crate) async fn save_durably(&self, container: &Container) -> Result<()> {
        let value = {
            let cell = container.cell();
            record::encode(&cell.record, &cell.state)?
        };
        self.db.put(db::CONTAINERS, &container.id, &value).await
    }

    fn publish_die(&self, cell: &Cell) {
        if let Some(run) = &cell.run {
            self.networks
                .publish_endpoints(&cell.record.id, &run.facts.network.endpoints, "disconnect");
        }
        let ran = match (cell.state.started_at, cell.state.finished_at) {
            (Some(start), Some(end)) => end.duration_since(start).unwrap_or(Duration::ZERO).as_secs(),
            _ => 0,
        };
        let code = cell.state.exit_code.to_string();
        self.publish(
            cell,
            "die",
            &[("exitCode", &code), ("execDuration", &ran.to_string())],
        );
    }

    /// Tells of an event of a container, with its labels, image and name.
    pub(crate) fn publish(&self, cell: &Cell, action: &str, extra: &[(&str, &str)]) {
        let record = &cell.record;
        let mut attributes: BTreeMap<String, String> = record.spec.labels.clone();
        attributes.insert("image".into(), record.spec.image.clone());
        attributes.insert("name".into(), record.name.clone());
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.events
            .publish("container", action, record.id.clone(), attributes);
    }
}

fn abort(task: &mut Option<tokio::task::AbortHandle>) {
    if let Some(task) = task.take() {
        task.abort();
    }
}

/// Docker's words for what cannot be, for the container with this id.
pub(crate) fn refused(conflict: Conflict, id: &str, state: &State) -> Error {
    let conflicting = |text: String| Error::new(Kind::Conflict, text);
    match conflict {
        Conflict::Unchanged => Error::unchanged(),
        Conflict::NotRunning => conflicting(format!("container {id} is not running")),
        Conflict::Paused => conflicting(format!("container {id} is already paused")),
        Conflict::NotPaused => conflicting(format!("Container {id} is not paused")),
        Conflict::Restarting => conflicting(format!(
            "Container {id} is restarting, wait until the container is running"
        )),
        Conflict::Running => conflicting(format!("container {id} is running")),
        Conflict::Starting | Conflict::Held => conflicting(format!("container {id} is changing: try again")),
        Conflict::Removing => conflicting(format!("removal of container {id} is already in progress")),
        Conflict::Dead => conflicting("container is marked for removal and cannot be started".into()),
        Conflict::Stale => Error::new(
            Kind::Internal,
            format!("an event came too late for container {id} ({:?})", state.phase),
        ),
    }
}
