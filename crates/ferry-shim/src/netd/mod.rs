//! netd: holds published ports, and relays what packet rules cannot carry (`::1`, and IPv6 clients of IPv4 endpoints).
//!
//! One process for the whole engine, one thread, one epoll loop. It outlives the engine that started it: the next one
//! connects to its pathname socket and asks what it holds. It ends when it is told to, when it has handed its ports to a
//! successor and the last connection is over, or when it holds nothing and nobody is connected.
//!
//! It never decides: which port goes where is the engine's business. It reads two knobs below `/proc/sys/net/ipv4`, if
//! `/proc` is there, and no other file.
//!
//! Room is kept for the embedded resolver of user-defined networks, which is another source of readiness in this loop.

mod poll;
mod ports;
mod tcp;
mod udp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_shim_proto::netd::{FromNetd, HostPort, NETD_VERSION, NetdFailure, Proto, ToNetd};
use ferry_shim_proto::transport;

use poll::{Poll, READ};
use ports::{Ports, Refusal};
use tcp::TcpRelays;
use udp::UdpRelays;

/// Whose readiness an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The pathname socket.
    Listener,
    /// An engine.
    Link,
    /// A listening TCP port.
    TcpPort(HostPort),
    /// One side of a relayed TCP connection: the connection's number.
    Tcp(u64),
    /// A UDP port.
    UdpPort(HostPort),
    /// The socket towards the endpoint of a UDP client: the flow's number.
    UdpFlow(u64),
}

struct Netd {
    poll: Poll,
    listener: Option<OwnedFd>,
    links: BTreeMap<u64, OwnedFd>,
    ports: Ports,
    tcp: TcpRelays,
    udp: UdpRelays,
    /// The ports are a successor's, or netd was told to stop.
    leaving: bool,
}

