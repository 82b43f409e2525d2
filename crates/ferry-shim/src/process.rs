//! What every forked process does to itself first, and small acts on processes.

use ferry_sys::fork;
use rustix::process::{Pid, Signal};
use std::ffi::CStr;
use std::io;

/// A process of its own: a session, a name, and nothing at the three standard descriptors.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn detach(name: &CStr) -> io::Result<()> {
    // Fails only for a session's leader, which a fork is not.
    let _ = rustix::process::setsid();
    rustix::thread::set_name(name)?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Signals that end a program by habit do not end a monitor: a container would be lost with it.
pub fn ignore_signals() {
    fork::ignore_signals(&[
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::PIPE,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
    ]);
}

/// Orphans among the descendants become children of this process.
///
/// # Errors
/// Never on a kernel since 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(ferry_sys::process::become_subreaper()?)
}

/// No further orphans: those of a container that shares the host's pid namespace are the host's.
pub fn stop_adopting() {
    // Fails on no kernel that knew the opposite.
    let _ = rustix::process::set_child_subreaper(None);
}

/// SIGKILL for a child that is not reaped yet.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// This process.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
