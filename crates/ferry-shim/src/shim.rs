//! Shims and exec monitors: what a fork of the launcher does with its request.

use crate::clients::Wants;
use crate::host::Host;
use crate::monitor::{Monitor, Role, Setup};
use crate::{exec, process, setup};
use ferry_shim_proto::{Failure, FromShim, transport};
use ferry_sys::fork;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A container's shim. Descriptors as [`ferry_shim_proto::ToLauncher::Launch`] says. Returns the process's exit status.
pub(crate) fn container(host: &Host, fds: Vec<OwnedFd>, attached: bool) -> i32 {
    start(host, c"ferry-shim", fds, attached, Role::Container)
}

/// An exec's monitor. Descriptors as [`ferry_shim_proto::ToLauncher::Exec`] says. Returns the process's exit status.
pub(crate) fn exec_monitor(host: &Host, fds: Vec<OwnedFd>, attached: bool) -> i32 {
    start(host, c"ferry-exec", fds, attached, Role::Exec)
}

fn start(host: &Host, name: &CStr, fds: Vec<OwnedFd>, attached: bool, role: Role) -> i32 {
    let mut fds = fds.into_iter();
    let (Some(request), Some(link)) = (fds.next(), fds.next()) else {
        return 1;
    };
    let stream = if attached { fds.next() } else { None };
    let prepared = process::detach(name)
        .and_then(|()| process::adopt_orphans())
        .and_then(|()| set_up(host, role, request, fds.collect(), attached));
    let setup = match prepared {
        Ok(setup) => setup,
        Err(error) => {
            let message = format!("prepare a monitor: {error}");
            // An engine that is gone needs no answer.
            let _ = transport::send_frame(&link, &FromShim::Failed(Failure { code: 125, message }), &[]);
            return 1;
        }
    };
    process::ignore_signals();
    let mut monitor = Monitor::new(host, role, link, setup);
    if let Some(stream) = stream {
        monitor.attach(
            stream,
            Wants {
                stdin: true,
                stdout: true,
                stderr: true,
            },
        );
    }
    match catch_unwind(AssertUnwindSafe(|| monitor.run())) {
        Ok(status) => status,
        Err(_) => {
            monitor.kill();
            fork::PANICKED
        }
    }
}

fn set_up(
    host: &Host,
    role: Role,
    request: OwnedFd,
    binds: Vec<OwnedFd>,
    attached: bool,
) -> io::Result<Setup> {
    let (ours, theirs) = transport::pair()?;
    let all = [&request, &theirs].into_iter().chain(&binds);
    let keep = host
        .fds()
        .map(|fd| fd.as_raw_fd())
        .chain(all.map(AsRawFd::as_raw_fd))
        .collect();
    let pid = fork::fork(keep, move || match role {
        Role::Container => setup::container(host, request, binds, &theirs),
        Role::Exec => exec::set_up(host, request, attached, &theirs),
    })?;
    Ok(Setup { pid, socket: ours })
}
