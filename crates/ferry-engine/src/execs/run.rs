//! From an exec's creation to its end.

use super::table::{Exec, Stage};
use crate::containers::core::Core;
use crate::containers::lifecycle::time;
use crate::containers::spec::ExecSpec;
use crate::containers::state::{Phase, UNKNOWN_EXIT};
use crate::containers::table::{Container, Run};
use crate::containers::{launch, to_oci};
use crate::supervisor::ShimLink;
use crate::{Error, Kind, Result, blocking, ids};
use ferry_shim_proto::{ExecRequest, ExitRecord, FromShim, ShimState, ToShim};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Which streams somebody is attached to, and the monitor's end of them.
#[derive(Default)]
pub(crate) struct Streams {
    /// The monitor's end; `None` when nobody is attached.
    pub stream: Option<OwnedFd>,
    /// Standard input, output, error.
    pub wanted: (bool, bool, bool),
}

/// The container's run, when a process can be added to it.
pub(crate) fn present(container: &Container) -> Result<Arc<Run>> {
    let id = &container.id;
    let cell = container.cell();
    match (cell.state.phase, &cell.run) {
        (Phase::Running, Some(run)) => Ok(Arc::clone(run)),
        (Phase::Paused, _) => Err(Error::conflict(format!(
            "container {id} is paused, unpause the container before exec"
        ))),
        (Phase::Restarting, _) => Err(Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ))),
        _ => Err(Error::conflict(format!("container {id} is not running"))),
    }
}

/// Makes an exec; nothing runs yet.
pub(crate) fn create(core: &Core, container: &Container, spec: ExecSpec) -> Result<Arc<Exec>> {
    present(container)?;
    if spec.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let exec = Exec::new(ids::random()?, container.id.clone(), spec);
    core.execs.insert(Arc::clone(&exec));
    tell(core, container, &exec, "exec_create");
    Ok(exec)
}

/// As Docker words it: with a space behind a program without arguments.
fn tell(core: &Core, container: &Container, exec: &Exec, action: &str) {
    let (program, arguments) = exec
        .spec
        .cmd
        .split_first()
        .map_or(("", Vec::new()), |(p, a)| (p.as_str(), a.to_vec()));
    let action = format!("{action}: {program} {}", arguments.join(" "));
    core.publish(&container.cell(), &action, &[("execID", &exec.id)]);
}

/// Starts an exec and answers when its program runs. Its one start is taken by the caller ([`Exec::claim`]).
pub(crate) async fn start(
    core: Arc<Core>,
    container: Arc<Container>,
    exec: Arc<Exec>,
    (streams, console): (Streams, [u16; 2]),
) -> Result<()> {
    container.cell().execs.insert(exec.id.clone());
    let started = begin(&core, &container, &exec, (streams, console)).await;
    if let Err(error) = &started {
        container.cell().execs.remove(&exec.id);
        exec.ended(i32::from(error.exit_code().unwrap_or(126)));
    }
    started
}

async fn begin(
    core: &Arc<Core>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    (streams, console): (Streams, [u16; 2]),
) -> Result<()> {
    let run = present(container)?;
    let request = request(core, container, exec, (&run, &streams, console))?;
    tell(core, container, exec, "exec_start");
    let mut forking = core.supervisor.exec(&request, streams.stream).await?;
    forking.forked().await?;
    let link = forking.link;
    exec.hold_link(link.clone());
    loop {
        let frame = link
            .recv()
            .await
            .map_err(|e| Error::internal("waiting for the exec's start", e))?;
        match frame.map(|(frame, _)| frame) {
            None => {
                let text = "the exec's monitor ended before its program ran";
                return Err(Error::new(Kind::Internal, text).with_exit_code(126));
            }
            Some(FromShim::Failed(failure)) => {
                let kind = if matches!(failure.code, 126 | 127) {
                    Kind::Invalid
                } else {
                    Kind::Internal
                };
                return Err(Error::new(kind, failure.message).with_exit_code(failure.code));
            }
            Some(frame) => {
                let exited = handle(core, exec, frame);
                if exited.is_none() && exec.stand().stage != Stage::Running {
                    continue;
                }
                let follow = follow(
                    Arc::clone(core),
                    Arc::clone(container),
                    Arc::clone(exec),
                    (link, exited),
                );
                drop(tokio::spawn(follow));
                return Ok(());
            }
        }
    }
}

