//! The launcher: one small single-threaded process between the engine and everything that outlives it.
//!
//! It forks, without exec, a shim a container, a monitor an exec, and netd; what it found out and compiled once they inherit
//! with the fork. It keeps no state: when the engine's end of the control socket closes it ends, and its children go on.

use crate::host::Host;
use crate::{heap, mounts, netd, process, shim};
use ferry_shim_proto::{FromLauncher, ToLauncher, VERSION, transport};
use ferry_sys::{clone, exec, fork};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Serves `control` until the engine hangs up; never returns. The process must be fresh from its exec, with one thread.
/// `exec_root` is where runtime directories will be.
pub fn main(control: OwnedFd, exec_root: &Path) -> ! {
    let status = match serve(&control, exec_root) {
        Ok(()) => 0,
        // The engine sees the hang-up and says what it means; there is nobody else to tell.
        Err(_) => 1,
    };
    exec::exit_now(status)
}

fn serve(control: &OwnedFd, exec_root: &Path) -> io::Result<()> {
    if !clone::single_threaded()? {
        return Err(io::Error::other("the launcher has more than one thread"));
    }
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    drop(null);
    // Fails for a leader of a process group, whose signals then reach it as they reach the engine.
    let _ = rustix::process::setsid();
    rustix::thread::set_name(c"ferry-launcher")?;
    // Children that end before the launcher leave nothing to wait for; each of them undoes this for itself.
    fork::ignore_signals(&[Signal::CHILD, Signal::PIPE]);
    let (host, warnings) = Host::probe()?;
    mounts::enter_own(exec_root)?;
    let pid = process::own_pid();
    transport::send_frame(
        control,
        &FromLauncher::Ready {
            version: VERSION,
            pid,
            warnings,
        },
        &[],
    )?;
    heap::fill_gaps();
    while let Some((frame, fds)) = transport::recv_frame::<ToLauncher>(control)? {
        let (token, forked) = obey(&host, frame, fds);
        let answer = match forked {
            Ok(pid) => FromLauncher::Forked { token, pid },
            Err(message) => FromLauncher::Failed { token, message },
        };
        transport::send_frame(control, &answer, &[])?;
    }
    Ok(())
}

fn obey(host: &Host, frame: ToLauncher, fds: Vec<OwnedFd>) -> (u64, Result<i32, String>) {
    match frame {
        ToLauncher::Launch { token, attached } => {
            let needed = 2 + usize::from(attached);
            (
                token,
                forked(host, fds, needed, |fds| shim::container(host, fds, attached)),
            )
        }
        ToLauncher::Exec { token, attached } => {
            let needed = 2 + usize::from(attached);
            (
                token,
                forked(host, fds, needed, |fds| shim::exec_monitor(host, fds, attached)),
            )
        }
        ToLauncher::Netd { token, socket } => (token, forked(host, fds, 1, |fds| serve_ports(fds, &socket))),
    }
}

/// netd: ends by itself when it holds nothing and nobody is connected.
fn serve_ports(fds: Vec<OwnedFd>, socket: &Path) -> i32 {
    // A name is for people; netd works without.
    let _ = rustix::thread::set_name(c"ferry-netd");
    match fds.into_iter().next().map(|control| netd::run(control, socket)) {
        Some(Ok(())) => 0,
        _ => 1,
    }
}

/// Forks a child that keeps `fds` and the host's alone; here they are closed.
fn forked(
    host: &Host,
    fds: Vec<OwnedFd>,
    needed: usize,
    child: impl FnOnce(Vec<OwnedFd>) -> i32,
) -> Result<i32, String> {
    if fds.len() < needed {
        return Err(format!(
            "the request came with {} descriptors and needs {needed}",
            fds.len()
        ));
    }
    let keep = host
        .fds()
        .map(|fd| fd.as_raw_fd())
        .chain(fds.iter().map(AsRawFd::as_raw_fd))
        .collect();
    fork::fork(keep, move || child(fds)).map_err(|errno| format!("fork: {errno}"))
}
