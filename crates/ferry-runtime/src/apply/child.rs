//! The new process, from its clone to its exec.
//!
//! Rule: prepared data and system calls only. Nothing here allocates, locks, prints or unwinds; dropping an [`OwnedFd`] is one close(2).
//! An error is reported as numbers, and the maker of this process turns them into a sentence.

use super::report::{AT_EXEC, AT_LAST_CLONE, AT_START, Done, Fault, Report};
use super::wires::{Root, Wires};
use super::{mounts, paths, terminal, who};
use crate::plan::Step;
use ferry_oci::runtime::NamespaceKind;
use ferry_sys::exec::{execve, execveat_fd, exit_now};
use ferry_sys::{Errno, clone, fd, process};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

/// What the steps hand on to each other.
#[derive(Default)]
pub(crate) struct Scene {
    /// The root file system's directory.
    pub root: Option<OwnedFd>,
    /// A procfs of the container's pid namespace that only we have written to.
    pub proc: Option<OwnedFd>,
    /// The same, before it is mounted anywhere.
    pub proc_is_detached: bool,
    /// A procfs in which `self` is this process; [`Scene::proc`] serves when it is absent.
    pub own_proc: Option<OwnedFd>,
    /// The empty read-only tmpfs that hides directories.
    pub empty: Option<OwnedFd>,
    /// The terminal's slave.
    pub terminal: Option<OwnedFd>,
    /// Whether user 0 could not enter the working directory.
    pub retry_cwd: bool,
    /// Which candidate is the program.
    pub candidate: usize,
}

impl Scene {
    pub fn root(&self) -> Done<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF.into())
    }
}

/// Interprets the plan and becomes the program; never returns.
pub(crate) fn run(wires: &mut Wires<'_>) -> ! {
    let mut scene = Scene::default();
    let plan = wires.plan;
    if let Err(fault) = begin(wires, &mut scene) {
        fail(wires, fault, AT_START);
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let index = index as u32;
        match apply(step, wires, &mut scene) {
            Ok(()) => {}
            Err(fault) if is_lenient(step, fault) => tell(wires, Report::Tolerated(index, fault.errno)),
            Err(fault) => fail(wires, fault, index),
        }
    }
    if wires.sibling.is_some() {
        become_sibling(wires);
    }
    tell(wires, Report::Ready);
    if wires.gate.is_some() && !wait(wires) {
        // Whoever made us is gone, and nobody will ever open the gate.
        exit_now(1);
    }
    let errno = execute(wires, &scene);
    fail(wires, errno.into(), AT_EXEC)
}

