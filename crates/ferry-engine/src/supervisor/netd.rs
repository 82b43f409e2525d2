//! netd: reserved ports and relays. It outlives the engine; a new engine connects to its socket and finds what it holds.

use super::Supervisor;
use super::link::Link;
use crate::{Error, Kind, Result};
use ferry_shim_proto::netd::{FromNetd, HostPort, NetdFailure, Proto, ToNetd};
use ferry_shim_proto::transport;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Asks netd; starts one when there is none. Cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Netd {
    shared: Arc<Shared>,
}

struct Shared {
    supervisor: Supervisor,
    socket: PathBuf,
    tokens: AtomicU64,
    connection: Mutex<Arc<OnceCell<Connection>>>,
}

#[derive(Clone)]
struct Connection {
    link: Link<ToNetd, FromNetd>,
    answers: Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<FromNetd>>>>,
}

/// A port that netd holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldPort {
    /// Which.
    pub port: HostPort,
    /// Where it is relayed to.
    pub target: Option<SocketAddr>,
}

impl Netd {
    /// Listening at `<exec_root>/netd.sock`; nothing is started yet.
    pub(crate) fn new(supervisor: Supervisor, exec_root: &Path) -> Self {
        let shared = Shared {
            supervisor,
            socket: exec_root.join("netd.sock"),
            tokens: AtomicU64::new(1),
            connection: Mutex::new(Arc::new(OnceCell::new())),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Binds a port on each address; gives the port chosen.
    ///
    /// # Errors
    /// [`Kind::Internal`] with Docker's words for ports that are taken.
    pub(crate) async fn reserve(&self, proto: Proto, ips: Vec<IpAddr>, first: u16, last: u16) -> Result<u16> {
        let token = self.token();
        let (answer, _) = self
            .ask(
                token,
                &ToNetd::Reserve {
                    token,
                    proto,
                    ips,
                    first,
                    last,
                },
            )
            .await?;
        match answer {
            FromNetd::Reserved { port, .. } => Ok(port),
            other => Err(unexpected(&other)),
        }
    }

    /// Relays a reserved port, or no longer.
    pub(crate) async fn relay(&self, port: HostPort, target: Option<SocketAddr>) -> Result<()> {
        let token = self.token();
        self.ask(token, &ToNetd::Relay { token, port, target })
            .await
            .map(drop)
    }

    /// Lets ports go. Where no netd runs there is nothing to let go.
    pub(crate) async fn release(&self, ports: Vec<HostPort>) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let token = self.token();
        self.ask(token, &ToNetd::Release { token, ports }).await.map(drop)
    }

    /// What a netd that already runs holds; nothing where none runs, and none is started.
    pub(crate) async fn held(&self) -> Result<Vec<HeldPort>> {
        match transport::connect(&self.shared.socket) {
            Ok(_) => {}
            Err(_) => return Ok(Vec::new()),
        }
        let token = self.token();
        let (_, held) = self.ask(token, &ToNetd::List { token }).await?;
        Ok(held)
    }

    fn token(&self) -> u64 {
        self.shared.tokens.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask(&self, token: u64, frame: &ToNetd) -> Result<(FromNetd, Vec<HeldPort>)> {
        for _ in 0..2 {
            let connection = self.connection().await?;
            let (tell, mut answers) = mpsc::unbounded_channel();
            connection
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(token, tell);
            if connection.link.send(frame, &[]).await.is_err() {
                self.forget();
                continue;
            }
            let mut held = Vec::new();
            loop {
                match tokio::time::timeout(TIMEOUT, answers.recv()).await {
                    Ok(Some(FromNetd::Held { port, target, .. })) => held.push(HeldPort { port, target }),
                    Ok(Some(FromNetd::Failed { kind, message, .. })) => return Err(failed(kind, message)),
                    Ok(Some(answer)) => return Ok((answer, held)),
                    Ok(None) => break,
                    Err(_) => {
                        return Err(Error::new(
                            Kind::Unavailable,
                            "netd did not answer in time: try again",
                        ));
                    }
                }
            }
            self.forget();
        }
        Err(Error::new(
            Kind::Unavailable,
            "netd ends as soon as it is asked: try again",
        ))
    }

    fn forget(&self) {
        *self
            .shared
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(OnceCell::new());
    }

    async fn connection(&self) -> Result<Connection> {
        let slot = Arc::clone(
            &self
                .shared
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        slot.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<Connection> {
        let socket = match transport::connect(&self.shared.socket) {
            Ok(socket) => socket,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                self.shared.supervisor.netd(self.shared.socket.clone()).await?
            }
            Err(e) => return Err(Error::internal("connecting to netd", e)),
        };
        let link = Link::new(socket).map_err(|e| Error::internal("watching netd's link", e))?;
        let connection = Connection {
            link,
            answers: Arc::default(),
        };
        tokio::spawn(connection.clone().listen());
        Ok(connection)
    }
}

impl Connection {
    async fn listen(self) {
        loop {
            match self.link.recv().await {
                Ok(Some((frame, _))) => self.dispatch(frame),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "netd's link is broken");
                    break;
                }
            }
        }
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn dispatch(&self, frame: FromNetd) {
        let (token, last) = match &frame {
            FromNetd::Hello { .. } => return,
            FromNetd::Held { token, .. } => (*token, false),
            FromNetd::Reserved { token, .. } | FromNetd::Done { token } | FromNetd::Failed { token, .. } => {
                (*token, true)
            }
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = if last {
            answers.remove(&token)
        } else {
            answers.get(&token).cloned()
        };
        if let Some(tell) = tell {
            // Fails when nobody waits any more.
            let _ = tell.send(frame);
        }
    }
}

fn failed(kind: NetdFailure, message: String) -> Error {
    let kind = match kind {
        NetdFailure::Invalid => Kind::Invalid,
        NetdFailure::Allocated
        | NetdFailure::InUse
        | NetdFailure::Exhausted
        | NetdFailure::NoSuchAddress
        | NetdFailure::Other => Kind::Internal,
    };
    Error::new(kind, message)
}

fn unexpected(frame: &FromNetd) -> Error {
    Error::new(Kind::Internal, format!("netd answered something else: {frame:?}"))
}
