//! create, run, start, kill, delete.

use super::attach::{self, Signals};
use super::flags::{Flag, Flags};
use super::state::{self, Place, Record, Status};
use super::{Context, Failure, Outcome, log, signals};
use crate::cgroup::{Group, Layout};
use crate::hooks;
use crate::host::HostFacts;
use crate::launch::{Channel, Created, Launch, Rootfs, Stdio};
use crate::plan::{Options, Plan, compile};
use ferry_oci::runtime::Spec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) const CREATE: &[Flag] = &[
    Flag::value("bundle").short("b"),
    Flag::value("console-socket"),
    Flag::value("pid-file"),
    Flag::switch("no-pivot"),
    Flag::switch("no-new-keyring"),
    Flag::value("preserve-fds"),
];

pub(super) const RUN: &[Flag] = &[
    Flag::value("bundle").short("b"),
    Flag::value("console-socket"),
    Flag::value("pid-file"),
    Flag::switch("no-pivot"),
    Flag::switch("no-new-keyring"),
    Flag::value("preserve-fds"),
    Flag::switch("detach").short("d"),
    Flag::switch("keep"),
    Flag::switch("no-subreaper"),
];

pub(super) const KILL: &[Flag] = &[Flag::switch("all").short("a")];
pub(super) const DELETE: &[Flag] = &[Flag::switch("force").short("f")];

/// Everything about a container that is about to be made.
struct Making {
    id: String,
    bundle: PathBuf,
    spec: Spec,
    plan: Plan,
    place: Place,
    rootfs: PathBuf,
    cgroup: String,
}

impl Making {
    fn begin(context: &Context, flags: &Flags, verb: &str) -> Result<Making, Failure> {
        let id = flags.container(verb)?.to_owned();
        let bundle = Path::new(flags.value("bundle").unwrap_or("."));
        let bundle = std::fs::canonicalize(bundle)
            .map_err(|e| Failure::about(&format!("cannot open the bundle {}", bundle.display()), e))?;
        let spec = state::read_spec(&bundle.join("config.json"))?;
        let facts = HostFacts::probe().map_err(|e| Failure::about("cannot look at the host", e))?;
        let options = Options {
            no_pivot: flags.has("no-pivot"),
            ..Options::default()
        };
        let plan = compile(&spec, &facts, &options).map_err(|e| Failure::new(e.to_string()))?;
        for warning in &plan.warnings {
            context.log.warning(warning);
        }
        let cgroup = spec
            .linux
            .as_ref()
            .map(|l| l.cgroups_path.clone())
            .filter(|p| !p.is_empty());
        let rootfs = bundle.join(&plan.root);
        let rootfs = std::fs::canonicalize(&rootfs)
            .map_err(|e| Failure::about(&format!("invalid rootfs {}", rootfs.display()), e))?;
        let place = Place::make(context, &id)?;
        Ok(Making {
            cgroup: cgroup.unwrap_or_else(|| format!("/{id}")),
            id,
            bundle,
            spec,
            plan,
            place,
            rootfs,
        })
    }

    fn group(&self) -> Result<Group, Failure> {
        let layout = Layout::detect().map_err(|e| Failure::about("cannot look at cgroups", e))?;
        let resources = self
            .spec
            .linux
            .as_ref()
            .and_then(|l| l.resources.clone())
            .unwrap_or_default();
        Group::create(&layout, &self.cgroup, &resources).map_err(|e| Failure::new(e.to_string()))
    }

    /// Clones and waits for the gate; on failure nothing is left but what the caller owns.
    fn launch(
        &self,
        context: &Context,
        flags: &Flags,
        group: &Group,
        channel: Channel,
        console: &Console,
    ) -> Result<Created, Failure> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = match (self.plan.program.terminal, &console.socket) {
            (false, _) => Stdio::Fds {
                stdin: stdin.as_fd(),
                stdout: stdout.as_fd(),
                stderr: stderr.as_fd(),
            },
            (true, Some(socket)) => Stdio::TerminalTo(socket.as_fd()),
            (true, None) => Stdio::Terminal,
        };
        let kept: Vec<i32> = (3..).take(flags.number("preserve-fds")?).collect();
        let launch = Launch {
            id: &self.id,
            bundle: &self.bundle,
            plan: &self.plan,
            rootfs: Rootfs::Directory(&self.rootfs),
            binds: Vec::new(),
            stdio,
            group: Some(group),
            keep: &kept,
            filter: None,
            init: None,
            channel,
        };
        let mut created = crate::launch::create(launch).map_err(failed)?;
        // The state is written while the child mounts.
        let recorded = self.remember(created.pid);
        let master = if console.wanted_here {
            created.console().map_err(failed)?
        } else {
            None
        };
        created.ready().map_err(failed)?;
        recorded?;
        if created.pid != self.place.record()?.pid {
            self.remember(created.pid)?;
        }
        for warning in &created.warnings {
            context.log.warning(warning);
        }
        console
            .master
            .set(master)
            .map_err(|_| Failure::new("a terminal came twice"))?;
        if let Some(path) = flags.value("pid-file") {
            write_pid(Path::new(path), created.pid)?;
        }
        Ok(created)
    }

    fn remember(&self, pid: i32) -> Result<(), Failure> {
        let spec = std::fs::read(self.bundle.join("config.json"))
            .map_err(|e| Failure::about("cannot read config.json again", e))?;
        self.place.write("config.json", &spec)?;
        self.place.remember(&Record {
            oci_version: ferry_oci::runtime::VERSION.to_owned(),
            id: self.id.clone(),
            pid,
            start_time: state::start_time(pid).unwrap_or(0),
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: log::timestamp(SystemTime::now()),
            cgroup: self.cgroup.clone(),
        })
    }

    /// After a failure or the end.
    fn forget(&self, context: &Context, group: Option<&Group>) -> Result<(), Failure> {
        if let Some(group) = group {
            end_group(context, group)?;
        }
        self.place.remove()
    }
}

