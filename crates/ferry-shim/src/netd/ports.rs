//! Reserved ports: sockets that are bound, so that no other program can take them, and listen only while they are relayed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_shim_proto::netd::{HostPort, NetdFailure, Proto};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

/// The receive buffer of a UDP port that nobody reads: the smallest that the kernel makes.
const UNREAD_BUFFER: usize = 0;
/// The receive buffer of a UDP port that is relayed, the kernel's usual one.
const RELAY_BUFFER: usize = 212_992;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The range when the host's cannot be read, Linux's default.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    /// For the engine.
    pub kind: NetdFailure,
    /// For people.
    pub message: String,
}

/// A reserved port.
pub struct Held {
    /// Bound to it.
    pub socket: OwnedFd,
    /// Where it is relayed to; then the socket listens.
    pub target: Option<SocketAddr>,
}

/// All reserved ports.
#[derive(Default)]
pub struct Ports {
    held: BTreeMap<HostPort, Held>,
    /// The port that was given last out of the ephemeral range, for each protocol.
    last: BTreeMap<Proto, u16>,
}

impl Ports {
    /// Whether none is reserved.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Every reserved port.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPort, &Held)> {
        self.held.iter()
    }

    /// The socket of a port.
    pub fn socket(&self, port: &HostPort) -> Option<BorrowedFd<'_>> {
        self.held.get(port).map(|held| held.socket.as_fd())
    }

    /// The socket and the target of a relayed port.
    pub fn relay(&self, port: &HostPort) -> Option<(BorrowedFd<'_>, SocketAddr)> {
        self.held
            .get(port)
            .and_then(|held| held.target.map(|target| (held.socket.as_fd(), target)))
    }

    /// Binds the first port of the range that is free on all of the addresses.
    pub fn reserve(&mut self, proto: Proto, ips: &[IpAddr], range: (u16, u16)) -> Result<u16, Refusal> {
        let (first, last) = if range == (0, 0) { ephemeral_range() } else { range };
        if ips.is_empty() || first == 0 || last < first {
            let message = format!("invalid port range: {first}-{last}");
            return Err(Refusal {
                kind: NetdFailure::Invalid,
                message,
            });
        }
        if first == last {
            self.reserve_one(proto, ips, first)?;
            return Ok(first);
        }
        let automatic = range == (0, 0);
        let reserved = if automatic { kernel_reserved() } else { Vec::new() };
        let start = self
            .last
            .get(&proto)
            .filter(|port| automatic && (first..last).contains(port))
            .map_or(first, |port| port + 1);
        for port in (start..=last).chain(first..start) {
            if reserved.iter().any(|(low, high)| (*low..=*high).contains(&port)) {
                continue;
            }
            match self.reserve_one(proto, ips, port) {
                Ok(()) => {
                    self.last.insert(proto, port);
                    return Ok(port);
                }
                Err(Refusal {
                    kind: NetdFailure::Allocated | NetdFailure::InUse,
                    ..
                }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Refusal {
            kind: NetdFailure::Exhausted,
            message: "all ports are allocated".to_owned(),
        })
    }

    fn reserve_one(&mut self, proto: Proto, ips: &[IpAddr], port: u16) -> Result<(), Refusal> {
        if let Some(taken) = ips
            .iter()
            .find_map(|ip| self.conflict(&HostPort { proto, ip: *ip, port }))
        {
            let message = format!("Bind for {}:{port} failed: port is already allocated", taken.ip);
            return Err(Refusal {
                kind: NetdFailure::Allocated,
                message,
            });
        }
        let mut bound = Vec::new();
        for ip in ips {
            let wanted = HostPort { proto, ip: *ip, port };
            let socket = bind(&wanted).map_err(|error| refused(&wanted, error))?;
            bound.push((wanted, Held { socket, target: None }));
        }
        self.held.extend(bound);
        Ok(())
    }

    /// The reserved port that stands in the way: an unspecified address is in the way of each of its family.
    fn conflict(&self, wanted: &HostPort) -> Option<HostPort> {
        if self.held.contains_key(wanted) {
            return Some(*wanted);
        }
        let clashes = |held: &&HostPort| {
            held.proto == wanted.proto
                && held.port == wanted.port
                && held.ip.is_ipv4() == wanted.ip.is_ipv4()
                && (held.ip.is_unspecified() || wanted.ip.is_unspecified())
        };
        self.held.keys().find(clashes).copied()
    }

    /// Takes a bound socket over from a predecessor.
    pub fn adopt(&mut self, port: HostPort, socket: OwnedFd) -> Result<(), Refusal> {
        if let Some(taken) = self.conflict(&port) {
            let message = format!(
                "Bind for {}:{} failed: port is already allocated",
                taken.ip, port.port
            );
            return Err(Refusal {
                kind: NetdFailure::Allocated,
                message,
            });
        }
        self.held.insert(port, Held { socket, target: None });
        Ok(())
    }

    /// Lets a port go.
    pub fn release(&mut self, port: &HostPort) {
        if self.held.get(port).is_some_and(|held| held.target.is_some()) {
            // Also a copy of the socket that a predecessor still has must not go on listening.
            let _ = self.stop_relay(port);
        }
        self.held.remove(port);
    }

    /// Closes our socket of a port that is somebody else's now.
    pub fn forget(&mut self, port: &HostPort) {
        self.held.remove(port);
    }

    /// Makes a port listen.
    pub fn start_relay(&mut self, port: &HostPort, target: SocketAddr) -> Result<BorrowedFd<'_>, Refusal> {
        let Some(held) = self.held.get_mut(port) else {
            return Err(not_reserved(port));
        };
        listen(port.proto, held.socket.as_fd()).map_err(|error| refused(port, error))?;
        held.target = Some(target);
        Ok(held.socket.as_fd())
    }

    /// Makes a port only reserved again.
    pub fn stop_relay(&mut self, port: &HostPort) -> Result<(), Refusal> {
        let Some(held) = self.held.get_mut(port) else {
            return Err(not_reserved(port));
        };
        if held.target.take().is_some() {
            unlisten(port.proto, held.socket.as_fd()).map_err(|error| refused(port, error))?;
        }
        Ok(())
    }
}

