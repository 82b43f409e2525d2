//! The frames between the engine and netd, the process that holds published ports and relays what packet rules cannot carry.
//!
//! Links: the control socket that the launcher hands to a new netd, and connections to its pathname socket, which outlive
//! no engine while netd itself does. All links are equal. netd sends [`FromNetd::Hello`] first on each; every request is
//! answered by one frame with its token ([`FromNetd::Held`] frames precede the answer where the request asks for them).
//!
//! A port's life: `Reserve` (bound, so that no other program can take it) → packet rules → `Relay` where they do not
//! suffice → packet rules removed → `Release`. A successor is filled before its predecessor ends: `Handover` there, with
//! the sockets beside the `Held` frames, then `Adopt` here.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The protocol's version.
pub const NETD_VERSION: u32 = 1;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: reserved only, never relayed.
    Sctp,
}

impl std::fmt::Display for Proto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        })
    }
}

/// One port of one address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; the unspecified one stands for all of its family.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

/// Engine → netd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNetd {
    /// Binds one port, the same on each of the addresses: the first one from `first` to `last` that is free on all of
    /// them. Zero for both means the host's ephemeral range, continuing behind the port given last. Answer: `Reserved`.
    Reserve {
        /// Echoed in the answer.
        token: u64,
        /// The transport protocol.
        proto: Proto,
        /// The host's addresses; at least one.
        ips: Vec<IpAddr>,
        /// The lowest port that will do.
        first: u16,
        /// The highest port that will do.
        last: u16,
    },
    /// Relays what arrives at a reserved port to `target`, or no longer if there is none. Answer: `Done`.
    Relay {
        /// Echoed in the answer.
        token: u64,
        /// A reserved port.
        port: HostPort,
        /// The endpoint's address and port.
        target: Option<SocketAddr>,
    },
    /// Lets reserved ports go, and ends their relays at once. Ports that are not reserved are passed over. Answer: `Done`.
    Release {
        /// Echoed in the answer.
        token: u64,
        /// The ports.
        ports: Vec<HostPort>,
    },
    /// Asks for a `Held` frame for each reserved port. Answer: `Done`.
    List {
        /// Echoed in the answer.
        token: u64,
    },
    /// As `List`, each frame with the socket as its descriptor. From then on this netd only carries the connections it
    /// has, and ends with the last of them. Answer: `Done`.
    Handover {
        /// Echoed in the answer.
        token: u64,
    },
    /// Takes a port over. Descriptor: its socket. Answer: `Done`.
    Adopt {
        /// Echoed in the answer.
        token: u64,
        /// The port.
        port: HostPort,
        /// Where it is relayed to.
        target: Option<SocketAddr>,
    },
    /// Ends netd with everything that it holds. Answer: `Done`, then the hang-up.
    Stop {
        /// Echoed in the answer.
        token: u64,
    },
}

/// Netd → engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNetd {
    /// The first frame on every link.
    Hello {
        /// [`NETD_VERSION`].
        version: u32,
        /// Its pid.
        pid: u32,
    },
    /// The port was bound on each address.
    Reserved {
        /// Of the request.
        token: u64,
        /// The port that was chosen.
        port: u16,
    },
    /// Done.
    Done {
        /// Of the request.
        token: u64,
    },
    /// A reserved port.
    Held {
        /// Of the request.
        token: u64,
        /// The port.
        port: HostPort,
        /// Where it is relayed to.
        target: Option<SocketAddr>,
    },
    /// Not done; nothing has changed.
    Failed {
        /// Of the request.
        token: u64,
        /// What kind of failure.
        kind: NetdFailure,
        /// The whole sentence, in Docker's words where it has them.
        message: String,
    },
}

/// Why netd refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetdFailure {
    /// The port is reserved here already.
    Allocated,
    /// Another program has the port.
    InUse,
    /// No port of the range is free.
    Exhausted,
    /// The address is none of the host's.
    NoSuchAddress,
    /// The request makes no sense: the port is not reserved, say.
    Invalid,
    /// Something else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn frames_are_stable() {
        let frame = ToNetd::Relay {
            token: 1,
            port: HostPort {
                proto: Proto::Tcp,
                ip: "::".parse().expect("address"),
                port: 80,
            },
            target: Some("172.17.0.2:80".parse().expect("target")),
        };
        let bytes = encode(&frame).expect("encode");
        let text =
            r#"{"Relay":{"token":1,"port":{"proto":"tcp","ip":"::","port":80},"target":"172.17.0.2:80"}}"#;
        assert_eq!(String::from_utf8_lossy(&bytes), text);
        assert_eq!(decode::<ToNetd>(&bytes).expect("decode"), frame);
    }
}
