//! Relayed datagrams: each client of a port gets a socket towards the endpoint, until it has been silent for a while.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ferry_shim_proto::netd::HostPort;
use rustix::net::{RecvFlags, SendFlags};

use super::Source;
use super::poll::{Poll, READ};

/// A client that has been silent for so long is forgotten, as Docker's proxy does.
const IDLE: Duration = Duration::from_secs(90);
/// So many clients are known at a time, all ports together; a further one takes the place of the one silent longest.
const MAX_FLOWS: usize = 1024;
/// So many datagrams are carried at a time.
const BATCH: usize = 64;
/// The largest datagram.
const DATAGRAM: usize = 65_536;

struct Flow {
    port: HostPort,
    client: SocketAddr,
    socket: UdpSocket,
    key: u64,
    used: Instant,
}

/// All clients.
#[derive(Default)]
pub struct UdpRelays {
    flows: BTreeMap<u64, Flow>,
    by_client: BTreeMap<(HostPort, SocketAddr), u64>,
    next: u64,
}

impl UdpRelays {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Forgets silent clients; tells how long until the next one is due.
    pub fn expire(&mut self, poll: &mut Poll) -> Option<Duration> {
        let now = Instant::now();
        let old: Vec<u64> = self
            .flows
            .iter()
            .filter(|(_, flow)| now - flow.used >= IDLE)
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            self.remove(poll, number);
        }
        let next = self.flows.values().map(|flow| flow.used).min()?;
        // A little later rather than a little too early, and in vain.
        Some(IDLE.saturating_sub(now - next) + Duration::from_millis(10))
    }

    /// Carries waiting datagrams of a port to the target.
    pub fn serve_client(
        &mut self,
        poll: &mut Poll,
        (port, target): (HostPort, SocketAddr),
        socket: BorrowedFd<'_>,
    ) {
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..BATCH {
            let Ok((length, _, sender)) = rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT)
            else {
                return;
            };
            let client = sender.and_then(|sender| SocketAddr::try_from(sender).ok());
            let number = client.and_then(|client| self.flow(poll, (port, client), target).ok());
            if let Some(flow) = number.and_then(|number| self.flows.get_mut(&number)) {
                flow.used = Instant::now();
                // Datagrams may get lost; an endpoint that refuses them tells so in the next answer, which is none.
                let _ = flow.socket.send(&buffer[..length]);
            }
        }
    }

    /// Carries waiting datagrams of an endpoint back to its client. `socket` finds the port's socket.
    pub fn serve_endpoint<'a>(
        &mut self,
        poll: &mut Poll,
        number: u64,
        socket: impl FnOnce(&HostPort) -> Option<BorrowedFd<'a>>,
    ) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        let Some(socket) = socket(&flow.port) else {
            self.remove(poll, number);
            return;
        };
        flow.used = Instant::now();
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..BATCH {
            match flow.socket.recv(&mut buffer) {
                Ok(length) => {
                    // As above: lost is lost.
                    let _ = rustix::net::sendto(socket, &buffer[..length], SendFlags::DONTWAIT, &flow.client);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    /// Forgets the clients of a port.
    pub fn end(&mut self, poll: &mut Poll, port: &HostPort) {
        let of_port: Vec<u64> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.port == *port)
            .map(|(number, _)| *number)
            .collect();
        for number in of_port {
            self.remove(poll, number);
        }
    }

    fn flow(
        &mut self,
        poll: &mut Poll,
        (port, client): (HostPort, SocketAddr),
        target: SocketAddr,
    ) -> io::Result<u64> {
        if let Some(number) = self.by_client.get(&(port, client)) {
            return Ok(*number);
        }
        if self.flows.len() >= MAX_FLOWS {
            let oldest = self
                .flows
                .iter()
                .min_by_key(|(_, flow)| flow.used)
                .map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                self.remove(poll, oldest);
            }
        }
        let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let number = self.next;
        let key = poll.add(socket.as_fd(), Source::UdpFlow(number), READ)?;
        self.next += 1;
        self.flows.insert(
            number,
            Flow {
                port,
                client,
                socket,
                key,
                used: Instant::now(),
            },
        );
        self.by_client.insert((port, client), number);
        Ok(number)
    }

    fn remove(&mut self, poll: &mut Poll, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.by_client.remove(&(flow.port, flow.client));
            poll.remove(flow.socket.as_fd(), flow.key);
        }
    }
}