fn request(
    core: &Core,
    container: &Container,
    exec: &Exec,
    (run, streams, console): (&Run, &Streams, [u16; 2]),
) -> Result<ExecRequest> {
    let record = container.record();
    let asked = &record.spec;
    let mut spec = ExecSpec::clone(&exec.spec);
    if console != [0, 0] {
        spec.console_size = console;
    }
    let pid = container.state().pid;
    let start_time = core
        .kernel
        .start_time(pid)
        .map_err(|e| Error::conflict(format!("container {} is not running", container.id)).caused_by(e))?;
    let host = (core.kernel.host(), run.facts.hostname.as_str());
    let (seccomp, profile) = launch::seccomp(core, asked)?;
    let user = if spec.user.is_empty() {
        asked.process.user.clone()
    } else {
        spec.user.clone()
    };
    let (stdin, stdout, stderr) = streams.wanted;
    Ok(ExecRequest {
        id: exec.id.clone(),
        container_id: container.id.clone(),
        runtime_dir: core.runtime_dir(&container.id),
        pid,
        start_time,
        process: to_oci::exec_process(asked, &spec, host, &core.config.default_ulimits)?,
        user,
        groups: asked.isolation.group_add.clone(),
        cgroup: run.facts.cgroup.clone(),
        seccomp,
        profile,
        stdin,
        stdout,
        stderr,
        user_namespace: false,
    })
}

/// Takes a frame in; the record when it tells of the end.
fn handle(core: &Core, exec: &Exec, frame: FromShim) -> Option<ExitRecord> {
    match frame {
        FromShim::Created { pid, .. } => hold(core, exec, pid),
        FromShim::Started { pid, .. }
        | FromShim::Hello {
            state: ShimState::Running { pid, .. },
            ..
        } => {
            hold(core, exec, pid);
            exec.runs(pid);
        }
        FromShim::Exited(record)
        | FromShim::Hello {
            state: ShimState::Exited(record),
            ..
        } => return Some(record),
        FromShim::Warning(text) => tracing::warn!(exec = exec.id, container = exec.container_id, "{text}"),
        FromShim::Hello { .. } | FromShim::Failed(_) | FromShim::Oom => {}
    }
    None
}

fn hold(core: &Core, exec: &Exec, pid: i32) {
    if exec.process().is_some() {
        return;
    }
    match core.kernel.pidfd(pid) {
        Ok(pidfd) => exec.hold_process(pidfd),
        // A process that is gone already needs no signal.
        Err(error) => tracing::debug!(exec = exec.id, pid, %error, "an exec's process is gone already"),
    }
}

/// Follows an exec to its end.
async fn follow(
    core: Arc<Core>,
    container: Arc<Container>,
    exec: Arc<Exec>,
    (link, mut exited): (ShimLink, Option<ExitRecord>),
) {
    while exited.is_none() {
        match link.recv().await {
            Ok(Some((frame, _))) => exited = handle(&core, &exec, frame),
            Ok(None) => break,
            Err(error) => {
                tracing::error!(exec = exec.id, %error, "an exec monitor's link is broken");
                break;
            }
        }
    }
    if exited.is_none() && core.closing() {
        return;
    }
    let record = match exited {
        Some(record) => Some(record),
        None => left(&core, &exec).await,
    };
    let code = record.as_ref().map_or(UNKNOWN_EXIT, |r| r.code);
    tracing::debug!(exec = exec.id, code, at = ?record.map(|r| time(r.at)), "an exec ended");
    exec.ended(code);
    {
        let mut cell = container.cell();
        cell.execs.remove(&exec.id);
        core.publish(
            &cell,
            "exec_die",
            &[("execID", &exec.id), ("exitCode", &code.to_string())],
        );
    }
    // A monitor that is gone already needs no acknowledgement.
    let _ = link.send(&ToShim::Acknowledge, &[]).await;
    // Its record has been taken over.
    let path = record_path(&core, &exec);
    let removed = blocking::run("remove an exec's record", move || {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal(format!("removing {}", path.display()), e))
            }
            _ => Ok(()),
        }
    });
    if let Err(error) = removed.await {
        tracing::warn!(exec = exec.id, %error, "an exec's record stays until its container ends");
    }
}

fn record_path(core: &Core, exec: &Exec) -> PathBuf {
    core.runtime_dir(&exec.container_id)
        .join("execs")
        .join(format!("{}.json", exec.id))
}

/// What a monitor that is gone wrote when its exec ended.
async fn left(core: &Core, exec: &Exec) -> Option<ExitRecord> {
    let path = record_path(core, exec);
    let read = blocking::run("read an exec's record", move || {
        let text =
            std::fs::read(&path).map_err(|e| Error::internal(format!("reading {}", path.display()), e))?;
        serde_json::from_slice(&text).map_err(|e| Error::internal(format!("reading {}", path.display()), e))
    });
    match read.await {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(exec = exec.id, %error, "an exec's monitor is gone without a word");
            None
        }
    }
}

/// Ends an exec's process; fine when it is over.
pub(crate) fn kill(core: &Core, exec: &Exec) {
    use std::os::fd::AsFd;
    let Some(pidfd) = exec.process() else { return };
    match core.kernel.signal(pidfd.as_fd(), 9) {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            tracing::error!(exec = exec.id, error = %e, "an exec could not be killed");
        }
        _ => {}
    }
}
