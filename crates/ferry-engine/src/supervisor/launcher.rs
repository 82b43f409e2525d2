//! The launcher: started when it is needed, asked to fork.

use super::ShimLink;
use super::link::Link;
use crate::{Error, Kernel, Kind, Result, blocking};
use ferry_net::EndpointPlan;
use ferry_shim_proto::{ExecRequest, FromLauncher, LaunchRequest, ToLauncher, VERSION, transport};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, oneshot};

/// How long a fork may take before the launcher counts as stuck.
const FORK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a new launcher may take to say that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

type Control = Link<ToLauncher, FromLauncher>;
type Answers = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<std::result::Result<i32, String>>>>>>;

/// Asks the launcher for processes; cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    kernel: Arc<dyn Kernel>,
    exec_root: PathBuf,
    tokens: std::sync::atomic::AtomicU64,
    /// The present launcher; replaced when it died.
    launcher: Mutex<Arc<OnceCell<Launcher>>>,
}

#[derive(Clone)]
struct Launcher {
    control: Control,
    /// Who waits for which token; `None` once the launcher is gone.
    answers: Answers,
    pid: i32,
}

/// What the launcher forked, before it is known that it did.
pub(crate) struct Forking {
    /// Its link.
    pub link: ShimLink,
    answer: oneshot::Receiver<std::result::Result<i32, String>>,
}

