//! fork(2) without exec: processes that go on in the same program, with few descriptors and clean signals.

use crate::{Errno, clone, exec, fd, process};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a child ends with whose code panicked.
pub const PANICKED: i32 = 134;

/// Forks a child that runs `child`, ends with the status it returns, and never comes back to the caller's code.
///
/// The child has the descriptors 0, 1 and 2 and those numbered in `keep`; all others are closed, so a descriptor that
/// `child` uses must be kept. Its signals are at their defaults and unblocked. What `child` owns is dropped here when the
/// fork is done: then the copy is the child's alone. Returns the child's pid.
///
/// # Errors
/// `EDEADLK` when the process has a second thread (whose locks the child would inherit, held for ever); what fork(2)
/// says otherwise.
pub fn fork(mut keep: Vec<RawFd>, child: impl FnOnce() -> i32) -> Result<i32, Errno> {
    if !clone::single_threaded()? {
        return Err(Errno::DEADLK);
    }
    let gaps = fd::gaps(3, &mut keep);
    // SAFETY: there is one thread, so the child's copy of every lock is free and all of std may be used in it.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN));
    }
    if pid > 0 {
        return Ok(pid);
    }
    // Nothing of the parent's frames is unwound or dropped: what they own belongs to the parent.
    let status = catch_unwind(AssertUnwindSafe(|| {
        for (first, last) in gaps {
            // Fails only where the system call is missing; then the child must not go on with what it should not hold.
            if fd::close_range(first, last).is_err() {
                return PANICKED;
            }
        }
        if process::reset_signals().is_err() {
            return PANICKED;
        }
        child()
    }));
    exec::exit_now(status.unwrap_or(PANICKED))
}

/// Ignores these signals from now on; children made afterwards, and what they execute, start with that.
pub fn ignore_signals(signals: &[rustix::process::Signal]) {
    for signal in signals {
        // SAFETY: SIG_IGN runs no code. It fails only for SIGKILL and SIGSTOP, which then stay as they are.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
    }
}

/// Gives free heap pages back to the kernel (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: touches only what the allocator knows to be free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test runner is such a process.
        assert_eq!(fork(Vec::new(), || 0), Err(Errno::DEADLK));
    }
}
