//! Relayed TCP connections: bytes both ways, each way ended on its own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_shim_proto::netd::HostPort;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::Source;
use super::poll::{Poll, READ, WRITE};

/// So many bytes are carried at a time; what the other side does not take at once is kept, and nothing more read meanwhile.
const CHUNK: usize = 64 << 10;
/// So many connections are accepted at a time, so that the others get their turn.
const ACCEPT_BATCH: usize = 32;

/// All connections.
pub struct TcpRelays {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    chunk: Vec<u8>,
    /// Given up to accept and close one connection when descriptors are out: else it would be ready for ever.
    spare: Option<OwnedFd>,
}

struct Connection {
    port: HostPort,
    client: Side,
    endpoint: Side,
    /// The endpoint has not answered yet.
    connecting: bool,
}

struct Side {
    stream: TcpStream,
    key: u64,
    interest: EventFlags,
    /// Bytes on their way out by this side.
    pending: Vec<u8>,
    /// The other side has no more for this one.
    ended: bool,
    /// … and this one was told so.
    shut: bool,
}

impl TcpRelays {
    /// Without connections.
    pub fn new() -> io::Result<Self> {
        Ok(TcpRelays {
            connections: BTreeMap::new(),
            next: 1,
            chunk: vec![0; CHUNK],
            spare: Some(spare()?),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes waiting clients of a port, and connects each with the target.
    pub fn accept(
        &mut self,
        poll: &mut Poll,
        (port, target): (HostPort, SocketAddr),
        listener: BorrowedFd<'_>,
    ) {
        for _ in 0..ACCEPT_BATCH {
            let client = match accept_one(listener) {
                Ok(client) => client,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.refuse_one(listener);
                    return;
                }
                Err(_) => return,
            };
            // A target that cannot be reached looks to the client like one that hangs up.
            if let Ok(endpoint) = connect(target) {
                self.add(poll, port, (client, endpoint));
            }
        }
    }

    fn refuse_one(&mut self, listener: BorrowedFd<'_>) {
        self.spare = None;
        drop(accept_one(listener));
        self.spare = spare().ok();
    }

    fn add(&mut self, poll: &mut Poll, port: HostPort, (client, endpoint): (OwnedFd, OwnedFd)) {
        let number = self.next;
        self.next += 1;
        let Ok(client_key) = poll.add(client.as_fd(), Source::Tcp(number), EventFlags::empty()) else {
            return;
        };
        let Ok(endpoint_key) = poll.add(endpoint.as_fd(), Source::Tcp(number), WRITE) else {
            poll.remove(client.as_fd(), client_key);
            return;
        };
        let connection = Connection {
            port,
            client: Side::new(client, client_key, EventFlags::empty()),
            endpoint: Side::new(endpoint, endpoint_key, WRITE),
            connecting: true,
        };
        self.connections.insert(number, connection);
    }

    /// Carries what is ready of one connection.
    pub fn step(&mut self, poll: &mut Poll, number: u64) {
        let Some(mut connection) = self.connections.remove(&number) else {
            return;
        };
        match connection.step(&mut self.chunk).and_then(|over| {
            if over {
                Ok(true)
            } else {
                connection.watch(poll).map(|()| false)
            }
        }) {
            Ok(false) => {
                self.connections.insert(number, connection);
            }
            // Over, or broken on one side: both are closed, as a reset would.
            Ok(true) | Err(_) => connection.close(poll),
        }
    }

    /// Ends the connections of a port.
    pub fn end(&mut self, poll: &mut Poll, port: &HostPort) {
        for (_, connection) in self
            .connections
            .extract_if(.., |_, connection| connection.port == *port)
        {
            connection.close(poll);
        }
    }

    /// Ends all connections.
    pub fn clear(&mut self, poll: &mut Poll) {
        for (_, connection) in std::mem::take(&mut self.connections) {
            connection.close(poll);
        }
    }
}

impl Connection {
    /// True when both ways are over.
    fn step(&mut self, chunk: &mut [u8]) -> io::Result<bool> {
        if self.connecting {
            if let Err(error) = sockopt::socket_error(&self.endpoint.stream)? {
                return Err(error.into());
            }
            if let Err(error) = self.endpoint.stream.peer_addr() {
                return if error.kind() == io::ErrorKind::NotConnected {
                    Ok(false)
                } else {
                    Err(error)
                };
            }
            self.connecting = false;
        }
        carry(&mut self.client, &mut self.endpoint, chunk)?;
        carry(&mut self.endpoint, &mut self.client, chunk)?;
        Ok(self.client.shut && self.endpoint.shut)
    }

    /// Asks for the events that can bring each side further.
    fn watch(&mut self, poll: &Poll) -> io::Result<()> {
        if self.connecting {
            return Ok(());
        }
        let (client, endpoint) = (
            interest(&self.client, &self.endpoint),
            interest(&self.endpoint, &self.client),
        );
        self.client.watch(poll, client)?;
        self.endpoint.watch(poll, endpoint)
    }

    fn close(self, poll: &mut Poll) {
        for side in [self.client, self.endpoint] {
            poll.remove(side.stream.as_fd(), side.key);
        }
    }
}

fn interest(side: &Side, other: &Side) -> EventFlags {
    let mut interest = EventFlags::empty();
    if !side.pending.is_empty() {
        interest |= WRITE;
    }
    if other.pending.is_empty() && !other.ended {
        interest |= READ;
    }
    interest
}

/// Moves what is there from one side to the other.
fn carry(from: &mut Side, to: &mut Side, chunk: &mut [u8]) -> io::Result<()> {
    to.flush()?;
    if to.pending.is_empty() && !to.ended {
        match from.stream.read(chunk) {
            Ok(0) => to.ended = true,
            Ok(length) => to.send(&chunk[..length])?,
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if to.ended && to.pending.is_empty() && !to.shut {
        to.shut = true;
        match to.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Side {
    fn new(fd: OwnedFd, key: u64, interest: EventFlags) -> Self {
        Side {
            stream: TcpStream::from(fd),
            key,
            interest,
            pending: Vec::new(),
            ended: false,
            shut: false,
        }
    }

    fn watch(&mut self, poll: &Poll, interest: EventFlags) -> io::Result<()> {
        if interest != self.interest {
            poll.change(self.stream.as_fd(), self.key, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        self.pending.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.pending) {
            Ok(sent) => {
                self.pending.drain(..sent);
                if self.pending.is_empty() {
                    self.pending = Vec::new();
                }
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn accept_one(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let client = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    sockopt::set_tcp_nodelay(&client, true)?;
    Ok(client)
}

fn connect(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn spare() -> io::Result<OwnedFd> {
    Ok(rustix::event::epoll::create(
        rustix::event::epoll::CreateFlags::CLOEXEC,
    )?)
}
