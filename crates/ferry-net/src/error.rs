//! What can go wrong in this crate.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// An error of the networking layer. A variant exists where a caller decides by it; everything else is [`NetError::Io`].
#[derive(Debug)]
pub enum NetError {
    /// A value that was given makes no sense; the text names it and says what would.
    Invalid(String),
    /// The feature is not there; the text names what was asked for.
    Unsupported(String),
    /// The requested address belongs to another endpoint.
    AddressInUse(IpAddr),
    /// The requested address lies outside of the network's subnets.
    AddressOutside(IpAddr),
    /// Every address is taken.
    NoFreeAddress {
        /// The address family: 4 or 6.
        version: u8,
        /// What is full: a subnet or a range, or a network by name and id.
        pool: String,
    },
    /// No subnet of the default pools is free of overlap with the host's addresses and routes.
    NoFreeSubnet,
    /// The subnet that was asked for overlaps one in use.
    SubnetOverlaps {
        /// The subnet that was asked for.
        subnet: IpNet,
        /// The one that it overlaps.
        other: IpNet,
    },
    /// The kernel refused an operation.
    Io {
        /// What was tried, with its object: "create link veth0".
        op: String,
        /// The system's answer.
        source: std::io::Error,
        /// The kernel's own explanation (netlink's extended acknowledgement); empty if it gave none.
        reason: String,
    },
}

impl NetError {
    /// An [`NetError::Io`] out of an error of a system call.
    pub(crate) fn io(op: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        NetError::Io {
            op: op.into(),
            source: source.into(),
            reason: String::new(),
        }
    }

    /// The errno behind an [`NetError::Io`].
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetError::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Invalid(text) | NetError::Unsupported(text) => f.write_str(text),
            NetError::AddressInUse(_) => f.write_str("Address already in use"),
            NetError::AddressOutside(address) => {
                write!(f, "invalid address {address}: It does not belong to any of this network's subnets")
            }
            NetError::NoFreeAddress { version, pool } => {
                write!(f, "no available IPv{version} addresses on this network's address pools: {pool}")
            }
            NetError::NoFreeSubnet => f.write_str(
                "all predefined address pools have been fully subnetted: give a subnet that overlaps nothing of the host",
            ),
            NetError::SubnetOverlaps { subnet, other } => {
                write!(f, "invalid pool request: Pool overlaps with other one on this address space ({subnet} and {other})")
            }
            NetError::Io { op, source, reason } if reason.is_empty() => write!(f, "{op}: {source}"),
            NetError::Io { op, source, reason } => write!(f, "{op}: {source} ({reason})"),
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NetError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
