//! Starting a container: [`create`] clones and returns at once, [`Created::ready`] waits until it stands at the gate, [`Created::start`] opens it.
//!
//! The caller is single-threaded. Between [`create`] and [`Created::ready`] the child mounts while the caller does
//! whatever else a start needs (the network, say).

mod channel;
mod error;
mod prepare;
pub(crate) mod sentence;

pub use channel::Channel;
pub use error::{LaunchError, LaunchErrorKind};
pub(crate) use prepare::{
    Numbers, filter as given_filter, gaps, identity as plan_identity, request as plan_request, streams,
    strings as plan_strings,
};

use crate::apply::child;
use crate::apply::report::Report;
use crate::hooks;
use crate::plan::{IdMaps, Plan, Program, Step};
use ferry_oci::runtime::{Hooks, NamespaceKind};
use ferry_sys::clone::{self, Forked};
use ferry_sys::mem::SharedWords;
use ferry_sys::seccomp::Instruction;
use ferry_sys::{Errno, fd};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The root file system.
#[derive(Debug)]
pub enum Rootfs<'a> {
    /// An existing directory of the caller's mount namespace.
    Directory(&'a Path),
    /// A detached tree (open_tree(2) with `OPEN_TREE_CLONE`), attached at `Launch::bundle` in the container's namespace.
    Tree(OwnedFd),
    /// An overlay, mounted in the container's namespace alone.
    Overlay {
        /// Newest first.
        lowers: &'a [&'a Path],
        /// Written to.
        upper: &'a Path,
        /// Overlay's own; on the upper's file system.
        work: &'a Path,
        /// Never synced: a crash of the machine loses it.
        volatile: bool,
    },
}

/// Where the standard streams come from.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// Three open files; they stay the caller's. The same one may be given twice.
    Fds {
        /// Descriptor 0.
        stdin: BorrowedFd<'a>,
        /// Descriptor 1.
        stdout: BorrowedFd<'a>,
        /// Descriptor 2.
        stderr: BorrowedFd<'a>,
    },
    /// A pseudo-terminal of the container's own devpts; its master comes by [`Created::console`].
    Terminal,
    /// As `Terminal`, with the master sent over this connected unix socket.
    TerminalTo(BorrowedFd<'a>),
}

/// What one launch needs beside its plan.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The container's id, told to hooks.
    pub id: &'a str,
    /// The bundle's directory, told to hooks.
    pub bundle: &'a Path,
    /// What is done.
    pub plan: &'a Plan,
    /// The root file system.
    pub rootfs: Rootfs<'a>,
    /// Detached trees for `spec.mounts[index]`; sources that are not here are opened by the container's process itself.
    pub binds: Vec<(usize, OwnedFd)>,
    /// The standard streams.
    pub stdio: Stdio<'a>,
    /// The cgroup to join.
    pub group: Option<&'a crate::cgroup::Group>,
    /// Become descriptors 3, 4, … in this order; all others are closed.
    pub keep: &'a [RawFd],
    /// The compiled filter: its program and the flags of seccomp(2). Absent: compiled here when the plan has one.
    pub filter: Option<(&'a [Instruction], u32)>,
    /// The sealed binary that becomes process 1 when the plan has `init`.
    pub init: Option<BorrowedFd<'a>>,
    /// How reports and the gate travel; [`Channel::private`] unless another process opens the gate.
    pub channel: Channel,
}

/// A container whose process exists and sets itself up, or stands at the gate.
#[derive(Debug)]
pub struct Created {
    /// Process 1, as the caller's pid namespace numbers it. With a joined pid namespace this is a preparing process
    /// until [`Created::ready`] has returned.
    pub pid: i32,
    /// The same process.
    pub pidfd: OwnedFd,
    /// What was refused and left out, in sentences.
    pub warnings: Vec<String>,
    channel: Channel,
    console: Option<OwnedFd>,
    net: Option<OwnedFd>,
    sibling: Option<SharedWords>,
    context: Context,
    is_ready: bool,
}

/// What messages and hooks need of the launch.
#[derive(Debug)]
struct Context {
    id: String,
    bundle: PathBuf,
    steps: Arc<[Step]>,
    program: Arc<Program>,
    hooks: Hooks,
}

/// A container whose program runs.
#[derive(Debug)]
pub struct Running {
    /// Process 1.
    pub pid: i32,
    /// The same process.
    pub pidfd: OwnedFd,
    /// Its mnt, ipc and net namespaces. While they are held the exit is seen earlier by the time their teardown takes;
    /// close them once the exit has been told, and before anything that was mounted or addressed is used again.
    pub held_namespaces: Vec<OwnedFd>,
}

