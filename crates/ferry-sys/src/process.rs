//! What a process can say about itself: signals, scheduling, memory policy, resource limits.

use crate::{Errno, check};

/// Sets every signal to its default action and unblocks all. Ignored signals survive exec, handlers would not.
pub fn reset_signals() -> Result<(), Errno> {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // The kernel's struct sigaction is four words on all of our architectures; all-zero is SIG_DFL.
        let action = [0u64; 4];
        // SAFETY: `action` outlives the call and has at least the kernel's size; 8 is the size of its signal set.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<u64>(),
                8usize,
            )
        })?;
    }
    set_blocked(0).map(drop)
}

/// Replaces the mask of blocked signals (bit n-1 is signal n); returns the old one.
pub fn set_blocked(mask: u64) -> Result<u64, Errno> {
    let mut old = 0u64;
    // SAFETY: both words outlive the call; 8 is their size.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut old,
            8usize,
        )
    })?;
    Ok(old)
}

/// `struct sched_attr` of linux/sched/types.h, as of 5.3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// The size of this struct; filled in by [`sched_setattr`].
    pub size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
    /// Utilization clamp.
    pub util_min: u32,
    /// Utilization clamp.
    pub util_max: u32,
}

/// sched_setattr(2) for the calling thread.
pub fn sched_setattr(attributes: &SchedAttr) -> Result<(), Errno> {
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..*attributes
    };
    // SAFETY: the struct has the kernel's layout and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// ioprio_set(2) for the calling thread: class 1 to 3, level 0 to 7.
pub fn ioprio_set(class: u32, level: u32) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) }).map(drop)
}

/// set_mempolicy(2): `mode` with its flags, `nodes` as a bit mask.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let bits = nodes.len() * 64 + usize::from(!nodes.is_empty());
    let mask = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    // SAFETY: the kernel reads `bits - 1` bits of the mask, which is that long.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// personality(2).
pub fn personality(domain: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// A resource limit by number: soft and hard.
pub type Limit = [u64; 2];

/// prlimit(2) on the calling process: sets when `new` is given, and returns the old one.
pub fn rlimit(resource: u32, new: Option<Limit>) -> Result<Limit, Errno> {
    let mut old: Limit = [0; 2];
    let set = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: rlimit64 is two 64-bit words; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, set, &raw mut old) })?;
    Ok(old)
}

fn prctl(option: libc::c_int, first: u64, second: u64) -> Result<libc::c_long, Errno> {
    // SAFETY: private; the callers below use options whose arguments are numbers.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, first, second, 0u64, 0u64) })
}

/// Drops a capability from the bounding set.
pub fn drop_bounding(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// Whether the bounding set has a capability; EINVAL for one that the kernel does not know.
pub fn has_bounding(capability: u32) -> Result<bool, Errno> {
    prctl(libc::PR_CAPBSET_READ, capability.into(), 0).map(|has| has == 1)
}

/// Raises a capability in the ambient set; it must be permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        capability.into(),
    )
    .map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Whether permitted capabilities survive a change away from user 0.
pub fn keep_capabilities(keep: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// From here on exec raises no privileges; cannot be taken back.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Orphaned descendants become this process's children.
pub fn become_subreaper() -> Result<(), Errno> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// The signal that this process gets when the thread that made it ends; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// capset(2) on the calling thread, as 64-bit sets.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    // SAFETY: header and data have the kernel's layout for version 3 (two words, two times three words).
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// capget(2) of the calling thread: effective, permitted, inheritable.
pub fn capget() -> Result<[u64; 3], Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: as for `capset`; the kernel writes six words.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let set = |i: usize| u64::from(data[i]) | u64::from(data[i + 3]) << 32;
    Ok([set(0), set(1), set(2)])
}

/// Raw setgroups(2), for one thread. Does not allocate.
pub fn setgroups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the slice outlives the call and has the length given.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Raw setresgid(2) then setresuid(2), for one thread.
pub fn become_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// getcwd(2) into `buffer`, without the terminator; starts with `(unreachable)` for a directory outside the root.
pub fn getcwd(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most `len` bytes to the buffer.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    let length = usize::try_from(length).unwrap_or(0).saturating_sub(1);
    Ok(&buffer[..length.min(buffer.len())])
}

/// Spawns `command` in the namespaces (`NEW…` flags) of the process that `pidfd` is. Its program is looked up there.
pub fn spawn_inside(
    command: &mut std::process::Command,
    pidfd: std::os::fd::BorrowedFd<'_>,
    kinds: u64,
) -> std::io::Result<std::process::Child> {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let number = pidfd.as_raw_fd();
    // SAFETY: the closure makes one system call and allocates nothing; the descriptor outlives the spawn, which has
    // happened or failed when this returns, and `Command` is not used again by us.
    unsafe {
        command.pre_exec(move || {
            crate::clone::setns(crate::fd::borrow(number), kinds)?;
            Ok(())
        });
    }
    command.spawn()
}

/// pidfd_send_signal(2) with any signal number, real-time ones included.
pub fn pidfd_signal(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: no memory is involved: the info pointer is null.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<u8>(),
            0,
        )
    })
    .map(drop)
}

/// signalfd4(2), close-on-exec and non-blocking: the signals of `mask` (bit n-1 is signal n), which must be blocked.
pub fn signal_fd(mask: u64) -> Result<std::os::fd::OwnedFd, Errno> {
    use std::os::fd::FromRawFd;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask outlives the call; 8 is its size.
    let number = check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number as i32) })
}

/// Spawns `command` with `blocked` as its mask of blocked signals, in a process group of its own that is the
/// foreground group of the terminal on standard input, if there is one.
pub fn spawn_foreground(
    command: &mut std::process::Command,
    blocked: u64,
) -> std::io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setpgid(None, None)?;
            // tcsetpgrp from a background group raises SIGTTOU, which is blocked still.
            match rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid()) {
                Ok(()) | Err(Errno::NOTTY | Errno::NXIO | Errno::BADF | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
            set_blocked(blocked)?;
            Ok(())
        });
    }
    command.spawn()
}
