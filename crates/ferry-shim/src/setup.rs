//! The set-up process of a container: from the request to the running program, and then its own end.
//!
//! It is the monitor's child and dies with it. Whatever fails is undone here, so that a [`Report::Failed`] means that
//! nothing is left: no process, no cgroup, and with the namespaces no link and no mount.

use crate::filters;
use crate::host::Host;
use crate::jsonlog::Moment;
use crate::report::{Accepted, Handles, Made, Order, Report};
use crate::stdio::{Ends, Policy};
use crate::streams::{self, Shared};
use crate::{logfile, record};
use ferry_net::EndpointPlan;
use ferry_oci::runtime::{NamespaceKind, Seccomp};
use ferry_runtime::cgroup::Group;
use ferry_runtime::launch::{Channel, Created, Launch, LaunchError, Rootfs, Stdio, create};
use ferry_runtime::plan::{self, Plan};
use ferry_shim_proto::{Failure, LaunchRequest, transport};
use ferry_sys::seccomp::Instruction;
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The engine's own reasons, in Docker's exit codes.
const OWN: u8 = 125;

/// A container. Returns the process's exit status.
pub(crate) fn container(host: &Host, request: OwnedFd, binds: Vec<OwnedFd>, socket: &OwnedFd) -> i32 {
    run(socket, |report| {
        let request = read(request)?;
        accept(&request, report)?;
        look_for_root(&request.rootfs)?;
        let group = make_group(host, &request)?;
        let made = bring_up(host, request, binds, group.as_ref(), report);
        if made.is_err()
            && let Some(Err(error)) = group.map(|group| group.remove())
        {
            report.warn(format!("remove the cgroup: {error}"));
        }
        made
    })
}

/// Names the process, ties it to its monitor, and reports how `work` fails.
pub(crate) fn run(socket: &OwnedFd, work: impl FnOnce(&Reporter<'_>) -> Result<(), Failure>) -> i32 {
    // A monitor that dies now leaves nobody who could be told; the container's process ends at its gate.
    let tied = ferry_sys::process::set_parent_death_signal(rustix::process::Signal::KILL.as_raw());
    let named = rustix::thread::set_name(c"ferry-setup");
    let reporter = Reporter(socket);
    let done = match (tied, named) {
        (Ok(()), Ok(())) => work(&reporter),
        (Err(errno), _) | (_, Err(errno)) => Err(own("prepare the set-up process", errno)),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            // Fails only when the monitor is gone.
            let _ = reporter.send(&Report::Failed(failure), &[]);
            1
        }
    }
}

/// The way to the monitor.
pub(crate) struct Reporter<'a>(&'a OwnedFd);

impl Reporter<'_> {
    pub fn send(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        transport::send_frame(self.0, report, fds).map_err(|e| own("tell the monitor", e))
    }

    /// A sentence for the engine's log.
    pub fn warn(&self, sentence: String) {
        // Fails only when the monitor is gone.
        let _ = self.send(&Report::Warning(sentence), &[]);
    }

    /// Waits for the monitor's order; its death is one too.
    fn order(&self) -> Order {
        let mut byte = [0];
        match transport::recv(self.0, &mut byte) {
            Ok((1, _)) if byte[0] == Order::Start.byte() => Order::Start,
            _ => Order::Abort,
        }
    }
}

/// A failure that is ours and not the program's.
pub(crate) fn own(what: &str, error: impl Display) -> Failure {
    Failure {
        code: OWN,
        message: format!("{what}: {error}"),
    }
}

/// What dockerd's clients read before the runtime's own words.
const DOCKERS_WORDS: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
    runc create failed: unable to start container process: error during container init: ";

/// A failure of the runtime, with Docker's exit code and words for it.
fn of_launch(error: LaunchError) -> Failure {
    Failure {
        code: error.exit_code(),
        message: format!("{DOCKERS_WORDS}{error}"),
    }
}

/// `text`, when there is any.
pub(crate) fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn read(request: OwnedFd) -> Result<LaunchRequest<EndpointPlan>, Failure> {
    transport::read_memfd(request).map_err(|e| own("read the launch request", e))
}