fn not_reserved(port: &HostPort) -> Refusal {
    let address = SocketAddr::new(port.ip, port.port);
    Refusal {
        kind: NetdFailure::Invalid,
        message: format!("host port {address}/{} is not reserved", port.proto),
    }
}

/// In Docker's words, which are Go's.
fn refused(port: &HostPort, error: Errno) -> Refusal {
    let (kind, reason) = match error {
        Errno::ADDRINUSE => (NetdFailure::InUse, "address already in use".to_owned()),
        Errno::ADDRNOTAVAIL => (
            NetdFailure::NoSuchAddress,
            "cannot assign requested address".to_owned(),
        ),
        Errno::ACCESS => (NetdFailure::Other, "permission denied".to_owned()),
        Errno::AFNOSUPPORT => (
            NetdFailure::Other,
            "address family not supported by protocol".to_owned(),
        ),
        Errno::PROTONOSUPPORT => (NetdFailure::Other, "protocol not supported".to_owned()),
        other => (NetdFailure::Other, io::Error::from(other).to_string()),
    };
    let address = SocketAddr::new(port.ip, port.port);
    Refusal {
        kind,
        message: format!("failed to bind host port {address}/{}: {reason}", port.proto),
    }
}

/// A socket that is bound and does not listen: who connects past the packet rules is refused, not kept waiting.
///
/// Without SO_REUSEADDR no other program can bind the port, whatever it asks for. But then connections of an earlier owner
/// that linger in TIME_WAIT are in the way, too; in that case listening for a moment proves that nobody else listens.
fn bind(port: &HostPort) -> Result<OwnedFd, Errno> {
    let address = SocketAddr::new(port.ip, port.port);
    let socket = open(port)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if port.proto == Proto::Tcp => {}
        other => return other.map(|()| socket),
    }
    let socket = open(port)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1)?;
    unlisten(port.proto, socket.as_fd())?;
    Ok(socket)
}

fn open(port: &HostPort) -> Result<OwnedFd, Errno> {
    let family = if port.ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, protocol): (SocketType, Protocol) = match port.proto {
        Proto::Tcp => (SocketType::STREAM, ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(protocol),
    )?;
    if port.ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if port.proto == Proto::Udp {
        sockopt::set_socket_recv_buffer_size(&socket, UNREAD_BUFFER)?;
    }
    Ok(socket)
}

/// Connections inherit SO_REUSEADDR, so that those in TIME_WAIT do not keep the port from being reserved again.
fn listen(proto: Proto, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    match proto {
        Proto::Tcp => {
            sockopt::set_socket_reuseaddr(socket, true)?;
            rustix::net::listen(socket, BACKLOG)
        }
        Proto::Udp => sockopt::set_socket_recv_buffer_size(socket, RELAY_BUFFER),
        Proto::Sctp => Err(Errno::PROTONOSUPPORT),
    }
}

/// Shutting a listening socket down for reading ends the listening and leaves it bound.
fn unlisten(proto: Proto, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    match proto {
        Proto::Tcp => {
            rustix::net::shutdown(socket, Shutdown::Read)?;
            sockopt::set_socket_reuseaddr(socket, false)
        }
        Proto::Udp => sockopt::set_socket_recv_buffer_size(socket, UNREAD_BUFFER),
        Proto::Sctp => Ok(()),
    }
}

/// The host's range of ports for automatic use.
fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first < last => (first, last),
        _ => EPHEMERAL,
    }
}

/// Ports that the host's owner keeps from automatic use: `8080,9148-9150`.
fn kernel_reserved() -> Vec<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    parse_reserved(text.trim())
}

fn parse_reserved(text: &str) -> Vec<(u16, u16)> {
    let parse = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some((low.parse().ok()?, high.parse().ok()?))
    };
    text.split(',').filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::parse_reserved;

    #[test]
    fn reserved_ports() {
        assert_eq!(parse_reserved("8080,9148-9150"), [(8080, 8080), (9148, 9150)]);
        assert_eq!(parse_reserved(""), []);
    }
}
