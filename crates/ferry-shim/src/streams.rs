//! The two sides of a process's standard streams.

use crate::stdio::Ends;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Which streams the process shares with the monitor; the others are `/dev/null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The process's ends (0, 1, 2) and ours.
pub(crate) fn pipes(shared: Shared) -> io::Result<([OwnedFd; 3], Ends)> {
    let (stdin, our_stdin) =
        end(shared.stdin)?.map_or((null()?, None), |(reader, writer)| (reader, Some(writer)));
    let (stdout, our_stdout) =
        end(shared.stdout)?.map_or((null()?, None), |(reader, writer)| (writer, Some(reader)));
    let (stderr, our_stderr) =
        end(shared.stderr)?.map_or((null()?, None), |(reader, writer)| (writer, Some(reader)));
    for ours in [&our_stdin, &our_stdout, &our_stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    Ok((
        [stdin, stdout, stderr],
        Ends {
            stdin: our_stdin,
            stdout: our_stdout,
            stderr: our_stderr,
        },
    ))
}

/// Our ends of a terminal: the master, read and written.
pub(crate) fn terminal(master: OwnedFd) -> io::Result<Ends> {
    rustix::io::ioctl_fionbio(&master, true)?;
    let stdin = master.as_fd().try_clone_to_owned()?;
    Ok(Ends {
        stdin: Some(stdin),
        stdout: Some(master),
        stderr: None,
    })
}

fn end(shared: bool) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if !shared {
        return Ok(None);
    }
    Ok(Some(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?))
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into())
}
