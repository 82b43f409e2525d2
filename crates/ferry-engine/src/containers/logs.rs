//! Reading logs back.

mod reader;

use self::reader::{Found, Reader};
use super::core::Core;
use super::options::{LogLine, LogOptions};
use super::table::Container;
use crate::{Error, Result, blocking};
use futures_util::Stream;
use rustix::fs::inotify;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Lines under way to a client.
const QUEUE: usize = 256;
/// How often a followed log is looked at where the kernel does not tell of changes.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked at anyway.
const SLOW_TICK: Duration = Duration::from_secs(5);
/// How long the last lines of a container that ended may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines of a log, as they come.
pub struct LogStream {
    /// Whether the container has a terminal: then everything is stream 1 and nothing is framed.
    pub tty: bool,
    pub(crate) lines: mpsc::Receiver<Result<LogLine>>,
}

impl Stream for LogStream {
    type Item = Result<LogLine>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_recv(cx)
    }
}

/// Reads a container's log, and follows it where that is asked for.
///
/// # Errors
/// [`crate::Kind::Unsupported`] when there is no log to be read. What fails later is in the stream.
pub(crate) async fn read(
    core: &Arc<Core>,
    container: &Arc<Container>,
    options: LogOptions,
) -> Result<LogStream> {
    let record = container.record();
    let asked = record.spec.log.driver.as_str();
    let driver = if asked.is_empty() {
        core.config.log_driver.as_str()
    } else {
        asked
    };
    if driver == "none" {
        return Err(Error::unsupported(
            "configured logging driver does not support reading",
        ));
    }
    let progress = container.watch();
    let follow = options.follow && progress.borrow().running();
    let path = core.log_path(&container.id);
    // Before the first look, so that nothing is missed.
    let bell = if follow {
        Some(Bell::new(path.parent().unwrap_or(&path)))
    } else {
        None
    };
    let until = options.until;
    let reader = blocking::run("open a log", move || Reader::open(path, options)).await?;
    let (send, lines) = mpsc::channel(QUEUE);
    let exits = progress.borrow().exits;
    let ends = bell.map(|bell| End {
        exits,
        progress,
        bell,
        until,
    });
    tokio::spawn(async move {
        if let Err(error) = carry(reader, ends, &send).await {
            // A client that is gone does not want to know.
            let _ = send.send(Err(error)).await;
        }
    });
    Ok(LogStream {
        tty: record.spec.process.tty,
        lines,
    })
}

/// What is known of a followed log's end.
struct End {
    exits: u64,
    progress: watch::Receiver<super::table::Progress>,
    bell: Bell,
    until: Option<SystemTime>,
}

impl End {
    fn over(&self) -> bool {
        let progress = self.progress.borrow();
        progress.exits != self.exits || !progress.running()
    }

    /// Waits until there may be something to read; true when it is the last of it.
    async fn wait(&mut self) -> bool {
        if !self.over() {
            let left = self
                .until
                .map(|at| at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
            tokio::select! {
                () = self.bell.rung() => {}
                () = tokio::time::sleep(left.unwrap_or(Duration::MAX)) => return true,
                // An error says that the container is gone.
                _ = self.progress.changed() => {}
            }
        }
        if !self.over() {
            return false;
        }
        let exits = self.exits + 1;
        let released = self
            .progress
            .wait_for(|p| !p.held || p.exits > exits || p.running());
        // Late or gone: what is there is read.
        let _ = tokio::time::timeout(LAST_LINES, released).await;
        true
    }
}

async fn carry(mut reader: Reader, mut end: Option<End>, send: &mpsc::Sender<Result<LogLine>>) -> Result<()> {
    let mut last = end.is_none();
    loop {
        let (back, found) = blocking::run("read a log", move || {
            let found = reader.next()?;
            Ok::<_, Error>((reader, found))
        })
        .await?;
        reader = back;
        match found {
            Found::Lines(lines) => {
                for line in lines {
                    if send.send(Ok(line)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Found::Over => return Ok(()),
            Found::Nothing if last => return Ok(()),
            Found::Nothing => {
                let Some(end) = end.as_mut() else { return Ok(()) };
                tokio::select! {
                    is_last = end.wait() => last = is_last,
                    () = send.closed() => return Ok(()),
                }
            }
        }
    }
}

/// Rings when something changes in a directory: inotify(7), or a clock where there is none to be had.
struct Bell {
    watch: Option<AsyncFd<OwnedFd>>,
}

impl Bell {
    fn new(directory: &Path) -> Self {
        let watch = watch_directory(directory);
        if let Err(error) = &watch {
            tracing::debug!(%error, directory = %directory.display(), "no inotify: a log is followed by the clock");
        }
        Self { watch: watch.ok() }
    }

    async fn rung(&mut self) {
        let Some(watch) = &self.watch else {
            return tokio::time::sleep(TICK).await;
        };
        let drained = watch.async_io(Interest::READABLE, drain);
        if let Ok(Err(error)) = tokio::time::timeout(SLOW_TICK, drained).await {
            tracing::warn!(%error, "inotify broke off: a log is followed by the clock");
            self.watch = None;
        }
    }
}

fn watch_directory(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, directory, events)?;
    // The successor is unsafe for the sake of types that are not their descriptor's owner; this one is.
    #[allow(deprecated)]
    AsyncFd::new(fd)
}

/// Takes events until there are none; which ones does not matter.
fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0u8; 4096];
    let mut any = false;
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(_) => any = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if any => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
