//! The two one-way ways between a container's process and its maker: reports out, single bytes in.

use crate::apply::report::Report;
use ferry_sys::Errno;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Reports out and the gate in.
///
/// Private pipes when one process creates and starts; named FIFOs in the state's directory when `create` and `start` are
/// two processes. FIFOs are opened for both directions, so that neither end waits for the other to open.
#[derive(Debug)]
pub struct Channel {
    reports: OwnedFd,
    gate: OwnedFd,
    /// The process's ends; the same descriptors as ours with FIFOs.
    far: Option<(OwnedFd, OwnedFd)>,
}

const GATE: &str = "gate";
const REPORTS: &str = "reports";

impl Channel {
    /// Pipes that only this process and its child have.
    pub fn private() -> io::Result<Channel> {
        let (reports, far_reports) = pipe_with(PipeFlags::CLOEXEC)?;
        let (far_gate, gate) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Channel {
            reports,
            gate,
            far: Some((far_reports, far_gate)),
        })
    }

    /// Makes FIFOs in `directory`, for another process to open with [`Channel::open_in`].
    pub fn named(directory: &Path) -> io::Result<Channel> {
        for name in [GATE, REPORTS] {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                directory.join(name),
                rustix::fs::FileType::Fifo,
                mode,
                0,
            )?;
        }
        Channel::open_in(directory)
    }

    /// The FIFOs that [`Channel::named`] has made.
    pub fn open_in(directory: &Path) -> io::Result<Channel> {
        let open = |name: &str| {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::open(directory.join(name), flags, Mode::empty())
        };
        Ok(Channel {
            reports: open(REPORTS)?,
            gate: open(GATE)?,
            far: None,
        })
    }

    /// The read end of an existing channel's reports alone, so that their end is seen when the process execs.
    pub(crate) fn reports_of(directory: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::open(directory.join(REPORTS), flags, Mode::empty())?)
    }

    /// Writes one byte to the gate in `directory`. ENXIO: nobody stands there.
    pub(crate) fn open_gate_of(directory: &Path) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let gate = rustix::fs::open(directory.join(GATE), flags, Mode::empty())?;
        rustix::io::write(&gate, b"1")?;
        Ok(())
    }

    /// The process's own ends: where it writes reports, where it waits.
    pub(crate) fn far(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        match &self.far {
            Some((reports, gate)) => (reports.as_fd(), gate.as_fd()),
            None => (self.reports.as_fd(), self.gate.as_fd()),
        }
    }

    /// Moves the process's ends out of the way of low numbers that it will need.
    pub(crate) fn above(&mut self, lowest: i32) -> io::Result<()> {
        if let Some((reports, gate)) = &mut self.far {
            raise(reports, lowest)?;
            raise(gate, lowest)?;
        } else {
            raise(&mut self.reports, lowest)?;
            raise(&mut self.gate, lowest)?;
        }
        Ok(())
    }

    /// After the clone: the process's ends are its alone.
    pub(crate) fn close_far(&mut self) {
        self.far = None;
    }

    pub(crate) fn reports(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }

    /// The next report; None at the end.
    pub(crate) fn read(&self) -> Result<Option<Report>, Errno> {
        read_report(self.reports.as_fd())
    }

    /// One byte to whoever waits at the gate.
    pub(crate) fn open(&self) -> Result<(), Errno> {
        match rustix::io::write(&self.gate, b"1") {
            // It has ended; what it said, or its end, is read next.
            Ok(_) | Err(Errno::PIPE) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Reports are shorter than a pipe's atomic unit, so that one is read whole or not at all.
pub(crate) fn read_report(reports: BorrowedFd<'_>) -> Result<Option<Report>, Errno> {
    let mut bytes = [0; Report::SIZE];
    loop {
        match rustix::io::read(reports, &mut bytes) {
            Ok(0) => return Ok(None),
            Ok(read) if read == bytes.len() => {
                return Report::from_bytes(&bytes).map(Some).ok_or(Errno::PROTO);
            }
            Ok(_) => return Err(Errno::PROTO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn raise(fd: &mut OwnedFd, lowest: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() < lowest {
        *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, lowest)?;
    }
    Ok(())
}
