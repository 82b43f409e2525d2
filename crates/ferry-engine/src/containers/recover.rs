//! What a new engine finds: records on the disk, shims that run, and what a crash left in between.
//!
//! The kernel and the shims are the truth about what runs; a record says only what was asked and how the last run ended as far as
//! it was written. Whatever instant the last engine died at, this brings the two together.

use super::core::Core;
use super::lifecycle::{self, monitor, read_exit, release};
use super::record::{self, Record};
use super::spec::RestartPolicy;
use super::state::{Event, Phase, State};
use super::table::{Container, Run, RunFacts};
use crate::supervisor::ShimLink;
use crate::{Error, Result, blocking, db};
use ferry_net::Published;
use ferry_shim_proto::{ShimRecord, transport};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Puts every record into the table. One that cannot be read is left alone and told.
pub(crate) fn load(core: &Core) -> Result<()> {
    for (key, value) in core.db.load(db::CONTAINERS)? {
        let (record, state) = match record::decode(value) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(
                    container = key,
                    error,
                    "the record of a container cannot be read and is left alone"
                );
                continue;
            }
        };
        if let Err(by) = core.table.reserve(&record.name, &record.id) {
            tracing::error!(
                container = record.id,
                name = record.name,
                by,
                "two containers have one name; it is found by its id only"
            );
        }
        core.table.insert(Container::new(record, settle(state)));
    }
    Ok(())
}

/// What a phase in which the last engine died means now.
fn settle(state: State) -> State {
    let phase = match state.phase {
        Phase::Starting if state.started_at.is_none() => Phase::Created,
        Phase::Running | Phase::Paused | Phase::Starting | Phase::Restarting => Phase::Exited,
        Phase::Removing | Phase::Removed => Phase::Dead,
        phase => phase,
    };
    State {
        phase,
        pid: 0,
        ..state
    }
}

/// Finds the shims that run and takes them over; records the ends of those that ended meanwhile. Tells what is published.
pub(crate) async fn adopt(core: &Arc<Core>) -> Vec<Published> {
    let mut published = Vec::new();
    for container in core.table.all() {
        match take_over(core, &container).await {
            Ok(Some(ports)) => published.extend(ports),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(container = container.id, %error, "what ran before could not be taken over")
            }
        }
    }
    published
}

async fn take_over(core: &Arc<Core>, container: &Arc<Container>) -> Result<Option<Vec<Published>>> {
    let dir = core.runtime_dir(&container.id);
    let Some(facts) = read::<RunFacts>(&dir.join("run.json")) else {
        return Ok(None);
    };
    let socket = transport::connect(&dir.join("shim.sock")).ok();
    let shim = read::<ShimRecord>(&dir.join("shim.json"));
    let Some(socket) = socket else {
        ended_without_us(core, container, (facts, shim.as_ref()), &dir).await;
        return Ok(None);
    };
    let link = ShimLink::new(socket).map_err(|e| Error::internal("watching a shim's link", e))?;
    core.networks.adopt(&facts.network);
    let ports = facts.network.published.clone();
    let run = Arc::new(Run {
        link,
        pidfd: Mutex::default(),
        facts,
    });
    container.cell().run = Some(Arc::clone(&run));
    if let Some(shim) = shim {
        let paused = frozen(core, &run);
        let adopted = Event::Adopt {
            pid: shim.pid,
            at: lifecycle::time(shim.started_at),
            paused,
        };
        lifecycle::hold(core, &run, shim.pid);
        if let Err(conflict) = core.apply(container, adopted) {
            tracing::error!(
                container = container.id,
                ?conflict,
                "a running container could not be adopted"
            );
        }
    }
    tokio::spawn(monitor(Arc::clone(core), Arc::clone(container), run));
    Ok(Some(ports))
}

/// The shim is gone: its exit record tells, or nobody knows.
async fn ended_without_us(
    core: &Arc<Core>,
    container: &Arc<Container>,
    (facts, shim): (RunFacts, Option<&ShimRecord>),
    dir: &Path,
) {
    let (link, _) = match transport::pair() {
        Ok(pair) => pair,
        Err(error) => {
            tracing::error!(container = container.id, %error, "a run that ended cannot be cleaned up");
            return;
        }
    };
    let Ok(link) = ShimLink::new(link) else { return };
    container.cell().run = Some(Arc::new(Run {
        link,
        pidfd: Mutex::default(),
        facts,
    }));
    if shim.is_none() && read_exit(dir).is_none() {
        // It never ran: only what was made for it has to go.
        release(Arc::clone(core), Arc::clone(container)).await;
        return;
    }
    if let Some(shim) = shim {
        let adopted = Event::Adopt {
            pid: shim.pid,
            at: lifecycle::time(shim.started_at),
            paused: false,
        };
        if let Err(conflict) = core.apply(container, adopted) {
            tracing::error!(
                container = container.id,
                ?conflict,
                "a run that ended could not be recorded"
            );
        }
    }
    lifecycle::lost(core, container).await;
}

/// Whether the container's cgroup is frozen, as far as its record says.
fn frozen(core: &Core, run: &Run) -> bool {
    core.kernel.cgroup_frozen(&run.facts.cgroup).unwrap_or(false)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Takes from the disk what no record names: snapshots, directories, cgroups of removed containers.
pub(crate) async fn sweep(core: &Arc<Core>) -> Result<()> {
    let known: BTreeSet<String> = core.table.all().iter().map(|c| c.id.clone()).collect();
    let of = Arc::clone(core);
    blocking::run("sweep what no record names", move || -> Result<()> {
        for id in of
            .store
            .layers()
            .list()?
            .into_iter()
            .filter(|id| !known.contains(id))
        {
            of.store.layers().remove(&id)?;
        }
        let places = [
            of.config.data_root.join("containers"),
            of.config.exec_root.join("containers"),
        ];
        for place in &places {
            let Ok(entries) = std::fs::read_dir(place) else {
                continue;
            };
            for entry in entries.flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                if !known.contains(&id) && entry.path().is_dir() {
                    lifecycle::remove_dir(&entry.path())?;
                }
            }
        }
        of.store.layers().empty_trash()?;
        Ok(())
    })
    .await
}

/// Removes what was to be removed, and starts what its policy wants running.
pub(crate) async fn resume(core: &Arc<Core>) {
    for container in core.table.all() {
        let (record, state) = (container.record(), container.state());
        if state.alive() || state.phase == Phase::Restarting {
            continue;
        }
        if state.phase == Phase::Dead || (state.auto_remove && state.phase == Phase::Exited) {
            drop(tokio::spawn(super::remove::automatically(
                Arc::clone(core),
                Arc::clone(&container),
            )));
            continue;
        }
        if !wants_start(&record, &state) {
            continue;
        }
        let core = Arc::clone(core);
        tokio::spawn(async move {
            // Those that other containers depend on come up first, most likely.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Err(error) = lifecycle::start(&core, &container).await {
                tracing::warn!(container = container.id, %error, "it could not be started again by its policy");
            }
        });
    }
}

fn wants_start(record: &Record, state: &State) -> bool {
    if state.started_at.is_none() || record.spec.auto_remove {
        return false;
    }
    match state.policy {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !state.manually_stopped,
        RestartPolicy::OnFailure { max } => {
            !state.manually_stopped && state.exit_code != 0 && (max == 0 || state.restart_count < max)
        }
        RestartPolicy::No => false,
    }
}
