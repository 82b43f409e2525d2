//! The set-up process of an exec: it joins a running container, executes, and ends.

use crate::filters::Program;
use crate::host::Host;
use crate::jsonlog::Moment;
use crate::record;
use crate::report::{Accepted, Handles, Made, Report};
use crate::setup::{self, Reporter, given, own};
use crate::stdio::{Ends, Policy};
use crate::streams::{self, Shared};
use ferry_oci::runtime::{Linux, Namespace, NamespaceKind, Seccomp, Spec};
use ferry_runtime::cgroup::Group;
use ferry_runtime::exec;
use ferry_runtime::launch::Stdio;
use ferry_runtime::plan;
use ferry_shim_proto::{ExecRequest, Failure, transport};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};

/// The kinds, with their names in `/proc/<pid>/ns`. The user namespace decides about all others and comes first.
const KINDS: [(NamespaceKind, &str); 8] = [
    (NamespaceKind::User, "user"),
    (NamespaceKind::Cgroup, "cgroup"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
    (NamespaceKind::Network, "net"),
    (NamespaceKind::Pid, "pid"),
    (NamespaceKind::Mount, "mnt"),
    (NamespaceKind::Time, "time"),
];

/// An exec. Returns the process's exit status.
pub(crate) fn set_up(host: &Host, request: OwnedFd, attached: bool, socket: &OwnedFd) -> i32 {
    setup::run(socket, |report| {
        let request: ExecRequest =
            transport::read_memfd(request).map_err(|e| own("read the exec request", e))?;
        accept(&request, attached, report)?;
        let target = target(&request)?;
        join(host, request, target, attached, report)
    })
}

fn accept(request: &ExecRequest, attached: bool, report: &Reporter<'_>) -> Result<(), Failure> {
    let directory = request.runtime_dir.join("execs");
    if let Err(error) = std::fs::create_dir(&directory)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(own(&format!("make {}", directory.display()), error));
    }
    let accepted = Accepted {
        exit_record: directory.join(format!("{}.json", request.id)),
        policy: Policy {
            terminal: request.process.terminal,
            open_stdin: attached && request.stdin,
            stdin_once: true,
            lost_is_end: true,
        },
        ..Accepted::default()
    };
    report.send(&Report::Accepted(accepted), &[])
}

/// The container's first process, if it still is the one that is meant.
fn target(request: &ExecRequest) -> Result<OwnedFd, Failure> {
    let gone = || {
        own(
            "exec",
            format!("container {} is not running", request.container_id),
        )
    };
    let pid = Pid::from_raw(request.pid).ok_or_else(gone)?;
    let target = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // Asked after the pidfd is held: the pid cannot be anybody else's from then on.
    match record::start_time(request.pid) {
        Ok(time) if time == request.start_time => Ok(target),
        _ => Err(gone()),
    }
}

fn join(
    host: &Host,
    mut request: ExecRequest,
    target: OwnedFd,
    attached: bool,
    report: &Reporter<'_>,
) -> Result<(), Failure> {
    let sets = request.process.capabilities.as_ref();
    let bounding = sets.map(|sets| sets.bounding.clone()).unwrap_or_default();
    let filter = host
        .filters
        .choose(&request.seccomp, &bounding, request.profile.take().as_ref());
    let filter = filter.map_err(|e| own("compile the seccomp profile", e))?;
    let spec = Spec {
        linux: Some(Linux {
            namespaces: foreign_namespaces(request.pid)?,
            seccomp: filter.is_some().then(Seccomp::default),
            ..Linux::default()
        }),
        ..Spec::default()
    };
    let options = plan::Options {
        lenient: true,
        user: given(&request.user),
        groups: request.groups.clone(),
        ..plan::Options::default()
    };
    let plan = plan::compile_exec(&spec, &request.process, &host.facts, &options);
    let plan = plan.map_err(|e| own("plan the exec", e))?;
    plan.warnings
        .iter()
        .for_each(|warning| report.warn(warning.clone()));
    let group = host.layout.as_ref().filter(|_| !request.cgroup.is_empty());
    let group = group
        .map(|layout| Group::open(layout, &request.cgroup))
        .transpose();
    let group = group.map_err(|e| own("join the container's cgroup", e))?;
    let shared = Shared {
        stdin: attached && request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let (theirs, ends) = streams::pipes(shared).map_err(|e| own("make the streams", e))?;
    let stdio = if request.process.terminal {
        Stdio::Terminal
    } else {
        Stdio::Fds {
            stdin: theirs[0].as_fd(),
            stdout: theirs[1].as_fd(),
            stderr: theirs[2].as_fd(),
        }
    };
    let executed = exec::exec(exec::ExecRequest {
        plan: &plan,
        target: target.as_fd(),
        stdio,
        group: group.as_ref(),
        keep: &[],
        filter: filter.as_ref().map(Program::parts),
    });
    let executed = executed.map_err(|error| Failure {
        code: error.exit_code(),
        message: format!("OCI runtime exec failed: exec failed: unable to start container process: {error}"),
    })?;
    let at = Moment::now().as_nanoseconds();
    let ends = match executed.console {
        Some(master) => streams::terminal(master).map_err(|e| own("use the terminal", e))?,
        None => ends,
    };
    tell(executed.pid, executed.pidfd, ends, report)?;
    report.send(&Report::Started(at), &[])
}

fn tell(pid: i32, pidfd: OwnedFd, ends: Ends, report: &Reporter<'_>) -> Result<(), Failure> {
    let made = Made {
        pid,
        // One that is over already is not reaped yet, and has its entry.
        start_time: record::start_time(pid).unwrap_or(0),
        stdin: ends.stdin.is_some(),
        stdout: ends.stdout.is_some(),
        stderr: ends.stderr.is_some(),
        oom: false,
    };
    let handles = Handles {
        pidfd,
        ends,
        oom: None,
    };
    report.send(&Report::Created(made), &handles.borrow())
}

/// Those of the process that we do not share with it, so that they have to be joined.
fn foreign_namespaces(pid: i32) -> Result<Vec<Namespace>, Failure> {
    let mut foreign = Vec::with_capacity(KINDS.len());
    for (kind, name) in KINDS {
        let path = format!("/proc/{pid}/ns/{name}");
        let (Ok(own_one), Ok(theirs)) = (
            std::fs::read_link(format!("/proc/self/ns/{name}")),
            std::fs::read_link(&path),
        ) else {
            // A kind that this kernel does not have; a process that has just ended is noticed when it is joined.
            continue;
        };
        if own_one != theirs {
            foreign.push(Namespace {
                kind,
                path: Some(path),
            });
        }
    }
    if foreign.is_empty() {
        return Err(own(
            "exec",
            "the container's namespaces cannot be read: it is not running",
        ));
    }
    Ok(foreign)
}
