//! Execs: further processes in running containers.

pub(crate) mod run;
mod table;

pub(crate) use self::table::{Exec, ExecTable, Stage};

use self::run::Streams;
use crate::containers::attach::{AttachStream, DetachKeys};
use crate::containers::core::Core;
use crate::containers::spec::ExecSpec;
use crate::containers::view::ExecView;
use crate::{Error, Kind, Result, blocking};
use ferry_shim_proto::ToShim;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long a new size waits for the exec to run.
const RESIZE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `inspect` waits for the exit code of a process that is over.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Execs {
    core: Arc<Core>,
}

/// How to start an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartExec {
    /// Nobody is attached.
    pub detach: bool,
    /// Whether the client expects a terminal; has to agree with the exec's own.
    pub tty: bool,
    /// Rows and columns; zeros mean the exec's own.
    pub console_size: [u16; 2],
}

impl Execs {
    /// On these containers.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Makes an exec in a running container and gives its id; [`Execs::start`] runs it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container, [`Kind::Conflict`] when it does not run or is paused, [`Kind::Invalid`] without a command.
    #[allow(clippy::unused_async)]
    pub async fn create(&self, container: &str, spec: ExecSpec) -> Result<String> {
        DetachKeys::parse(&spec.detach_keys)?;
        let container = self.core.table.find(container)?;
        Ok(run::create(&self.core, &container, spec)?.id.clone())
    }

    /// Runs an exec, and answers when its program runs: with its streams unless nobody attaches.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] when it was started before or its container does not run; else why the program could
    /// not be started, with the exit code that the exec is left with.
    pub async fn start(&self, id: &str, options: StartExec) -> Result<Option<AttachStream>> {
        let exec = self.find(id)?;
        let container = self.core.table.find(&exec.container_id)?;
        if !options.tty && options.console_size != [0, 0] {
            return Err(Error::invalid(
                "console size is only supported when TTY is enabled",
            ));
        }
        let detach = DetachKeys::parse(&exec.spec.detach_keys)?;
        run::present(&container)?;
        let (ours, streams) = if options.detach {
            (None, Streams::default())
        } else {
            let (ours, theirs) = pair()?;
            let spec = &exec.spec;
            let wanted = (spec.attach_stdin, spec.attach_stdout, spec.attach_stderr);
            (
                Some(ours),
                Streams {
                    stream: Some(theirs),
                    wanted,
                },
            )
        };
        exec.claim()?;
        let started = run::start(
            Arc::clone(&self.core),
            container,
            Arc::clone(&exec),
            (streams, options.console_size),
        );
        // A client that goes away does not leave an exec half started.
        blocking::owned(started).await?;
        Ok(ours.map(|socket| AttachStream {
            tty: exec.spec.tty,
            socket,
            replay: None,
            detach,
        }))
    }

    /// Gives the terminal a new size; waits for the exec to run.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] when it is over; [`Kind::Unavailable`] when it does not start in time.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.find(id)?;
        let mut stand = exec.watch();
        let ready = stand.wait_for(|s| matches!(s.stage, Stage::Running | Stage::Ended));
        if tokio::time::timeout(RESIZE_TIMEOUT, ready).await.is_err() {
            return Err(Error::new(
                Kind::Unavailable,
                format!("timeout waiting for exec session ready: {id}"),
            ));
        }
        let over = || Error::conflict(format!("exec {id} is not running"));
        let link = exec.link().ok_or_else(over)?;
        link.send(&ToShim::Resize { height, width }, &[])
            .await
            .map_err(|e| over().caused_by(e))
    }

    /// Tells of an exec. One whose process is over is told of with its exit code.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub async fn inspect(&self, id: &str) -> Result<ExecView> {
        let exec = self.find(id)?;
        if exec.process().is_some_and(|p| over(&p)) {
            let mut stand = exec.watch();
            let ended = stand.wait_for(|s| s.stage == Stage::Ended);
            if tokio::time::timeout(EXIT_TIMEOUT, ended).await.is_err() {
                tracing::warn!(
                    exec = exec.id,
                    "an exec's process is over, and its monitor does not tell"
                );
            }
        }
        Ok(exec.view())
    }

    /// An exec goes with its container.
    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let exec = self.core.execs.find(id)?;
        match self.core.table.get(&exec.container_id) {
            Some(_) => Ok(exec),
            None => Err(Error::not_found(format!("No such exec instance: {id}"))),
        }
    }
}

/// Whether a process has ended, reaped or not: its descriptor is readable then (pidfd_open(2)).
fn over(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}

/// The client's and the monitor's end of an exec's streams.
pub(crate) fn pair() -> Result<(UnixStream, OwnedFd)> {
    let failed = |e| Error::internal("making an exec's stream", e);
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    Ok((UnixStream::from_std(ours).map_err(failed)?, theirs.into()))
}
