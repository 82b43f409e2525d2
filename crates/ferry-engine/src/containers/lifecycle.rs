//! From `start` to the end of a run and what follows it.

use super::core::{Core, refused};
use super::launch;
use super::state::{Conflict, Event, Phase, UNKNOWN_EXIT};
use super::table::{Container, Run};
use crate::{Error, Kind, Result, blocking};
use ferry_shim_proto::{ExitRecord, Failure, FromShim, ShimState, ToShim};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a shim may take to let everything go.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start waits for the last run to be cleaned up.
const HELD_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a container and answers when its program runs.
pub(crate) async fn start(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    loop {
        match core.apply(container, Event::Start) {
            Ok(_) => break,
            Err(Conflict::Held | Conflict::Starting) => settle(container).await?,
            Err(Conflict::Paused) => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Err(Conflict::Removing | Conflict::Dead) => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Err(conflict) => return Err(refused(conflict, &container.id, &container.state())),
        }
    }
    run(core, container).await
}

/// Waits until no start is under way and the last run holds nothing any more.
pub(crate) async fn settle(container: &Container) -> Result<()> {
    let mut progress = container.watch();
    let settled = progress.wait_for(|p| (!p.held || p.running()) && p.phase != Phase::Starting);
    match tokio::time::timeout(HELD_TIMEOUT, settled).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            Kind::Unavailable,
            format!(
                "container {} is still being cleaned up after its last run: try again",
                container.id
            ),
        )),
    }
}

/// Makes and starts what is in phase `Starting`; its failure is recorded and told.
async fn run(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    let outcome = match launch::launch(core, container).await {
        Ok(run) => await_start(core, container, &run).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        let code = i32::from(error.exit_code().unwrap_or(128));
        let failed = Event::StartFailed {
            code,
            message: error.to_string(),
        };
        if let Err(conflict) = core.apply(container, failed) {
            tracing::debug!(
                container = container.id,
                ?conflict,
                "a failed start ended otherwise already"
            );
        }
    }
    outcome
}

/// Reads frames until the program runs or does not, then leaves the rest to a task.
async fn await_start(core: &Arc<Core>, container: &Arc<Container>, run: &Arc<Run>) -> Result<()> {
    loop {
        let frame = run
            .link
            .recv()
            .await
            .map_err(|e| Error::internal("waiting for the start", e))?;
        match frame.map(|(frame, _)| frame) {
            Some(FromShim::Failed(failure)) => return Err(start_error(failure)),
            None => {
                return Err(Error::new(
                    Kind::Internal,
                    "the shim ended before the container's program ran",
                )
                .with_exit_code(128));
            }
            Some(frame) => {
                let exited = matches!(frame, FromShim::Exited(_));
                handle(core, container, run, frame);
                if exited {
                    return Ok(());
                }
                if container.state().alive() {
                    tokio::spawn(monitor(Arc::clone(core), Arc::clone(container), Arc::clone(run)));
                    return Ok(());
                }
            }
        }
    }
}

fn start_error(failure: Failure) -> Error {
    let Failure { code, message } = failure;
    let kind = if matches!(code, 126 | 127) {
        Kind::Invalid
    } else {
        Kind::Internal
    };
    Error::new(kind, message).with_exit_code(code)
}

/// Follows a running container to its end.
pub(crate) async fn monitor(core: Arc<Core>, container: Arc<Container>, run: Arc<Run>) {
    loop {
        match run.link.recv().await {
            Ok(Some((FromShim::Failed(failure), _))) => {
                let error = start_error(failure);
                let code = i32::from(error.exit_code().unwrap_or(128));
                let failed = Event::StartFailed {
                    code,
                    message: error.to_string(),
                };
                if core.apply(&container, failed).is_ok() {
                    return;
                }
            }
            Ok(Some((frame, _))) => {
                let exited = matches!(frame, FromShim::Exited(_));
                handle(&core, &container, &run, frame);
                if exited {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(container = container.id, %error, "the shim's link is broken");
                break;
            }
        }
    }
    if core.closing() {
        return;
    }
    lost(&core, &container).await;
}

/// The shim is gone: what it wrote last is the truth, and without it nobody knows.
pub(crate) async fn lost(core: &Arc<Core>, container: &Arc<Container>) {
    let dir = core.runtime_dir(&container.id);
    let event = match read_exit(&dir) {
        Some(record) => exited(&record),
        None => {
            tracing::error!(container = container.id, "its shim is gone without a word");
            let (kernel, run) = (Arc::clone(&core.kernel), container.run());
            if let Some(run) = run {
                let killed = blocking::run("kill what a lost shim left", move || {
                    kernel
                        .cgroup_kill(&run.facts.cgroup)
                        .map_err(|e| Error::internal("killing a cgroup", e))
                });
                if let Err(error) = killed.await {
                    tracing::error!(container = container.id, %error, "what a lost shim left could not be killed");
                }
            }
            Event::Exited {
                code: UNKNOWN_EXIT,
                at: SystemTime::now(),
                oom: false,
                error: "exit code unknown: shim lost".into(),
            }
        }
    };
    if let Err(conflict) = core.apply(container, event) {
        tracing::debug!(container = container.id, ?conflict, "an end was told twice");
    }
}

/// What a shim wrote when its container ended.
pub(crate) fn read_exit(dir: &Path) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(dir.join("exit.json")).ok()?).ok()
}

