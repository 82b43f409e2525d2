//! `system stop`: ends the engine, not its containers.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output;
use crate::cli::session::Session;
use ferry_api::client::Endpoint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::unix::net::UnixStream;

/// `system stop`
pub(super) fn stop(session: &Session, m: &Matches) -> Outcome {
    let Endpoint::Unix(path) = session.endpoint()?.0 else {
        return Err(Failure::text(
            "only an engine on this machine can be stopped; log in where it runs",
        ));
    };
    let Ok(stream) = UnixStream::connect(&path) else {
        output::line("The engine is not running.");
        return Ok(());
    };
    // The process that listens at the socket, as the kernel knows it.
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(std::io::Error::from)?;
    drop(stream);
    let failed = |what: &str, e: rustix::io::Errno| {
        Failure::text(format!(
            "cannot stop the engine (process {}): {what}: {e}",
            peer.pid
        ))
    };
    let process = pidfd_open(peer.pid, PidfdFlags::empty()).map_err(|e| failed("pidfd_open", e))?;
    pidfd_send_signal(&process, Signal::TERM).map_err(|e| failed("kill", e))?;
    let timeout = Timespec {
        tv_sec: m.int("timeout").max(0),
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(Failure::text(format!(
            "the engine (process {}) has not ended after {} s",
            peer.pid,
            m.int("timeout")
        ))),
        Ok(_) => {
            output::line("Stopped the engine; containers keep running.");
            Ok(())
        }
        Err(e) => Err(failed("poll", e)),
    }
}
