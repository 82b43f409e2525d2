//! The foreground: signals go to the container, a terminal's bytes both ways, and the container's exit status is ours.

use super::Failure;
use ferry_sys::{Errno, process};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
/// Signals that say something about ourselves and are not passed on.
const OWN: [i32; 7] = [4, 5, 7, 8, 11, 13, SIGCHLD];

/// Blocks what will be passed on, from before the container exists, so that none is lost.
pub(super) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    pub fn hold() -> Result<Signals, Failure> {
        let mask = OWN
            .iter()
            .fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
        process::set_blocked(mask).map_err(|e| Failure::about("cannot block signals", io::Error::from(e)))?;
        let fd = process::signal_fd(mask)
            .map_err(|e| Failure::about("cannot wait for signals", io::Error::from(e)))?;
        Ok(Signals { fd })
    }

    /// The number of a pending signal (the first word of a signalfd_siginfo).
    fn next(&self) -> Option<i32> {
        let mut record = [0u8; 128];
        match rustix::io::read(&self.fd, &mut record) {
            Ok(128) => Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]])),
            _ => None,
        }
    }
}

/// The caller's terminal in raw mode, put back at the end.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter(stdin: BorrowedFd<'_>) -> Raw {
        let before = tcgetattr(stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            if tcsetattr(stdin, OptionalActions::Now, &raw).is_err() {
                return Raw { before: None };
            }
        }
        Raw { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Waits for the process and returns its exit status, 128 and the signal's number when one ended it.
pub(super) fn wait(
    pidfd: BorrowedFd<'_>,
    signals: &Signals,
    console: Option<OwnedFd>,
) -> Result<u8, Failure> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let raw = console.is_some().then(|| Raw::enter(stdin));
    let mut session = Session {
        pidfd,
        signals,
        console,
        reads: true,
    };
    if let Some(master) = &session.console {
        copy_size(stdin, master.as_fd());
    }
    while session.turn(stdin)? {}
    session.drain();
    drop(raw);
    reap(pidfd)
}

struct Session<'a> {
    pidfd: BorrowedFd<'a>,
    signals: &'a Signals,
    console: Option<OwnedFd>,
    /// Whether standard input is still open.
    reads: bool,
}

impl Session<'_> {
    /// One round of waiting; false once the process has ended.
    fn turn(&mut self, stdin: BorrowedFd<'_>) -> Result<bool, Failure> {
        let mut waits = vec![
            PollFd::new(&self.pidfd, PollFlags::IN),
            PollFd::new(&self.signals.fd, PollFlags::IN),
        ];
        if let Some(master) = &self.console {
            waits.push(PollFd::new(master, PollFlags::IN));
            if self.reads {
                waits.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut waits, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Failure::about(
                    "cannot wait for the container",
                    io::Error::from(errno),
                ));
            }
        }
        let ready: Vec<bool> = waits.iter().map(|w| !w.revents().is_empty()).collect();
        drop(waits);
        if ready[1] {
            self.pass_signals(stdin);
        }
        if ready.get(2) == Some(&true) && !self.output() {
            self.console = None;
        }
        if ready.get(3) == Some(&true) {
            self.input(stdin);
        }
        Ok(!ready[0])
    }

    fn pass_signals(&self, stdin: BorrowedFd<'_>) {
        while let Some(signal) = self.signals.next() {
            match (&self.console, signal) {
                (Some(master), SIGWINCH) => copy_size(stdin, master.as_fd()),
                // It may have ended already, which the next round sees.
                _ => drop(process::pidfd_signal(self.pidfd, signal)),
            }
        }
    }

    /// From the container; false at its end.
    fn output(&self) -> bool {
        let Some(master) = &self.console else { return false };
        let mut buffer = [0; 16384];
        match rustix::io::read(master, &mut buffer) {
            Ok(0) => false,
            Ok(read) => write_all(io::stdout().as_fd(), &buffer[..read]),
            Err(errno) => matches!(errno, Errno::INTR | Errno::AGAIN),
        }
    }

    fn input(&mut self, stdin: BorrowedFd<'_>) {
        let Some(master) = &self.console else { return };
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => {
                // End of input is a character on a terminal.
                write_all(master.as_fd(), &[4]);
                self.reads = false;
            }
            Ok(read) => drop(write_all(master.as_fd(), &buffer[..read])),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.reads = false,
        }
    }

    /// What the container wrote before its end.
    fn drain(&mut self) {
        loop {
            let Some(master) = &self.console else { return };
            let mut waits = [PollFd::new(master, PollFlags::IN)];
            let none = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let ready = poll(&mut waits, Some(&none)).is_ok_and(|n| n > 0);
            if !ready || !self.output() {
                return;
            }
        }
    }
}

fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if isatty(from)
        && let Ok(size) = tcgetwinsize(from)
    {
        // A size is a courtesy.
        let _ = tcsetwinsize(to, size);
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn reap(pidfd: BorrowedFd<'_>) -> Result<u8, Failure> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|s| 128 + s));
                return Ok(code.and_then(|c| u8::try_from(c & 0xff).ok()).unwrap_or(255));
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Failure::about(
                    "cannot wait for the container",
                    io::Error::from(errno),
                ));
            }
        }
    }
}