/// Where a terminal goes.
struct Console {
    socket: Option<OwnedFd>,
    wanted_here: bool,
    master: std::cell::OnceCell<Option<OwnedFd>>,
}

impl Console {
    fn of(flags: &Flags, plan: &Plan, detached: bool) -> Result<Console, Failure> {
        let path = flags.value("console-socket").filter(|p| !p.is_empty());
        match (plan.program.terminal, path) {
            (false, Some(_)) => {
                return Err(Failure::new(
                    "cannot use console socket if runc will not detach or allocate tty",
                ));
            }
            (true, None) if detached => {
                return Err(Failure::new(
                    "cannot allocate tty if runc will detach without setting console socket",
                ));
            }
            _ => {}
        }
        let socket = path.map(connect).transpose()?;
        let wanted_here = plan.program.terminal && socket.is_none();
        Ok(Console {
            socket,
            wanted_here,
            master: std::cell::OnceCell::new(),
        })
    }
}

pub(super) fn connect(path: &str) -> Result<OwnedFd, Failure> {
    std::os::unix::net::UnixStream::connect(path)
        .map(OwnedFd::from)
        .map_err(|e| Failure::about(&format!("cannot connect to the console socket {path}"), e))
}

pub(super) fn failed(error: crate::launch::LaunchError) -> Failure {
    Failure::new(format!(
        "unable to start container process: error during container init: {error}"
    ))
}

pub(super) fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    // Callers watch for the file, so it appears whole.
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, pid.to_string())
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|e| Failure::about(&format!("cannot write the pid file {}", path.display()), e))
}

fn end_group(context: &Context, group: &Group) -> Result<(), Failure> {
    if let Err(error) = group.kill() {
        context.log.detail(&error.to_string());
    }
    group.remove().map_err(|e| Failure::new(e.to_string()))
}

pub(super) fn create(context: &Context, flags: Flags) -> Outcome {
    let making = Making::begin(context, &flags, "create")?;
    let channel = Channel::named(&making.place.directory);
    made(context, &making, |group| {
        let console = Console::of(&flags, &making.plan, true)?;
        let channel = channel.map_err(|e| Failure::about("cannot make the gate", e))?;
        making.launch(context, &flags, group, channel, &console)?.detach();
        Ok(0)
    })
}

/// Runs `work` with the container's cgroup; whatever fails, nothing is left.
fn made(context: &Context, making: &Making, work: impl FnOnce(&Group) -> Outcome) -> Outcome {
    let group = making.group().inspect_err(|_| roll_back(context, making, None))?;
    work(&group).inspect_err(|_| roll_back(context, making, Some(&group)))
}

fn roll_back(context: &Context, making: &Making, group: Option<&Group>) {
    if let Err(failure) = making.forget(context, group) {
        context.log.warning(&failure.message);
    }
}

pub(super) fn run(context: &Context, flags: Flags) -> Outcome {
    let making = Making::begin(context, &flags, "run")?;
    let detached = flags.has("detach");
    let signals = if detached { None } else { Some(Signals::hold()?) };
    let mut master = None;
    let mut ended = None;
    made(context, &making, |group| {
        let console = Console::of(&flags, &making.plan, detached)?;
        let channel = Channel::private().map_err(|e| Failure::about("cannot make the gate", e))?;
        let created = making.launch(context, &flags, group, channel, &console)?;
        start_hooks(&making, &created)?;
        master = console.master.into_inner().flatten();
        let running = created.start().map_err(failed)?;
        post_start(context, &making.spec, &making.id, &making.bundle, running.pid);
        if let Some(signals) = &signals {
            ended = Some(attach::wait(running.pidfd.as_fd(), signals, master.take())?);
        }
        Ok(0)
    })?;
    let Some(code) = ended else { return Ok(0) };
    if !flags.has("keep") {
        let record = making.place.record()?;
        destroy(context, &making.place, &record, Some(&making.spec))?;
    }
    Ok(code)
}

