//! The transports below HTTP, and what an upgraded connection is.

use super::tls::{self, TlsFiles};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A bidirectional byte stream that can say it will write no more.
pub trait Stream: Read + Write {
    /// Ends the writing half; the peer sees the end of its input. Reading goes on.
    fn close_write(&mut self) -> io::Result<()>;
    /// The descriptor to poll.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// Switches between blocking calls and `WouldBlock`.
    fn set_nonblocking(&self, on: bool) -> io::Result<()>;
    /// Whether bytes are already decrypted and wait inside, unseen by poll.
    fn has_buffered(&self) -> bool {
        false
    }
}

impl Stream for UnixStream {
    fn close_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        UnixStream::set_nonblocking(self, on)
    }
}

impl Stream for TcpStream {
    fn close_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        TcpStream::set_nonblocking(self, on)
    }
}

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TLS over TCP.
    Tls {
        /// Name or address; the certificate must be for it.
        host: String,
        /// Port.
        port: u16,
        /// Certificates and keys.
        files: TlsFiles,
    },
}

impl Endpoint {
    pub(super) fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path)?)),
            Endpoint::Tcp { host, port } => Ok(Box::new(tcp(host, *port)?)),
            Endpoint::Tls { host, port, files } => tls::connect(tcp(host, *port)?, host, files),
        }
    }

    /// The `Host` header: a unix socket has no name that would mean anything.
    pub(super) fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "api.moby.localhost".to_owned(),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => join(host, *port),
        }
    }
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                write!(f, "tcp://{}", join(host, *port))
            }
        }
    }
}

/// A connection that left HTTP: raw bytes in both directions.
pub struct Hijacked {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// What arrived together with the response's head.
    pub early: Vec<u8>,
    /// `application/vnd.docker.raw-stream` or `application/vnd.docker.multiplexed-stream`.
    pub media_type: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_users_write_them() {
        assert_eq!(
            Endpoint::Unix("/run/x.sock".into()).to_string(),
            "unix:///run/x.sock"
        );
        assert_eq!(
            Endpoint::Tcp {
                host: "::1".into(),
                port: 2375
            }
            .to_string(),
            "tcp://[::1]:2375"
        );
    }
}