pub(crate) fn exited(record: &ExitRecord) -> Event {
    Event::Exited {
        code: record.code,
        at: time(record.at),
        oom: record.oom_killed,
        error: String::new(),
    }
}

/// Nanoseconds since the epoch as a time.
pub(crate) fn time(nanoseconds: u128) -> SystemTime {
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::new(seconds, rest))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn handle(core: &Arc<Core>, container: &Arc<Container>, run: &Arc<Run>, frame: FromShim) {
    let event = match frame {
        FromShim::Hello {
            state: ShimState::Running { pid, started_at },
            ..
        }
        | FromShim::Started { pid, at: started_at } => {
            hold(core, run, pid);
            Event::Started {
                pid,
                at: time(started_at),
            }
        }
        FromShim::Hello {
            state: ShimState::Exited(record),
            ..
        }
        | FromShim::Exited(record) => exited(&record),
        FromShim::Created { pid, .. } => {
            hold(core, run, pid);
            return;
        }
        FromShim::Hello { .. } | FromShim::Failed(_) => return,
        FromShim::Oom => Event::Oom,
        FromShim::Warning(text) => {
            tracing::warn!(container = container.id, "{text}");
            return;
        }
    };
    if let Err(conflict) = core.apply(container, event) {
        tracing::debug!(container = container.id, ?conflict, "a shim told what is known");
    }
}

/// Holds on to the first process, so that a signal never reaches another one.
pub(crate) fn hold(core: &Core, run: &Run, pid: i32) {
    let mut held = run.pidfd.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_none() {
        // A process that is gone already needs no signal.
        *held = core.kernel.pidfd(pid).ok();
    }
}

/// Sends a signal to the first process; false when it is gone.
pub(crate) fn signal(core: &Core, run: &Run, number: i32) -> Result<bool> {
    let held: std::sync::MutexGuard<'_, Option<OwnedFd>> =
        run.pidfd.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(pidfd) = held.as_ref() else {
        return Ok(false);
    };
    match core.kernel.signal(pidfd.as_fd(), number) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(false),
        Err(e) => Err(Error::internal(format!("sending signal {number}"), e)),
    }
}

/// Frees what a run held: the shim lets namespaces and cgroup go, then network, runtime directory and the rest follow.
pub(crate) async fn release(core: Arc<Core>, container: Arc<Container>) {
    let run = container.cell().run.take();
    if let Some(run) = run {
        dismiss(&container.id, &run).await;
        core.networks.detach(&run.facts.network).await;
        // The exit record goes with the runtime directory: the engine's own has to be on the disk before.
        if !container.record().spec.auto_remove
            && let Err(error) = core.db.flush().await
        {
            tracing::error!(container = container.id, %error, "its end may be forgotten if the engine is killed now");
        }
        let (kernel, cgroup, dir) = (
            Arc::clone(&core.kernel),
            run.facts.cgroup.clone(),
            core.runtime_dir(&container.id),
        );
        let cleaned = blocking::run("clean up after a container", move || -> Result<()> {
            kernel
                .cgroup_remove(&cgroup)
                .map_err(|e| Error::internal(format!("removing cgroup {cgroup}"), e))?;
            remove_dir(&dir)
        });
        if let Err(error) = cleaned.await {
            tracing::error!(container = container.id, %error, "a run could not be cleaned up whole");
        }
    }
    core.execs.forget_container(&container.id);
    if let Err(conflict) = core.apply(&container, Event::Released) {
        tracing::debug!(container = container.id, ?conflict, "released twice");
    }
}

/// Lets the shim go and waits until it is gone.
async fn dismiss(id: &str, run: &Run) {
    // A shim that is gone already needs no acknowledgement.
    let _ = run.link.send(&ToShim::Acknowledge, &[]).await;
    let gone = async { while let Ok(Some(_)) = run.link.recv().await {} };
    if tokio::time::timeout(RELEASE_TIMEOUT, gone).await.is_err() {
        tracing::error!(container = id, "its shim does not go");
    }
}

/// Removes a directory with all that is in it; fine when it is gone.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("removing {}", dir.display()), e))
        }
        _ => Ok(()),
    }
}

/// Starts a container again by its policy, once the back-off is over and the last run is cleaned up.
pub(crate) async fn restart_later(core: Arc<Core>, container: Arc<Container>, delay: Duration) {
    tokio::time::sleep(delay).await;
    loop {
        if core.closing() {
            return;
        }
        match core.apply(&container, Event::BackoffOver) {
            Ok(_) => break,
            Err(Conflict::Held) => {
                let mut progress = container.watch();
                // An error says that the container is gone.
                if progress
                    .wait_for(|p| !p.held || p.phase != Phase::Restarting)
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(_) => return,
        }
    }
    container.cell().backoff_task = None;
    let task = tokio::spawn(async move {
        if let Err(error) = run(&core, &container).await {
            tracing::warn!(container = container.id, %error, "it could not be started again by its policy");
        }
    });
    drop(task);
}