/// Clones the container's first process and returns at once; the process sets itself up meanwhile.
///
/// # Errors
/// When the caller has threads, a descriptor or string cannot be prepared, a namespace to join cannot be opened, or
/// clone3 fails. Nothing is left then.
pub fn create(launch: Launch<'_>) -> Result<Created, LaunchError> {
    if clone::single_threaded() == Ok(false) {
        return Err(LaunchError::other(
            "the process that starts containers has more than one thread",
        ));
    }
    let plan = launch.plan;
    let sibling = match plan.joined.iter().any(|(kind, _)| *kind == NamespaceKind::Pid) {
        true => Some(SharedWords::new().map_err(|e| LaunchError::io("map shared memory", e.into()))?),
        false => None,
    };
    let context = Context {
        id: launch.id.to_owned(),
        bundle: launch.bundle.to_owned(),
        steps: plan.steps.clone(),
        program: plan.program.clone(),
        hooks: plan.hooks.clone(),
    };
    let into = launch.group.and_then(crate::cgroup::Group::v2_dir);
    let mut prepared = prepare::Prepared::new(launch, sibling.as_ref(), into.is_some())?;
    let forked = clone::clone3(plan.clone, into).map_err(|e| LaunchError::io("clone3", e.into()))?;
    let (pid, pidfd) = match forked {
        Forked::Child => child::run(&mut prepared.wires),
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    let (channel, console, net) = prepared.into_ends();
    let created = Created {
        pid,
        pidfd,
        warnings: Vec::new(),
        channel,
        console,
        net,
        sibling,
        context,
        is_ready: false,
    };
    if let Some(maps) = &plan.id_maps {
        if let Err(error) = write_maps(pid, maps) {
            return Err(created.abandon(LaunchError::io("write the id maps", error)));
        }
        created
            .channel
            .open()
            .map_err(|e| LaunchError::io("let the new process go on", e.into()))?;
    }
    Ok(created)
}

/// user_namespaces(7): without privileges, setgroups must be denied before a group map is accepted.
fn write_maps(pid: i32, maps: &IdMaps) -> io::Result<()> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    std::fs::write(file("uid_map"), &maps.uids)?;
    match std::fs::write(file("gid_map"), &maps.gids) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            std::fs::write(file("setgroups"), "deny")?;
            std::fs::write(file("gid_map"), &maps.gids)
        }
        other => other,
    }
}

impl Created {
    /// The container's network namespace, there as soon as [`create`] has returned.
    pub fn net_ns(&self) -> io::Result<OwnedFd> {
        match &self.net {
            Some(joined) => joined.try_clone(),
            None => open_namespace(self.pid, "net").map_err(Into::into),
        }
    }

    /// The terminal's master; waits for it. None without [`Stdio::Terminal`], and the second time.
    pub fn console(&mut self) -> Result<Option<OwnedFd>, LaunchError> {
        let Some(socket) = self.console.take() else {
            return Ok(None);
        };
        let mut name = [0; 64];
        match fd::receive(socket.as_fd(), &mut name) {
            Ok((_, Some(master))) => Ok(Some(master)),
            // Nothing came: whatever stopped the child is told by `ready`.
            Ok((_, None)) => {
                self.ready()?;
                Err(LaunchError::other("the container sent no terminal"))
            }
            Err(errno) => Err(LaunchError::io("receive the terminal", errno.into())),
        }
    }

    /// Waits until the process stands at the gate (the specification's `created`). Hooks before it run here.
    ///
    /// # Errors
    /// What the process could not do, as a sentence; it has ended then and is reaped.
    pub fn ready(&mut self) -> Result<(), LaunchError> {
        while !self.is_ready {
            match self.next_report()? {
                Some(Report::Ready) => self.is_ready = true,
                Some(Report::Hooks) => self.run_hooks()?,
                Some(Report::Tolerated(step, errno)) => {
                    let step = self.context.steps.get(step as usize);
                    self.warnings.push(sentence::tolerated(step, errno));
                }
                Some(Report::Failed(fault, step)) => {
                    let error = sentence::failed(&self.context.steps, &self.context.program, step, fault);
                    self.kill_and_reap();
                    return Err(error);
                }
                None => return Err(self.ended_early()),
            }
        }
        self.console = None;
        self.adopt_sibling()
    }

    /// Opens the gate and waits until the program runs.
    ///
    /// # Errors
    /// What [`Created::ready`] says, when that had not been asked; what exec says. The process is reaped then.
    pub fn start(mut self) -> Result<Running, LaunchError> {
        self.ready()?;
        let held_namespaces = ["mnt", "ipc", "net"]
            .into_iter()
            .filter_map(|name| open_namespace(self.pid, name).ok())
            .collect();
        self.channel
            .open()
            .map_err(|e| LaunchError::io("open the gate", e.into()))?;
        match self.next_report()? {
            None => Ok(Running {
                pid: self.pid,
                pidfd: self.pidfd,
                held_namespaces,
            }),
            Some(Report::Failed(fault, step)) => {
                let error = sentence::failed(&self.context.steps, &self.context.program, step, fault);
                self.kill_and_reap();
                Err(error)
            }
            Some(other) => Err(LaunchError::other(format!(
                "the container's process said {other:?} after its start"
            ))),
        }
    }

