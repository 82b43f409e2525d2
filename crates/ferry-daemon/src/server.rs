//! Listeners and connections.
//!
//! HTTP/1 over unix sockets and TCP. A listener's connections live on their own; [`Server::stop`] ends the listeners, lets what is
//! being answered finish for a bounded time, and then closes what is left.

use crate::Release;
use crate::docker::App;
use crate::tls::{self, TlsError, TlsFiles};
use ferry_engine::Engine;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{Gid, Mode};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long answers may take to finish when the server stops. Streams never finish, so everybody may wait this long.
const GRACE: Duration = Duration::from_secs(1);
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket, mode 0660, in a directory that is made when missing.
    Unix {
        /// The socket.
        path: PathBuf,
        /// The group that may use it, by id.
        group: Option<u32>,
    },
    /// TCP, with TLS where it is given.
    Tcp {
        /// Address and port.
        address: SocketAddr,
        /// Its files.
        tls: Option<TlsFiles>,
    },
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

/// How to serve.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Where; at least one.
    pub hosts: Vec<Listen>,
    /// What `version` tells.
    pub release: Release,
}

/// Why it cannot be served.
#[derive(Debug)]
pub enum ServeError {
    /// The engine did not answer.
    Engine(ferry_engine::Error),
    /// A certificate or key.
    Tls(TlsError),
    /// A socket.
    Io {
        /// What was done.
        op: &'static str,
        /// With which listener.
        listener: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(e) => write!(f, "asking the engine: {e}"),
            Self::Tls(e) => e.fmt(f),
            Self::Io { op, listener, source } => write!(f, "{op} {listener}: {source}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(e) => Some(e),
            Self::Tls(e) => Some(e),
            Self::Io { source, .. } => Some(source),
        }
    }
}

/// A running front-end.
pub struct Server {
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    sockets: Vec<PathBuf>,
    bound: Vec<SocketAddr>,
}

impl Server {
    /// The addresses of the TCP listeners, in order, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// Ends it: no new connections, a few seconds for what is being answered, the unix sockets removed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for listener in self.listeners {
            if let Err(e) = listener.await {
                tracing::warn!(error = %e, "a listener failed");
            }
        }
        for path in self.sockets {
            if let Err(e) = std::fs::remove_file(&path)
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = %e, "could not remove the socket");
            }
        }
    }
}

enum Bound {
    Unix(UnixListener),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// Serves Docker's API in front of `engine`; every listener is bound when this returns.
///
/// # Errors
/// [`ServeError`]; nothing is left listening then.
pub async fn serve(engine: Engine, options: ServeOptions) -> Result<Server, ServeError> {
    let ServeOptions { hosts, release } = options;
    let app = App::new(engine, release).await.map_err(ServeError::Engine)?;
    let mut listeners = Vec::new();
    let (mut sockets, mut bound) = (Vec::new(), Vec::new());
    for host in hosts {
        let name = host.to_string();
        let listener = bind(&host)?;
        match (&host, &listener) {
            (Listen::Unix { path, .. }, _) => sockets.push(path.clone()),
            (Listen::Tcp { .. }, Bound::Tcp(tcp, _)) => {
                bound.push(tcp.local_addr().map_err(|source| ServeError::Io {
                    op: "asking the address of",
                    listener: name.clone(),
                    source,
                })?)
            }
            _ => {}
        }
        tracing::info!(listener = name, "API listens");
        listeners.push(listener);
    }
    let (stop, stopped) = watch::channel(false);
    let listeners = listeners
        .into_iter()
        .map(|l| tokio::spawn(accept(l, Arc::clone(&app), stopped.clone())))
        .collect();
    Ok(Server {
        stop,
        listeners,
        sockets,
        bound,
    })
}

fn bind(host: &Listen) -> Result<Bound, ServeError> {
    let failed = |op| {
        move |source| ServeError::Io {
            op,
            listener: host.to_string(),
            source,
        }
    };
    match host {
        Listen::Unix { path, group } => Ok(Bound::Unix(unix(path, *group).map_err(failed("listening on"))?)),
        Listen::Tcp { address, tls } => {
            let acceptor = match tls {
                Some(files) => Some(TlsAcceptor::from(tls::server(files).map_err(ServeError::Tls)?)),
                None => None,
            };
            let listener = std::net::TcpListener::bind(address).map_err(failed("listening on"))?;
            listener.set_nonblocking(true).map_err(failed("listening on"))?;
            Ok(Bound::Tcp(
                TcpListener::from_std(listener).map_err(failed("listening on"))?,
                acceptor,
            ))
        }
    }
}

/// Binds at a name beside and renames it into place, so that nobody connects before the mode and group are right, and a
/// socket that a killed engine left behind is replaced.
fn unix(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        make_directory(parent, group)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another engine answers there; stop it, or listen elsewhere with -H",
        ));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let placed = (|| {
        rustix::fs::chmod(&beside, Mode::from_raw_mode(0o660))?;
        if let Some(group) = group {
            rustix::fs::chown(&beside, None, Some(Gid::from_raw(group)))?;
        }
        std::fs::rename(&beside, path)
    })();
    if let Err(e) = placed {
        std::fs::remove_file(&beside)?;
        return Err(e);
    }
    Ok(listener)
}

/// 0700, or 0711 where a group has to pass.
fn make_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let mode = if group.is_some() { 0o711 } else { 0o700 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

async fn accept(listener: Bound, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            match &listener {
                Bound::Unix(l) => l.accept().await.map(|(s, _)| Incoming::Unix(s)),
                Bound::Tcp(l, tls) => l.accept().await.map(|(s, _)| Incoming::Tcp(s, tls.clone())),
            }
        };
        let incoming = tokio::select! {
            () = told(&mut stopped) => break,
            Some(ended) = connections.join_next() => {
                log_end(ended);
                continue;
            }
            incoming = next => incoming,
        };
        match incoming {
            Ok(incoming) => {
                connections.spawn(connection(incoming, Arc::clone(&app), stopped.clone()));
            }
            Err(e) => {
                tracing::warn!(error = %e, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            log_end(ended);
        }
    };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::debug!("connections were still open when the server stopped");
    }
}

fn log_end(ended: Result<(), JoinError>) {
    if let Err(e) = ended {
        tracing::error!(error = %e, "a connection's task failed");
    }
}

/// Until the server is to stop. The sender is gone only when the server is: that is the end, too.
async fn told(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the server was dropped without being stopped");
    }
}

enum Incoming {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream, Option<TlsAcceptor>),
}

async fn connection(incoming: Incoming, app: Arc<App>, stopped: watch::Receiver<bool>) {
    match incoming {
        Incoming::Unix(stream) => http(stream, app, stopped).await,
        Incoming::Tcp(stream, tls) => {
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!(error = %e, "a client's socket keeps Nagle's algorithm");
            }
            match tls {
                None => http(stream, app, stopped).await,
                Some(acceptor) => {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => http(stream, app, stopped).await,
                        Ok(Err(e)) => tracing::debug!(error = %e, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                }
            }
        }
    }
}

async fn http<S>(stream: S, app: Arc<App>, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| Arc::clone(&app).handle(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = told(&mut stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::trace!(error = %e, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/ferry.sock");
        let first = unix(&path, None).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o700));
        assert_eq!(unix(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let _second = unix(&path, None).unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
