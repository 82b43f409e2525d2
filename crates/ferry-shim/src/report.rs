//! What the set-up process tells its monitor.
//!
//! Everything that allocates much or may fail happens in a process of its own, the monitor's child: it reads the request,
//! makes the plan, the cgroup and the container, waits at the gate, opens it and ends. The kernel then gives the container
//! to the monitor, its subreaper. So the monitor's memory stays as small as the launcher's fork made it, and nothing of
//! the request lies in a process that lives as long as the container.

use crate::stdio::{Ends, Policy};
use ferry_shim_proto::{Failure, LogTarget};
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Set-up process → monitor, over a SEQPACKET pair.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The request is understood. Descriptors: the listening socket when `listens`, the log's file when there is a `log`.
    Accepted(Accepted),
    /// The process waits at the gate, or (an exec) runs. Descriptors: as [`Made`] counts them.
    Created(Made),
    /// The program runs since then, in nanoseconds since the epoch. Descriptors: namespaces to hold until the exit is told.
    Started(u128),
    /// It could not be; what was made is undone.
    Failed(Failure),
    /// Worth a line in the engine's log.
    Warning(String),
}

/// What a monitor has to know of a request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// Where the exit is written; a shim's own record lies beside it as `shim.json`.
    pub exit_record: PathBuf,
    /// Whether a listening socket comes with it.
    pub listens: bool,
    /// The log.
    pub log: Option<LogTarget>,
    /// How input behaves.
    pub policy: Policy,
    /// The cgroup that is removed afterwards; empty for an exec.
    pub cgroup: String,
    /// Whether the container has no pid namespace of its own, so that its first process does not take the others along.
    pub shares_pids: bool,
}

/// A process that was made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Made {
    /// As the host sees it.
    pub pid: i32,
    /// Field 22 of its stat.
    pub start_time: u64,
    /// Whether our end of standard input comes along; a terminal's master is all three.
    pub stdin: bool,
    /// Whether our end of standard output does.
    pub stdout: bool,
    /// Whether our end of standard error does.
    pub stderr: bool,
    /// Whether a watch for out-of-memory kills does.
    pub oom: bool,
}

/// The descriptors of [`Report::Created`].
#[derive(Debug)]
pub struct Handles {
    /// The process.
    pub pidfd: OwnedFd,
    /// Our ends of its streams.
    pub ends: Ends,
    /// Readable when the kernel has killed for memory.
    pub oom: Option<OwnedFd>,
}

impl Handles {
    /// In the order of the packet.
    pub fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        let ends = [&self.ends.stdin, &self.ends.stdout, &self.ends.stderr, &self.oom];
        let mut all = vec![self.pidfd.as_fd()];
        all.extend(ends.into_iter().flatten().map(AsFd::as_fd));
        all
    }

    /// From the packet; `None` when descriptors are missing.
    pub fn receive(made: &Made, fds: Vec<OwnedFd>) -> Option<Handles> {
        let mut fds = fds.into_iter();
        let pidfd = fds.next()?;
        let mut next = |there: bool| if there { fds.next().map(Some) } else { Some(None) };
        let ends = Ends {
            stdin: next(made.stdin)?,
            stdout: next(made.stdout)?,
            stderr: next(made.stderr)?,
        };
        let oom = next(made.oom)?;
        Some(Handles { pidfd, ends, oom })
    }
}

/// Monitor → set-up process: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open the gate.
    Start = b'S' as isize,
    /// Undo.
    Abort = b'A' as isize,
}

impl Order {
    /// As it is sent.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

/// A terminal's size.
pub fn window(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