impl Forking {
    /// Whether it was forked.
    ///
    /// # Errors
    /// The launcher's sentence, or that it died.
    pub(crate) async fn forked(&mut self) -> Result<i32> {
        let answer = tokio::time::timeout(FORK_TIMEOUT, &mut self.answer).await;
        let answer = answer.map_err(|_| unavailable("the launcher did not answer in time"))?;
        match answer {
            Ok(Ok(pid)) => Ok(pid),
            Ok(Err(message)) => Err(Error::new(Kind::Internal, message)),
            Err(_) => Err(unavailable("the launcher ended before it answered")),
        }
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{message}: try again"))
}

impl Supervisor {
    /// For this runtime directory; starts nothing yet.
    pub(crate) fn new(kernel: Arc<dyn Kernel>, exec_root: &Path) -> Self {
        let shared = Shared {
            kernel,
            exec_root: exec_root.to_path_buf(),
            tokens: std::sync::atomic::AtomicU64::new(1),
            launcher: Mutex::new(Arc::new(OnceCell::new())),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Starts the launcher, so that the first container need not wait for it.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        self.launcher().await.map(drop)
    }

    /// Has a shim forked. What follows comes over its link.
    pub(crate) async fn launch(&self, request: OwnedFd, binds: &[OwnedFd]) -> Result<Forking> {
        let token = self.token();
        let frame = ToLauncher::Launch {
            token,
            attached: false,
        };
        let extra: Vec<BorrowedFd<'_>> = binds.iter().map(AsFd::as_fd).collect();
        self.fork(token, &frame, (&request, None), &extra).await
    }

    /// Has an exec monitor forked.
    pub(crate) async fn exec(&self, request: &ExecRequest, stream: Option<OwnedFd>) -> Result<Forking> {
        let token = self.token();
        let frame = ToLauncher::Exec {
            token,
            attached: stream.is_some(),
        };
        let request = memfd("exec", request)?;
        self.fork(token, &frame, (&request, stream.as_ref()), &[]).await
    }

    /// Has a netd forked; gives its control socket.
    pub(crate) async fn netd(&self, socket: PathBuf) -> Result<OwnedFd> {
        let token = self.token();
        let (ours, theirs) = transport::pair().map_err(|e| Error::internal("making netd's link", e))?;
        let launcher = self.launcher().await?;
        let answer = launcher.expect(token)?;
        let frame = ToLauncher::Netd { token, socket };
        launcher
            .control
            .send(&frame, &[theirs.as_fd()])
            .await
            .map_err(|e| self.lost(&e))?;
        match tokio::time::timeout(FORK_TIMEOUT, answer).await {
            Ok(Ok(Ok(_))) => Ok(ours),
            Ok(Ok(Err(message))) => Err(Error::new(Kind::Internal, message)),
            _ => Err(unavailable("the launcher did not start netd")),
        }
    }

    async fn fork(
        &self,
        token: u64,
        frame: &ToLauncher,
        (request, stream): (&OwnedFd, Option<&OwnedFd>),
        extra: &[BorrowedFd<'_>],
    ) -> Result<Forking> {
        let (ours, theirs) = transport::pair().map_err(|e| Error::internal("making a shim's link", e))?;
        let mut fds = vec![request.as_fd(), theirs.as_fd()];
        fds.extend(stream.map(AsFd::as_fd));
        fds.extend_from_slice(extra);
        for attempt in 0..2 {
            let launcher = self.launcher().await?;
            let answer = launcher.expect(token)?;
            match launcher.control.send(frame, &fds).await {
                Ok(()) => {
                    let link =
                        ShimLink::new(ours).map_err(|e| Error::internal("watching a shim's link", e))?;
                    return Ok(Forking { link, answer });
                }
                Err(error) if attempt == 0 && gone(&error) => {
                    self.forget(&launcher);
                }
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Err(unavailable("the launcher ends as soon as it is started"))
    }

    fn lost(&self, error: &io::Error) -> Error {
        if gone(error) {
            self.forget_any();
        }
        Error::new(
            Kind::Internal,
            format!("sending a request to the launcher: {error}"),
        )
    }

    fn token(&self) -> u64 {
        self.shared
            .tokens
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn slot(&self) -> Arc<OnceCell<Launcher>> {
        Arc::clone(
            &self
                .shared
                .launcher
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The next request starts a new one, if `dead` is still the present one.
    fn forget(&self, dead: &Launcher) {
        let mut slot = self
            .shared
            .launcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if slot.get().is_some_and(|present| present.pid == dead.pid) {
            *slot = Arc::new(OnceCell::new());
        }
    }

    fn forget_any(&self) {
        *self
            .shared
            .launcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(OnceCell::new());
    }

    async fn launcher(&self) -> Result<Launcher> {
        let slot = self.slot();
        slot.get_or_try_init(|| self.start()).await.cloned()
    }

    async fn start(&self) -> Result<Launcher> {
        let (ours, theirs) =
            transport::pair().map_err(|e| Error::internal("making the launcher's link", e))?;
        let (kernel, exec_root) = (Arc::clone(&self.shared.kernel), self.shared.exec_root.clone());
        let pid = blocking::run("start the launcher", move || {
            kernel
                .spawn_launcher(theirs, &exec_root)
                .map_err(|e| Error::internal("starting the launcher", e))
        })
        .await?;
        let control = Control::new(ours).map_err(|e| Error::internal("watching the launcher's link", e))?;
        let first = tokio::time::timeout(READY_TIMEOUT, control.recv()).await;
        match first {
            Ok(Ok(Some((
                FromLauncher::Ready {
                    version, warnings, ..
                },
                _,
            )))) => {
                if version != VERSION {
                    tracing::warn!(
                        version,
                        ours = VERSION,
                        "the launcher speaks another version of the protocol"
                    );
                }
                warnings.iter().for_each(|w| tracing::warn!("{w}"));
            }
            Ok(Ok(Some((FromLauncher::Failed { message, .. }, _)))) => {
                return Err(Error::new(Kind::Internal, message));
            }
            Ok(Err(error)) => return Err(Error::internal("starting the launcher", error)),
            _ => {
                return Err(Error::new(
                    Kind::Internal,
                    "starting the launcher: it ended or did not answer",
                ));
            }
        }
        let launcher = Launcher {
            control,
            answers: Arc::new(Mutex::new(Some(HashMap::new()))),
            pid,
        };
        tokio::spawn(launcher.clone().listen(self.clone()));
        Ok(launcher)
    }
}

impl Launcher {
    fn expect(&self, token: u64) -> Result<oneshot::Receiver<std::result::Result<i32, String>>> {
        let (tell, answer) = oneshot::channel();
        match self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            // When it is gone the channel is closed at once, and the sender of the request finds out.
            None => drop(tell),
            Some(waiting) => drop(waiting.insert(token, tell)),
        }
        Ok(answer)
    }

    async fn listen(self, supervisor: Supervisor) {
        loop {
            match self.control.recv().await {
                Ok(Some((FromLauncher::Forked { token, pid }, _))) => self.answer(token, Ok(pid)),
                Ok(Some((FromLauncher::Failed { token, message }, _))) => self.answer(token, Err(message)),
                Ok(Some((FromLauncher::Ready { .. }, _))) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the launcher's link is broken; a new one is started when needed");
                    break;
                }
            }
        }
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
        supervisor.forget(&self);
        tracing::warn!(
            pid = self.pid,
            "the launcher ended; containers go on, a new one is started when needed"
        );
        // Ours to reap where it is our child; elsewhere there is nothing to do.
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let reaped = blocking::run("reap the launcher", move || -> Result<()> {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                Ok(())
            });
            if let Err(error) = reaped.await {
                tracing::debug!(%error, "reaping the launcher");
            }
        }
    }

    fn answer(&self, token: u64, answer: std::result::Result<i32, String>) {
        let waiting = self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .and_then(|w| w.remove(&token));
        if let Some(tell) = waiting {
            // Fails when nobody waits any more, which is their choice.
            let _ = tell.send(answer);
        }
    }
}

/// A launch request in a sealed memfd.
pub(crate) fn launch_memfd(request: &LaunchRequest<EndpointPlan>) -> Result<OwnedFd> {
    memfd("launch", request)
}

fn memfd<T: serde::Serialize>(name: &str, value: &T) -> Result<OwnedFd> {
    transport::memfd(name, value).map_err(|e| Error::internal(format!("writing the {name} request"), e))
}

fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}