fn begin(wires: &Wires<'_>, scene: &mut Scene) -> Done {
    for &(first, last) in &wires.gaps {
        fd::close_range(first, last)?;
    }
    process::reset_signals()?;
    if wires.sibling.is_none() {
        // The session's leader is the one that execs; in a sibling clone that is not us.
        rustix::process::setsid()?;
    }
    rustix::process::umask(Mode::empty());
    if let Some(sibling) = &wires.sibling {
        scene.own_proc = Some(rustix::fs::open(
            c"/proc",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        if let Some((target, kinds)) = sibling.target {
            join_cgroups(wires)?;
            clone::setns(fd::borrow(target), kinds)?;
        }
    }
    if matches!(wires.root, Root::Entered) {
        scene.root = Some(rustix::fs::open(
            c"/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    Ok(())
}

fn apply(step: &Step, wires: &mut Wires<'_>, scene: &mut Scene) -> Done {
    match step {
        Step::JoinCgroups => join_cgroups(wires),
        Step::UnshareCgroup => Ok(clone::unshare(clone::NEWCGROUP)?),
        Step::TimeNamespace(offsets) => paths::time_namespace(scene, offsets.as_deref()),
        Step::Join(kind) => join(*kind, wires),
        Step::BecomeMapped => {
            if wires.await_maps && !wait(wires) {
                exit_now(1);
            }
            Ok(process::become_ids(0, 0)?)
        }
        Step::Propagate(flags) => Ok(ferry_sys::mount::mount_old(c"", c"/", c"", *flags, c"")?),
        Step::AttachRoot { private_parent } => mounts::attach_root(wires, scene, *private_parent),
        Step::OpenProc => mounts::open_proc(wires, scene),
        Step::FileSystem(mount) => mounts::file_system(mount, scene),
        Step::Bind(bind) => mounts::bind(bind, wires, scene),
        Step::Cgroups(mount) => mounts::cgroups(mount, wires, scene),
        Step::Device(device) => paths::device(device, scene),
        Step::Link { path, target } => paths::link(path, target, scene),
        Step::Terminal(wanted) => terminal::make(*wanted, wires, scene),
        Step::Loopback => Ok(ferry_sys::net::loopback_up()?),
        Step::Hostname(name) => Ok(rustix::system::sethostname(name.to_bytes())?),
        Step::Domainname(name) => Ok(rustix::system::setdomainname(name.to_bytes())?),
        Step::Sysctl(path, value) => paths::sysctl(scene, path, value),
        Step::Hooks(_) => {
            tell(wires, Report::Hooks);
            if !wait(wires) {
                exit_now(1);
            }
            Ok(())
        }
        Step::Mask(path) => mounts::mask(path, scene),
        Step::ReadOnly(path) => mounts::read_only(path, scene),
        Step::RootReadOnly => mounts::root_read_only(scene),
        Step::RootPropagation(flags) => mounts::root_propagation(scene, *flags),
        Step::Pivot => mounts::pivot(scene),
        Step::MoveRoot => mounts::move_root(scene),
        other => who::apply(other, wires, scene),
    }
}

fn is_lenient(step: &Step, fault: Fault) -> bool {
    let refused = fault.errno == Errno::PERM.raw_os_error() || fault.errno == Errno::ACCESS.raw_os_error();
    refused && matches!(step, Step::OomScore { lenient: true, .. })
}

/// v1's `tasks` and v2's `cgroup.procs` both take `0` for the writer; on v1 this is eight times faster than a pid.
fn join_cgroups(wires: &Wires<'_>) -> Done {
    for &number in &wires.joins {
        rustix::io::write(fd::borrow(number), b"0")?;
    }
    Ok(())
}

fn join(kind: NamespaceKind, wires: &Wires<'_>) -> Done {
    for &(which, number) in &wires.namespaces {
        if which == kind {
            clone::setns(fd::borrow(number), crate::plan::flag(kind))?;
        }
    }
    Ok(())
}

/// Standard streams and kept descriptors in their places, all others closed but those that are needed to the end.
pub(crate) fn settle(wires: &mut Wires<'_>, scene: &mut Scene) -> Done {
    if let Some(slave) = &scene.terminal {
        let slave = slave.as_raw_fd();
        for number in 0..3 {
            fd::place(slave, number)?;
        }
    }
    for (number, from) in (0..).zip(wires.stdio) {
        if let Some(from) = from {
            fd::place(from, number)?;
        }
    }
    for (number, &from) in (3..).zip(&wires.keep) {
        fd::place(from, number)?;
    }
    // What the scene holds is closed by number with the rest, so its owners must forget.
    for held in [
        &mut scene.root,
        &mut scene.proc,
        &mut scene.own_proc,
        &mut scene.empty,
        &mut scene.terminal,
    ] {
        std::mem::forget(held.take());
    }
    let mut last = [wires.report, wires.gate, wires.init].map(|n| n.unwrap_or(-1));
    last.sort_unstable();
    let mut next = 3 + wires.keep.len() as u32;
    for number in last {
        let Ok(number) = u32::try_from(number) else {
            continue;
        };
        if number < next {
            continue;
        }
        if number > next {
            fd::close_range(next, number - 1)?;
        }
        next = number + 1;
    }
    Ok(fd::close_range(next, u32::MAX)?)
}

/// Ends; the sibling goes on in the pid namespace, a child of the same maker, with everything given up already.
fn become_sibling(wires: &mut Wires<'_>) {
    let Some(sibling) = &wires.sibling else { return };
    let with_gate = wires.gate.is_some();
    match clone::clone_sibling(sibling.pid, !with_gate) {
        Ok(true) => {}
        Ok(false) => exit_now(0),
        Err(errno) => fail(wires, errno.into(), AT_LAST_CLONE),
    }
    let session = rustix::process::setsid().map(drop);
    let controlled = if wires.plan.program.terminal {
        session.and_then(|()| rustix::process::ioctl_tiocsctty(fd::borrow(0)))
    } else {
        session
    };
    if let Err(errno) = controlled {
        fail(wires, errno.into(), AT_LAST_CLONE);
    }
}

fn execute(wires: &Wires<'_>, scene: &Scene) -> Errno {
    if let Some(init) = wires.init {
        return execveat_fd(fd::borrow(init), &wires.arguments, &wires.environment);
    }
    match wires.plan.program.candidates.get(scene.candidate) {
        Some(path) => execve(path, &wires.arguments, &wires.environment),
        None => Errno::NOENT,
    }
}

/// Waits for one byte at the gate; false when it will never come.
fn wait(wires: &Wires<'_>) -> bool {
    let Some(gate) = wires.gate else { return false };
    let mut byte = [0u8];
    loop {
        match rustix::io::read(fd::borrow(gate), &mut byte) {
            Ok(read) => return read == 1,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn tell(wires: &Wires<'_>, report: Report) {
    let Some(number) = wires.report else { return };
    // Nobody listens any more: the gate will say so.
    let _ = rustix::io::write(fd::borrow(number), &report.to_bytes());
}

fn fail(wires: &Wires<'_>, fault: Fault, step: u32) -> ! {
    tell(wires, Report::Failed(fault, step));
    if let Some([at, detail, errno]) = wires.sibling.as_ref().and_then(|s| s.fault) {
        at.store(step.cast_signed(), Ordering::Relaxed);
        detail.store(fault.detail.cast_signed(), Ordering::Relaxed);
        errno.store(fault.errno, Ordering::Release);
    }
    exit_now(1)
}
