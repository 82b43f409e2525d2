//! Forgetting connections that the kernel still tracks (ctnetlink, `linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Packet rules decide about the first packet of a connection only. So a UDP client that kept asking while a port was not
//! published would never be translated, and what was on its way to an endpoint would reach the next one with its address.
//!
//! The kernel searches its whole table for each question, which takes ten milliseconds where that is large: a task for the
//! background, and only where UDP ports are published or published ports were given up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::NetError;
use crate::netlink::{Batch, DUMP, Socket, attribute};

/// `NETLINK_NETFILTER`.
const NETLINK_NETFILTER: i32 = 12;
/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM + 1;
const DELETE: u16 = SUBSYSTEM + 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `CTA_FILTER_F_CTA_IP_SRC`.
const FILTER_SOURCE: u32 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM` and `CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const FILTER_DESTINATION_PORT: u32 = 1 << 3 | 1 << 5;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// Which connections.
#[derive(Clone, Copy)]
enum Wanted {
    /// Answered by the address, whatever the client asked for.
    To(IpAddr),
    /// UDP to the port, of IPv4 or IPv6.
    UdpPort(u16, bool),
}

/// Forgets the connections that an endpoint answers, translated or not. Tells how many there were.
pub fn forget_endpoint(address: IpAddr) -> Result<usize, NetError> {
    forget(&mut Socket::open(NETLINK_NETFILTER)?, Wanted::To(address))
}

/// Forgets UDP conversations with a port of the host, of both families, so that the rules are asked anew: for after the
/// port was published. Tells how many there were.
pub fn forget_udp_port(port: u16) -> Result<usize, NetError> {
    let mut socket = Socket::open(NETLINK_NETFILTER)?;
    Ok(
        forget(&mut socket, Wanted::UdpPort(port, true))?
            + forget(&mut socket, Wanted::UdpPort(port, false))?,
    )
}

fn forget(socket: &mut Socket, wanted: Wanted) -> Result<usize, NetError> {
    let (family, mut found) = (family(wanted), Vec::new());
    let mut batch = Batch::new();
    batch.message(
        "list tracked connections",
        (GET, DUMP),
        &[family, 0, 0, 0],
        |batch| ask(batch, wanted),
    );
    socket.dump(&batch, |kind, payload| {
        let attributes = payload.get(4..).unwrap_or_default();
        if let (NEW, Some(tuple), Some(id)) = (
            kind,
            attribute(attributes, CTA_TUPLE_ORIG),
            attribute(attributes, CTA_ID),
        ) {
            found.push((tuple.to_vec(), id.to_vec()));
        }
    })?;
    for (tuple, id) in &found {
        let mut batch = Batch::new();
        batch.message(
            "forget a tracked connection",
            (DELETE, 0),
            &[family, 0, 0, 0],
            |batch| {
                batch.nest(CTA_TUPLE_ORIG, |batch| batch.raw(tuple));
                batch.attr(CTA_ID, id);
            },
        );
        batch.acknowledge_last();
        match socket.transact(&batch) {
            // It ended by itself in the meantime.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(found.len())
}

fn family(wanted: Wanted) -> u8 {
    let v4 = match wanted {
        Wanted::To(address) => address.is_ipv4(),
        Wanted::UdpPort(_, v4) => v4,
    };
    if v4 { 2 } else { 10 }
}

/// Writes the tuple to look for, and which of its parts count.
fn ask(batch: &mut Batch, wanted: Wanted) {
    let (tuple, flags) = match wanted {
        Wanted::To(_) => (CTA_TUPLE_REPLY, FILTER_SOURCE),
        Wanted::UdpPort(..) => (CTA_TUPLE_ORIG, FILTER_DESTINATION_PORT),
    };
    batch.nest(tuple, |batch| {
        batch.nest(CTA_TUPLE_IP, |batch| match wanted {
            Wanted::To(address) => source(batch, address),
            Wanted::UdpPort(_, true) => source(batch, Ipv4Addr::UNSPECIFIED.into()),
            Wanted::UdpPort(_, false) => source(batch, Ipv6Addr::UNSPECIFIED.into()),
        });
        if let Wanted::UdpPort(port, _) = wanted {
            batch.nest(CTA_TUPLE_PROTO, |batch| {
                batch.attr(CTA_PROTO_NUM, &[UDP]);
                batch.attr(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
        }
    });
    // The filter's attributes are numbered by direction, as the tuples are.
    batch.nest(CTA_FILTER, |batch| batch.u32(tuple, flags));
}

fn source(batch: &mut Batch, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => batch.attr(CTA_IP_V4_SRC, &ip.octets()),
        IpAddr::V6(ip) => batch.attr(CTA_IP_V6_SRC, &ip.octets()),
    }
}