fn accept(request: &LaunchRequest<EndpointPlan>, report: &Reporter<'_>) -> Result<(), Failure> {
    let socket = request.runtime_dir.join("shim.sock");
    let listener =
        transport::listen(&socket).map_err(|e| own(&format!("listen at {}", socket.display()), e))?;
    let log = request
        .log
        .as_ref()
        .map(|log| logfile::open(&log.path))
        .transpose();
    let log = log.map_err(|e| Failure {
        code: OWN,
        message: e.to_string(),
    })?;
    let linux = request.spec.linux.as_ref();
    let has_pids =
        |kind: &ferry_oci::runtime::Namespace| kind.kind == NamespaceKind::Pid && kind.path.is_none();
    let accepted = Accepted {
        exit_record: request.runtime_dir.join("exit.json"),
        listens: true,
        log: request.log.as_ref().map(copy_of),
        policy: Policy {
            terminal: request
                .spec
                .process
                .as_ref()
                .is_some_and(|process| process.terminal),
            open_stdin: request.open_stdin,
            stdin_once: request.stdin_once,
            lost_is_end: false,
        },
        cgroup: linux.map(|linux| linux.cgroups_path.clone()).unwrap_or_default(),
        shares_pids: !linux.is_some_and(|linux| linux.namespaces.iter().any(has_pids)),
    };
    let mut fds = vec![listener.as_fd()];
    fds.extend(log.as_ref().map(AsFd::as_fd));
    report.send(&Report::Accepted(accepted), &fds)
}

/// What is not there is named here; the new process has only numbers for it.
fn look_for_root(rootfs: &ferry_shim_proto::Rootfs) -> Result<(), Failure> {
    let path = match rootfs {
        ferry_shim_proto::Rootfs::Directory(path) => path,
        ferry_shim_proto::Rootfs::Overlay { upper, .. } => upper,
    };
    let found = rustix::fs::stat(path);
    found
        .map(drop)
        .map_err(|e| own(&format!("open the root file system {}", path.display()), e))
}

fn copy_of(log: &ferry_shim_proto::LogTarget) -> ferry_shim_proto::LogTarget {
    ferry_shim_proto::LogTarget {
        path: log.path.clone(),
        attrs: log.attrs.clone(),
        ..*log
    }
}

fn make_group(host: &Host, request: &LaunchRequest<EndpointPlan>) -> Result<Option<Group>, Failure> {
    let Some(linux) = &request.spec.linux else {
        return Ok(None);
    };
    let (Some(layout), false) = (&host.layout, linux.cgroups_path.is_empty()) else {
        return Ok(None);
    };
    let resources = linux.resources.clone().unwrap_or_default();
    let made = Group::create(layout, &linux.cgroups_path, &resources);
    made.map(Some).map_err(|e| own("make the container's cgroup", e))
}

fn bring_up(
    host: &Host,
    mut request: LaunchRequest<EndpointPlan>,
    binds: Vec<OwnedFd>,
    group: Option<&Group>,
    report: &Reporter<'_>,
) -> Result<(), Failure> {
    let filter = choose_filter(host, &mut request)?;
    let options = plan::Options {
        lenient: true,
        init: request.init,
        keep_loopback_down: !request.loopback,
        user: given(&request.user),
        groups: request.groups.clone(),
        ..plan::Options::default()
    };
    let plan =
        plan::compile(&request.spec, &host.facts, &options).map_err(|e| own("plan the container", e))?;
    plan.warnings
        .iter()
        .for_each(|warning| report.warn(warning.clone()));
    let (created, mut ends) = launch(
        host,
        &request,
        &plan,
        binds,
        group,
        filter.as_ref().map(filters::Program::parts),
    )?;
    let mut created = attach(&request, created)?;
    if plan.program.terminal {
        ends = terminal(&mut created)?;
    }
    created.ready().map_err(of_launch)?;
    created
        .warnings
        .drain(..)
        .for_each(|warning| report.warn(warning));
    let oom = watch(group, report);
    start(created, ends, oom, report)
}

/// The compiled filter. The plan is told that there is one; what it says does not matter any more then.
fn choose_filter<'h>(
    host: &'h Host,
    request: &mut LaunchRequest<EndpointPlan>,
) -> Result<Option<filters::Program<'h>>, Failure> {
    let capabilities = request
        .spec
        .process
        .as_ref()
        .and_then(|process| process.capabilities.as_ref());
    let bounding = capabilities.map(|sets| sets.bounding.clone()).unwrap_or_default();
    let Some(linux) = request.spec.linux.as_mut() else {
        return Ok(None);
    };
    let profile = linux.seccomp.take();
    let program = host.filters.choose(&request.seccomp, &bounding, profile.as_ref());
    let program = program.map_err(|e| own("compile the seccomp profile", e))?;
    linux.seccomp = program.is_some().then(Seccomp::default);
    Ok(program)
}

