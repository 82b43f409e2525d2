//! Process 1 of a container that asked for an init: it runs the program as its child, passes signals on and reaps.
//!
//! It is the own binary executed afresh from its sealed place (`/sbin/docker-init -- program arguments…`, as Docker names it), by descriptor, so that no file
//! is needed in the image. A mere fork would be cheaper by a millisecond, but it would keep the launcher's memory inside the
//! container, where a process with CAP_SYS_PTRACE can read it; an exec leaves nothing of it.

use ferry_sys::{Errno, process};
use rustix::process::{Pid, WaitOptions, wait};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode};

const SIGCHLD: i32 = 17;
/// Signals that say something about ourselves: faults, and abort.
const OWN: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Runs `program arguments…` (a leading `--` is skipped) and returns its exit status, 128 and the signal's number when a
/// signal ended it.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter().skip_while(|arg| arg == "--");
    let Some(program) = args.next() else {
        return complain("no program was given", 1);
    };
    let mask = OWN
        .iter()
        .fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
    let held = process::set_blocked(mask).and_then(|before| Ok((before, process::signal_fd(mask)?)));
    let (before, signals) = match held {
        Ok(held) => held,
        Err(errno) => return complain(&format!("cannot wait for signals: {}", io::Error::from(errno)), 1),
    };
    let mut command = Command::new(&program);
    command.args(args);
    // The program leads a group of its own in the foreground, so that the terminal's signals reach it once.
    match process::spawn_foreground(&mut command, before) {
        Ok(child) => reap(child.id(), &signals),
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            let name = program.to_string_lossy().into_owned();
            complain(&format!("exec {name} failed: {error}"), code)
        }
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    use io::Write;
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr(), "[FATAL docker-init] {message}");
    ExitCode::from(code)
}

/// Passes signals on until the program has ended; reaps whatever else ends meanwhile.
fn reap(program: u32, signals: &OwnedFd) -> ExitCode {
    let program = program.cast_signed();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == program => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|s| 128 + s));
                return ExitCode::from(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(255));
            }
            Ok(Some(_)) => continue,
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return ExitCode::from(255),
        }
        pass(program, signals);
    }
}

/// Waits for one signal, and passes it on when it is not about a child's end.
fn pass(program: i32, signals: &OwnedFd) {
    let mut ready = [rustix::event::PollFd::new(signals, rustix::event::PollFlags::IN)];
    if rustix::event::poll(&mut ready, None).is_err() {
        return;
    }
    let mut record = [0u8; 128];
    let Ok(128) = rustix::io::read(signals, &mut record) else {
        return;
    };
    let signal = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
    if signal == SIGCHLD {
        return;
    }
    let target = Pid::from_raw(program)
        .map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    if let Some(Ok(pidfd)) = target {
        // It may have ended; the next round reaps it.
        let _ = process::pidfd_signal(pidfd.as_fd(), signal);
    }
}