    /// Leaves the process at its gate, for another process to open by the same [`Channel`]. `ready` comes first.
    pub fn detach(self) -> (i32, OwnedFd) {
        (self.pid, self.pidfd)
    }

    /// Ends and reaps the process.
    pub fn kill(mut self) {
        self.kill_and_reap();
    }

    fn abandon(mut self, error: LaunchError) -> LaunchError {
        self.kill_and_reap();
        error
    }

    /// The next report; None when the channel is closed or the process has ended.
    fn next_report(&mut self) -> Result<Option<Report>, LaunchError> {
        loop {
            let reports = self.channel.reports();
            let mut ready = [
                PollFd::new(&reports, PollFlags::IN),
                PollFd::new(&self.pidfd, PollFlags::IN),
            ];
            match rustix::event::poll(&mut ready, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(LaunchError::io("wait for the new process", errno.into())),
            }
            let ended = !ready[1].revents().is_empty();
            let first = ready[0].revents();
            if first.contains(PollFlags::IN) {
                return self
                    .channel
                    .read()
                    .map_err(|e| LaunchError::io("read a report", e.into()));
            }
            // With a sibling the preparing process ends, and its own copy of the channel with it.
            if !first.is_empty() || (ended && self.sibling.is_none()) {
                return Ok(None);
            }
            if ended {
                self.adopt_sibling()?;
            }
        }
    }

    fn run_hooks(&mut self) -> Result<(), LaunchError> {
        let state = hooks::state(&self.context.id, "creating", self.pid, &self.context.bundle);
        let all = &self.context.hooks;
        let run = hooks::run(&all.prestart, "prestart", &state)
            .and_then(|()| hooks::run(&all.create_runtime, "createRuntime", &state))
            .and_then(|()| {
                hooks::run_inside(
                    &all.create_container,
                    "createContainer",
                    &state,
                    self.pidfd.as_fd(),
                )
            });
        if let Err(error) = run {
            self.kill_and_reap();
            return Err(LaunchError::other(error.to_string()));
        }
        self.channel
            .open()
            .map_err(|e| LaunchError::io("let the new process go on", e.into()))
    }

    /// The last clone is our own child: from here on it is the container's process.
    fn adopt_sibling(&mut self) -> Result<(), LaunchError> {
        let Some(words) = self.sibling.take() else {
            return Ok(());
        };
        self.reap();
        let pid = words.word(0).load(std::sync::atomic::Ordering::Acquire);
        let Some(raw) = rustix::process::Pid::from_raw(pid) else {
            return Err(LaunchError::other(
                "the container's process ended while it was set up",
            ));
        };
        self.pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(|e| LaunchError::io("open the container's process", e.into()))?;
        self.pid = pid;
        Ok(())
    }

    fn ended_early(&mut self) -> LaunchError {
        let how = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("with status {code}"),
                (_, Some(signal)) => format!("by signal {signal}"),
                _ => "without a status".to_owned(),
            },
            _ => "unseen".to_owned(),
        };
        LaunchError::other(format!("the container's process ended {how} while it was set up"))
    }

    fn kill_and_reap(&mut self) {
        // It may have ended by itself; then there is nothing to signal.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        self.reap();
    }

    fn reap(&self) {
        while let Err(Errno::INTR) =
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        {}
    }
}

/// Opens the gate of a container that another process created with [`Channel::named`] in `directory`, and waits until its
/// program runs. `spec` is the container's, for the words of an error.
pub(crate) fn open_named_gate(
    directory: &Path,
    spec: &ferry_oci::runtime::Spec,
    pidfd: BorrowedFd<'_>,
) -> Result<(), LaunchError> {
    let reports = Channel::reports_of(directory).map_err(|e| LaunchError::io("open the reports", e))?;
    Channel::open_gate_of(directory).map_err(|e| LaunchError::io("open the gate", e))?;
    let mut waits = [
        PollFd::new(&reports, PollFlags::IN),
        PollFd::new(&pidfd, PollFlags::IN),
    ];
    loop {
        match rustix::event::poll(&mut waits, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(LaunchError::io("wait for the container", errno.into())),
        }
    }
    match channel::read_report(reports.as_fd()) {
        Ok(Some(Report::Failed(fault, at))) => {
            let process = spec.process.clone().unwrap_or_default();
            let program = crate::plan::program(&process, &crate::plan::Options::default())
                .map_err(|e| LaunchError::other(e.to_string()))?;
            Err(sentence::failed(&[], &program, at, fault))
        }
        // The last writer is gone: it has exec'ed, or ended, which `state` tells.
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(LaunchError::io("read a report", errno.into())),
    }
}

fn open_namespace(pid: i32, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        format!("/proc/{pid}/ns/{name}"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
