//! New processes: clone3(2), and the sibling clone that ends a preparation outside a pid namespace.

use crate::{Errno, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `CLONE_NEWTIME`, from linux/sched.h; only clone3 and unshare know it.
pub const NEWTIME: u64 = 0x80;
/// `CLONE_NEWNS`.
pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
/// `CLONE_NEWCGROUP`.
pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// `CLONE_NEWUTS`.
pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
/// `CLONE_NEWIPC`.
pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
/// `CLONE_NEWUSER`.
pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
/// `CLONE_NEWPID`.
pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
/// `CLONE_NEWNET`.
pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;

const INTO_CGROUP: u64 = 0x2_0000_0000;
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// `struct clone_args` of linux/sched.h, as of 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// On which side of a clone we are.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child, as the caller's pid namespace numbers it.
        pid: i32,
        /// The child, as a pidfd (close-on-exec).
        pidfd: OwnedFd,
    },
}

/// clone3(2) without shared memory: the child runs on a copy of the caller's stack, as after fork(2).
///
/// `namespaces` are `NEW…` flags. All of the child's signal handlers are at their defaults. With `cgroup` (a v2 directory)
/// the child starts in it.
///
/// The child must only make system calls until it execs: locks that other threads held are held for ever.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64 | CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(directory) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call; without CLONE_VM the child has its own copy of the stack, so both
    // return paths are ordinary returns.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            (&raw mut args).cast::<libc::c_void>(),
            size_of::<CloneArgs>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor of ours there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent {
        pid: pid as i32,
        pidfd,
    })
}

/// clone(2) of a sibling: the new process is the caller's parent's child, and the caller sleeps until it has exec'ed
/// or ended. The kernel stores its pid (as the caller's namespace numbers it) in `pid`. True in the new process.
///
/// The old system call, because seccomp profiles commonly answer ENOSYS to clone3; without namespace flags, because
/// they commonly forbid those.
pub fn clone_sibling(pid: &std::sync::atomic::AtomicI32, wait_for_exec: bool) -> Result<bool, Errno> {
    let wait = if wait_for_exec { libc::CLONE_VFORK } else { 0 };
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | wait | libc::SIGCHLD;
    // SAFETY: no CLONE_VM, so both processes return on their own stacks; `pid` is a live, aligned 32-bit cell.
    let returned = check(unsafe {
        #[cfg(target_arch = "x86_64")]
        let r = libc::syscall(
            libc::SYS_clone,
            flags as libc::c_ulong,
            0usize,
            pid.as_ptr(),
            0usize,
            0usize,
        );
        // Elsewhere tls comes before the child's tid; both are unused.
        #[cfg(not(target_arch = "x86_64"))]
        let r = libc::syscall(
            libc::SYS_clone,
            flags as libc::c_ulong,
            0usize,
            pid.as_ptr(),
            0usize,
            0usize,
        );
        r
    })?;
    Ok(returned == 0)
}

/// unshare(2) with `NEW…` flags of this module.
pub fn unshare(namespaces: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved, and no descriptor table is unshared.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespaces) }).map(drop)
}

/// setns(2): `fd` is a namespace file or a pidfd; `kinds` are `NEW…` flags (0 with a namespace file: any).
pub fn setns(fd: BorrowedFd<'_>, kinds: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds as libc::c_int) }).map(drop)
}

/// Whether this process has one thread. Reads `/proc/self/task`; not for use between clone and exec.
pub fn single_threaded() -> Result<bool, Errno> {
    rustix::fs::stat(c"/proc/self/task").map(|stat| stat.st_nlink == 3)
}