fn start_hooks(making: &Making, created: &Created) -> Result<(), Failure> {
    let state = hooks::state(&making.id, "created", created.pid, &making.bundle);
    hooks::run_inside(
        &making.plan.hooks.start_container,
        "startContainer",
        &state,
        created.pidfd.as_fd(),
    )
    .map_err(|e| Failure::new(e.to_string()))
}

/// A failure of these is told and changes nothing (the specification's step 9).
fn post_start(context: &Context, spec: &Spec, id: &str, bundle: &Path, pid: i32) {
    let Some(all) = &spec.hooks else { return };
    let state = hooks::state(id, "running", pid, bundle);
    if let Err(error) = hooks::run(&all.poststart, "poststart", &state) {
        context.log.warning(&error.to_string());
    }
}

pub(super) fn start(context: &Context, flags: Flags) -> Outcome {
    let id = flags.container("start")?;
    let place = Place::of(context, id)?;
    let record = place.record()?;
    let Some(process) = record.process() else {
        return Err(Failure::new("cannot start a container that has stopped"));
    };
    if record.status(&place) != Status::Created {
        return Err(Failure::new("cannot start an already running container"));
    }
    let spec = place.spec()?;
    let state = hooks::state(id, "created", record.pid, &record.bundle);
    if let Some(all) = &spec.hooks {
        hooks::run_inside(&all.start_container, "startContainer", &state, process.as_fd())
            .map_err(|e| Failure::new(e.to_string()))?;
    }
    crate::launch::open_named_gate(&place.directory, &spec, process.as_fd()).map_err(failed)?;
    for name in ["gate", "reports"] {
        std::fs::remove_file(place.path(name)).map_err(|e| Failure::about("cannot remove the gate", e))?;
    }
    post_start(context, &spec, id, &record.bundle, record.pid);
    Ok(0)
}

pub(super) fn kill(context: &Context, flags: Flags) -> Outcome {
    let (id, signal) = match flags.rest.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => {
            return Err(Failure::new(
                "\"ferry runtime kill\" requires a container and at most one signal",
            ));
        }
    };
    let signal = signals::parse(signal)?;
    let place = Place::of(context, id)?;
    let record = place.record()?;
    if flags.has("all") {
        let group = record.group()?;
        if signal == 9 {
            return group.kill().map(|()| 0).map_err(|e| Failure::new(e.to_string()));
        }
        for pid in group.pids() {
            signal_pid(pid, signal)?;
        }
        return Ok(0);
    }
    let process = record
        .process()
        .ok_or_else(|| Failure::new("container not running"))?;
    ferry_sys::process::pidfd_signal(process.as_fd(), signal)
        .map_err(|e| Failure::about("cannot signal the container", io::Error::from(e)))?;
    // A frozen process gets even this one only when it runs again.
    if signal == 9
        && let Ok(group) = record.group()
        && group.frozen().unwrap_or(false)
    {
        group.kill().map_err(|e| Failure::new(e.to_string()))?;
    }
    Ok(0)
}

fn signal_pid(pid: i32, signal: i32) -> Result<(), Failure> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let Some(Ok(pidfd)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return Ok(());
    };
    match ferry_sys::process::pidfd_signal(pidfd.as_fd(), signal) {
        Ok(()) | Err(ferry_sys::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Failure::about(
            &format!("cannot signal process {pid}"),
            io::Error::from(errno),
        )),
    }
}

pub(super) fn delete(context: &Context, flags: Flags) -> Outcome {
    let id = flags.container("delete")?;
    let force = flags.has("force");
    let place = Place::of(context, id)?;
    let record = match place.record() {
        Ok(record) => record,
        Err(_) if force => {
            place.remove()?;
            return Ok(0);
        }
        Err(failure) => return Err(failure),
    };
    let status = record.status(&place);
    if !force && matches!(status, Status::Running | Status::Paused) {
        return Err(Failure::new(format!(
            "cannot delete container {id} that is not stopped: {}",
            status.name()
        )));
    }
    let spec = place.spec().ok();
    if let Some(process) = record.process() {
        ferry_sys::process::pidfd_signal(process.as_fd(), 9)
            .map_err(|e| Failure::about("cannot kill the container", io::Error::from(e)))?;
        let mut ended = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut ended, Some(&patience))
            .map_err(|e| Failure::about("cannot wait for the container's end", io::Error::from(e)))?;
    }
    destroy(context, &place, &record, spec.as_ref())?;
    Ok(0)
}

fn destroy(context: &Context, place: &Place, record: &Record, spec: Option<&Spec>) -> Result<(), Failure> {
    if let Ok(group) = record.group() {
        end_group(context, &group)?;
    }
    place.remove()?;
    if let Some(all) = spec.and_then(|s| s.hooks.as_ref()) {
        let state = hooks::state(&record.id, "stopped", 0, &record.bundle);
        if let Err(error) = hooks::run(&all.poststop, "poststop", &state) {
            context.log.warning(&error.to_string());
        }
    }
    Ok(())
}