fn launch(
    host: &Host,
    request: &LaunchRequest<EndpointPlan>,
    plan: &Plan,
    binds: Vec<OwnedFd>,
    group: Option<&Group>,
    filter: Option<(&[Instruction], u32)>,
) -> Result<(Created, Ends), Failure> {
    if binds.len() != request.binds.len() {
        let counted = format!("{} trees came for {} binds", binds.len(), request.binds.len());
        return Err(own("read the launch request", counted));
    }
    let shared = Shared {
        stdin: request.open_stdin,
        stdout: true,
        stderr: true,
    };
    let terminal = plan.program.terminal;
    let pipes = if terminal {
        None
    } else {
        Some(streams::pipes(shared).map_err(|e| own("make the streams", e))?)
    };
    let (theirs, ends) = pipes.map_or((None, Ends::default()), |(theirs, ends)| (Some(theirs), ends));
    let stdio = match &theirs {
        None => Stdio::Terminal,
        Some([stdin, stdout, stderr]) => Stdio::Fds {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        },
    };
    let init = if request.init {
        Some(host.init.as_ref().map_err(|e| own("open the init", e))?)
    } else {
        None
    };
    let lowers = lowers(&request.rootfs);
    let created = create(Launch {
        id: &request.id,
        bundle: &request.runtime_dir,
        plan,
        rootfs: rootfs(&request.rootfs, &lowers),
        binds: request.binds.iter().copied().zip(binds).collect(),
        stdio,
        group,
        keep: &[],
        filter,
        init: init.map(AsFd::as_fd),
        channel: Channel::private().map_err(|e| own("make the gate", e))?,
    });
    Ok((created.map_err(of_launch)?, ends))
}

fn lowers(rootfs: &ferry_shim_proto::Rootfs) -> Vec<&Path> {
    match rootfs {
        ferry_shim_proto::Rootfs::Overlay { lowers, .. } => lowers.iter().map(AsRef::as_ref).collect(),
        ferry_shim_proto::Rootfs::Directory(_) => Vec::new(),
    }
}

fn rootfs<'r>(rootfs: &'r ferry_shim_proto::Rootfs, lowers: &'r [&'r Path]) -> Rootfs<'r> {
    match rootfs {
        ferry_shim_proto::Rootfs::Overlay {
            upper,
            work,
            volatile,
            ..
        } => Rootfs::Overlay {
            lowers,
            upper,
            work,
            volatile: *volatile,
        },
        ferry_shim_proto::Rootfs::Directory(path) => Rootfs::Directory(path),
    }
}

/// Links, while the new process mounts.
fn attach(request: &LaunchRequest<EndpointPlan>, created: Created) -> Result<Created, Failure> {
    if request.endpoints.is_empty() {
        return Ok(created);
    }
    let attached = created
        .net_ns()
        .map_err(|e| own("open the network namespace", e))
        .and_then(|namespace| {
            let attach = |plan| ferry_net::apply::attach(plan, namespace.as_fd());
            request
                .endpoints
                .iter()
                .try_for_each(attach)
                .map_err(|e| own("attach to the network", e))
        });
    match attached {
        Ok(()) => Ok(created),
        Err(failure) => {
            created.kill();
            Err(failure)
        }
    }
}

fn terminal(created: &mut Created) -> Result<Ends, Failure> {
    match created.console() {
        Ok(Some(master)) => streams::terminal(master).map_err(|e| own("use the terminal", e)),
        Ok(None) => Err(own("use the terminal", "there is none")),
        Err(error) => Err(of_launch(error)),
    }
}

fn watch(group: Option<&Group>, report: &Reporter<'_>) -> Option<OwnedFd> {
    match group.map(Group::oom_watch)? {
        Ok(watch) => Some(watch),
        Err(error) => {
            report.warn(format!("out-of-memory kills will not be told: {error}"));
            None
        }
    }
}

fn start(created: Created, ends: Ends, oom: Option<OwnedFd>, report: &Reporter<'_>) -> Result<(), Failure> {
    let pidfd = created
        .pidfd
        .try_clone()
        .map_err(|e| own("duplicate a descriptor", e))?;
    let made = Made {
        pid: created.pid,
        start_time: record::start_time(created.pid).map_err(|e| own("identify the new process", e))?,
        stdin: ends.stdin.is_some(),
        stdout: ends.stdout.is_some(),
        stderr: ends.stderr.is_some(),
        oom: oom.is_some(),
    };
    let handles = Handles { pidfd, ends, oom };
    if let Err(failure) = report.send(&Report::Created(made), &handles.borrow()) {
        created.kill();
        return Err(failure);
    }
    // The monitor has its own now; ours would hide that the container has closed its ends.
    drop(handles);
    match report.order() {
        Order::Start => {
            let running = created.start().map_err(of_launch)?;
            let held: Vec<BorrowedFd<'_>> = running.held_namespaces.iter().map(AsFd::as_fd).collect();
            report.send(&Report::Started(Moment::now().as_nanoseconds()), &held)
        }
        Order::Abort => {
            created.kill();
            Err(own("start the container", "it was given up before its start"))
        }
    }
}
