//! One more process in a running container.
//!
//! The order is what keeps the container from attacking the process that enters it (R3): a preparing process stays in the host's pid
//! namespace while it joins the others, takes the ids, capabilities and filter; only its last clone enters the pid namespace, has
//! nothing to give any more, and execs. The clone is the caller's child.

use crate::apply::child;
use crate::apply::report::Fault;
use crate::apply::wires::{Root, Sibling, Wires};
use crate::cgroup::Group;
use crate::launch::{
    LaunchError, Numbers, Stdio, gaps, given_filter, plan_identity, plan_request, plan_strings, sentence,
    streams,
};
use crate::plan::{Plan, flag};
use ferry_sys::clone::{self, Forked};
use ferry_sys::mem::SharedWords;
use ferry_sys::seccomp::Instruction;
use ferry_sys::{Errno, fd};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

/// What an exec needs beside its plan ([`crate::plan::compile_exec`]).
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The process.
    pub plan: &'a Plan,
    /// The container's first process: its namespaces are joined.
    pub target: BorrowedFd<'a>,
    /// The standard streams.
    pub stdio: Stdio<'a>,
    /// The container's cgroup.
    pub group: Option<&'a Group>,
    /// Become descriptors 3, 4, … in this order.
    pub keep: &'a [RawFd],
    /// The compiled filter: its program and the flags of seccomp(2).
    pub filter: Option<(&'a [Instruction], u32)>,
}

/// A running exec, a child of the caller.
#[derive(Debug)]
pub struct Executed {
    /// As the caller's pid namespace numbers it.
    pub pid: i32,
    /// The same process.
    pub pidfd: OwnedFd,
    /// The terminal's master, with [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
}

/// Starts the process; returns once its program runs.
///
/// # Errors
/// What could not be done, in a sentence; nothing is left then.
pub fn exec(request: ExecRequest<'_>) -> Result<Executed, LaunchError> {
    if clone::single_threaded() == Ok(false) {
        return Err(LaunchError::other(
            "the process that starts containers has more than one thread",
        ));
    }
    let words = SharedWords::new().map_err(|e| LaunchError::io("map shared memory", e.into()))?;
    let into = request.group.and_then(Group::v2_dir);
    let (mut wires, console, held) = prepare(&request, &words, into.is_some())?;
    let pidfd = match clone::clone3(0, into).map_err(|e| LaunchError::io("clone3", e.into()))? {
        Forked::Child => child::run(&mut wires),
        Forked::Parent { pidfd, .. } => pidfd,
    };
    drop(held);
    // The preparing process sleeps until its sibling has exec'ed or ended; its own end says that there is news.
    while let Err(Errno::INTR) = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    {
    }
    finish(&request, &words, console)
}

fn prepare<'a>(
    request: &ExecRequest<'a>,
    words: &'a SharedWords,
    placed: bool,
) -> Result<(Wires<'a>, Option<OwnedFd>, Numbers), LaunchError> {
    let plan = request.plan;
    let mut numbers = Numbers::new(request.keep.len());
    let joins = match request.group {
        Some(group) if !placed => group
            .join_fds()
            .iter()
            .map(|f| numbers.number(f.as_raw_fd()))
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    let kinds = plan.namespaces.iter().fold(0, |kinds, kind| kinds | flag(*kind));
    let target = numbers.number(request.target.as_raw_fd())?;
    let (stdio, console, far_console) = streams(&request.stdio, &mut numbers)?;
    let keep = request
        .keep
        .iter()
        .map(|k| numbers.number(*k))
        .collect::<Result<Vec<_>, _>>()?;
    let (arguments, environment) = plan_strings(plan);
    let mut wires = Wires {
        plan,
        report: None,
        gate: None,
        console: far_console,
        joins,
        namespaces: Vec::new(),
        binds: Vec::new(),
        root: Root::Entered,
        cgroups: Vec::new(),
        stdio,
        keep,
        gaps: Vec::new(),
        await_maps: false,
        filter: given_filter(plan, request.filter)?,
        arguments,
        environment,
        request: plan_request(plan),
        identity: plan_identity(plan),
        files: crate::user::Buffers::new(),
        init: None,
        sibling: Some(Sibling {
            pid_ns: None,
            target: Some((target, kinds)),
            pid: words.word(0),
            fault: Some([words.word(1), words.word(2), words.word(3)]),
        }),
    };
    wires.gaps = gaps(&wires);
    Ok((wires, console, numbers))
}

fn finish(
    request: &ExecRequest<'_>,
    words: &SharedWords,
    console: Option<OwnedFd>,
) -> Result<Executed, LaunchError> {
    let errno = words.word(3).load(Ordering::Acquire);
    let step = words.word(1).load(Ordering::Relaxed).cast_unsigned();
    let detail = words.word(2).load(Ordering::Relaxed).cast_unsigned();
    let process = Pid::from_raw(words.word(0).load(Ordering::Acquire));
    if errno != 0 || detail != 0 {
        if let Some(process) = process {
            reap(process);
        }
        let fault = Fault { detail, errno };
        return Err(sentence::failed(
            &request.plan.steps,
            &request.plan.program,
            step,
            fault,
        ));
    }
    let Some(process) = process else {
        return Err(LaunchError::other(
            "the process that prepares an exec ended early: the container has ended, or its memory limit was reached",
        ));
    };
    let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty())
        .map_err(|e| LaunchError::io("open the exec's process", e.into()))?;
    let console = match console {
        Some(socket) => {
            let mut name = [0; 64];
            fd::receive(socket.as_fd(), &mut name)
                .map_err(|e| LaunchError::io("receive the terminal", e.into()))?
                .1
        }
        None => None,
    };
    Ok(Executed {
        pid: process.as_raw_nonzero().get(),
        pidfd,
        console,
    })
}

fn reap(process: Pid) {
    while let Err(Errno::INTR) = rustix::process::waitid(WaitId::Pid(process), WaitIdOptions::EXITED) {}
}