/// Serves until the end. `control` is the first engine's link; later ones connect to `path`.
///
/// # Errors
/// When the pathname socket or the poll set cannot be made. What goes wrong later is told to the engine or concerns one
/// connection.
pub fn run(control: OwnedFd, path: &Path) -> io::Result<()> {
    let mut netd = Netd {
        poll: Poll::new()?,
        listener: None,
        links: BTreeMap::new(),
        ports: Ports::default(),
        tcp: TcpRelays::new()?,
        udp: UdpRelays::default(),
        leaving: false,
    };
    let listener = transport::listen(path)?;
    netd.poll.add(listener.as_fd(), Source::Listener, READ)?;
    netd.listener = Some(listener);
    netd.welcome(control);
    while !netd.is_done() {
        let timeout = netd.udp.expire(&mut netd.poll);
        for (key, source) in netd.poll.wait(timeout)? {
            netd.serve(key, source);
        }
    }
    if !netd.leaving {
        // Nobody will connect any more; a successor's socket, after a hand-over, is not ours to remove.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Netd {
    fn is_done(&self) -> bool {
        let idle = self.tcp.is_empty() && self.udp.is_empty();
        idle && (self.leaving || (self.links.is_empty() && self.ports.is_empty()))
    }

    fn serve(&mut self, key: u64, source: Source) {
        match source {
            Source::Listener => self.accept_link(),
            Source::Link => self.serve_link(key),
            Source::TcpPort(port) => {
                if let Some((socket, target)) = self.ports.relay(&port) {
                    self.tcp.accept(&mut self.poll, (port, target), socket);
                }
            }
            Source::Tcp(connection) => self.tcp.step(&mut self.poll, connection),
            Source::UdpPort(port) => {
                if let Some((socket, target)) = self.ports.relay(&port) {
                    self.udp.serve_client(&mut self.poll, (port, target), socket);
                }
            }
            Source::UdpFlow(flow) => {
                let ports = &self.ports;
                self.udp
                    .serve_endpoint(&mut self.poll, flow, |port| ports.socket(port));
            }
        }
    }

    fn accept_link(&mut self) {
        let accepted = self.listener.as_ref().map(transport::accept);
        // Nobody there after all, or no descriptor to spare: the engine will connect again.
        if let Some(Ok(link)) = accepted {
            self.welcome(link);
        }
    }

    /// Takes a link into the loop. One that fails at once is an engine that is gone already.
    fn welcome(&mut self, link: OwnedFd) {
        let hello = FromNetd::Hello {
            version: NETD_VERSION,
            pid: std::process::id(),
        };
        if answer(&link, &hello, &[]).is_ok()
            && let Ok(key) = self.poll.add(link.as_fd(), Source::Link, READ)
        {
            self.links.insert(key, link);
        }
    }

    fn serve_link(&mut self, key: u64) {
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        let keep = match transport::try_recv_frame::<ToNetd>(&link) {
            Ok(Some((frame, fds))) => self.obey(&link, frame, fds).is_ok(),
            Ok(None) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if keep {
            self.links.insert(key, link);
        } else {
            self.poll.remove(link.as_fd(), key);
        }
    }

    /// Does what a frame asks. An error means that the link is of no use any more.
    fn obey(&mut self, link: &OwnedFd, frame: ToNetd, fds: Vec<OwnedFd>) -> io::Result<()> {
        let (token, result) = match frame {
            ToNetd::Reserve {
                token,
                proto,
                ips,
                first,
                last,
            } => match self.ports.reserve(proto, &ips, (first, last)) {
                Ok(port) => return answer(link, &FromNetd::Reserved { token, port }, &[]),
                Err(refusal) => (token, Err(refusal)),
            },
            ToNetd::Relay { token, port, target } => (token, self.set_relay(port, target)),
            ToNetd::Release { token, ports } => {
                for port in &ports {
                    self.release(port);
                }
                (token, Ok(()))
            }
            ToNetd::List { token } => (token, self.tell_held(link, token, false)?),
            ToNetd::Handover { token } => {
                let told = self.tell_held(link, token, true)?;
                self.leave();
                (token, told)
            }
            ToNetd::Adopt { token, port, target } => (token, self.adopt(port, target, fds)),
            ToNetd::Stop { token } => {
                self.leave();
                self.tcp.clear(&mut self.poll);
                (token, Ok(()))
            }
        };
        let frame = match result {
            Ok(()) => FromNetd::Done { token },
            Err(Refusal { kind, message }) => FromNetd::Failed { token, kind, message },
        };
        answer(link, &frame, &[])
    }

    fn tell_held(&self, link: &OwnedFd, token: u64, with_sockets: bool) -> io::Result<Result<(), Refusal>> {
        for (port, held) in self.ports.iter() {
            let frame = FromNetd::Held {
                token,
                port: *port,
                target: held.target,
            };
            let socket: &[BorrowedFd<'_>] = if with_sockets { &[held.socket.as_fd()] } else { &[] };
            answer(link, &frame, socket)?;
        }
        Ok(Ok(()))
    }

    /// Lets go of everything but the connections that exist.
    fn leave(&mut self) {
        self.leaving = true;
        if let Some(listener) = self.listener.take() {
            self.poll
                .forget(listener.as_fd(), |source| source == Source::Listener);
        }
        let held: Vec<HostPort> = self.ports.iter().map(|(port, _)| *port).collect();
        for port in held {
            self.unwatch(&port);
            if port.proto == Proto::Udp {
                self.udp.end(&mut self.poll, &port);
            }
            self.ports.forget(&port);
        }
    }

    fn adopt(
        &mut self,
        port: HostPort,
        target: Option<SocketAddr>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let Some(socket) = fds.into_iter().next() else {
            return Err(Refusal::invalid(format!(
                "no socket came with port {}/{}",
                port.port, port.proto
            )));
        };
        self.ports.adopt(port, socket)?;
        if target.is_some() {
            self.set_relay(port, target)
        } else {
            Ok(())
        }
    }

    fn set_relay(&mut self, port: HostPort, target: Option<SocketAddr>) -> Result<(), Refusal> {
        self.end_relay(&port);
        let Some(target) = target else {
            return self.ports.stop_relay(&port);
        };
        let socket = self.ports.start_relay(&port, target)?;
        let source = if port.proto == Proto::Udp {
            Source::UdpPort(port)
        } else {
            Source::TcpPort(port)
        };
        match self.poll.add(socket, source, READ) {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::other("watch", &port, &error)),
        }
    }

    fn release(&mut self, port: &HostPort) {
        self.end_relay(port);
        self.ports.release(port);
    }

    fn end_relay(&mut self, port: &HostPort) {
        self.unwatch(port);
        self.tcp.end(&mut self.poll, port);
        self.udp.end(&mut self.poll, port);
    }

    fn unwatch(&mut self, port: &HostPort) {
        if let Some(socket) = self.ports.socket(port) {
            let of_port = |source| source == Source::TcpPort(*port) || source == Source::UdpPort(*port);
            self.poll.forget(socket, of_port);
        }
    }
}

/// Sends a frame without ever waiting for the engine: one that does not read is hung up on.
fn answer(link: &OwnedFd, frame: &FromNetd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = ferry_shim_proto::encode(frame)?;
    transport::try_send(link, &bytes, fds)
}

impl Refusal {
    fn invalid(message: String) -> Self {
        Refusal {
            kind: NetdFailure::Invalid,
            message,
        }
    }

    fn other(op: &str, port: &HostPort, error: &io::Error) -> Self {
        let HostPort { proto, ip, port } = port;
        let message = format!(
            "failed to {op} host port {}/{proto}: {error}",
            SocketAddr::new(*ip, *port)
        );
        Refusal {
            kind: NetdFailure::Other,
            message,
        }
    }
}
