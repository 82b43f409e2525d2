//! Links, addresses and routes over `NETLINK_ROUTE` (rtnetlink(7)); only what the bridge driver needs.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;

use crate::model::with_prefix;
use crate::netlink::{self, Batch, CREATE, DUMP, EXCL, REPLACE, Socket, attribute, ne32, text_of};
use crate::{MacAddr, NetError, Route};

/// `NETLINK_ROUTE`.
const NETLINK_ROUTE: i32 = 0;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// `IFF_UP`.
const IFF_UP: u32 = 1;
/// `IFA_F_NODAD`: nobody else has the address, so the kernel need not ask for a second whether somebody does.
const IFA_F_NODAD: u8 = 2;
/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u8 = 254;
/// `RTPROT_BOOT`, as `ip route add` sets it.
const PROTOCOL_BOOT: u8 = 3;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The loopback's index in every network namespace.
pub const LOOPBACK_INDEX: u32 = 1;

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the link, unique in its namespace.
    pub index: u32,
    /// The link's name.
    pub name: String,
    /// The driver (`bridge`, `veth`, …); empty for physical links and the loopback.
    pub kind: String,
    /// The index of the bridge that the link belongs to.
    pub master: Option<u32>,
    /// Whether the link is administratively up.
    pub up: bool,
    /// The Ethernet address, if the link has one.
    pub mac: Option<MacAddr>,
    /// The MTU in bytes.
    pub mtu: u32,
}

/// A new veth pair: one end here in a bridge, the other in another namespace.
pub struct VethSpec<'a> {
    /// The end here.
    pub name: &'a str,
    /// The index of the bridge that it joins.
    pub master: u32,
    /// The other end's name.
    pub peer: &'a str,
    /// The other end's Ethernet address.
    pub peer_mac: MacAddr,
    /// The other end's network namespace.
    pub netns: BorrowedFd<'a>,
    /// The MTU of both.
    pub mtu: Option<u32>,
    /// Whether the end here may not talk to other such ports of the bridge.
    pub isolated: bool,
}

/// A socket of `NETLINK_ROUTE`.
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace; it stays there wherever the thread goes.
    pub fn open() -> Result<Self, NetError> {
        Socket::open(NETLINK_ROUTE).map(|socket| Rtnl { socket })
    }

    /// A link's index by its name; `None` if there is no such link. Takes no lock in the kernel.
    pub fn index_of(&self, name: &str) -> Result<Option<u32>, NetError> {
        match rustix::net::netdevice::name_to_index(self.socket.as_fd(), name) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(NetError::io(format!("look up link {name}"), error)),
        }
    }

    /// Does all that the batch holds, its last message being answered.
    pub fn run(&mut self, mut batch: Batch) -> Result<(), NetError> {
        batch.acknowledge_last();
        self.socket.transact(&batch)
    }

    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetError> {
        let mut links = Vec::new();
        let mut batch = Batch::new();
        batch.message("list links", (RTM_GETLINK, DUMP), &link_header(0, 0, 0), |_| {});
        self.socket.dump(&batch, |kind, payload| {
            if kind == RTM_NEWLINK {
                links.extend(parse_link(payload));
            }
        })?;
        Ok(links)
    }

    /// Every address of the namespace with the index of its link.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>, NetError> {
        let mut addresses = Vec::new();
        let mut batch = Batch::new();
        batch.message("list addresses", (RTM_GETADDR, DUMP), &[0; 8], |_| {});
        self.socket.dump(&batch, |kind, payload| {
            if kind == RTM_NEWADDR {
                addresses.extend(parse_address(payload));
            }
        })?;
        Ok(addresses)
    }

    /// The destinations of all unicast routes but default ones.
    pub fn destinations(&mut self) -> Result<Vec<IpNet>, NetError> {
        let mut destinations = Vec::new();
        let mut batch = Batch::new();
        batch.message("list routes", (RTM_GETROUTE, DUMP), &[0; 12], |_| {});
        self.socket.dump(&batch, |kind, payload| {
            if kind == RTM_NEWROUTE {
                destinations.extend(parse_destination(payload));
            }
        })?;
        Ok(destinations)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Creates a bridge. It keeps the given Ethernet address, whichever ports come and go.
pub fn create_bridge(batch: &mut Batch, name: &str, mac: MacAddr) {
    let kind = (RTM_NEWLINK, CREATE | EXCL);
    batch.message(
        format!("create bridge {name}"),
        kind,
        &link_header(0, 0, 0),
        |batch| {
            batch.text(IFLA_IFNAME, name);
            batch.attr(IFLA_ADDRESS, &mac.0);
            batch.nest(IFLA_LINKINFO, |batch| batch.text(IFLA_INFO_KIND, "bridge"));
        },
    );
}

/// Creates a veth pair with all that creating can tell, in one message: the end here up and in its bridge, the other end in
/// its namespace, named. The kernel refuses to bring a veth up before it has its peer, so that end is still down.
///
/// A second message makes the port one that may send back where it came from ("hairpin"): with br_netfilter on, a
/// sandbox that calls itself by a published port is translated while still on the bridge.
pub fn create_veth(batch: &mut Batch, spec: &VethSpec<'_>) {
    let operation = format!("create link {} on the bridge", spec.name);
    batch.message(
        operation,
        (RTM_NEWLINK, CREATE | EXCL),
        &link_header(0, IFF_UP, IFF_UP),
        |batch| {
            batch.text(IFLA_IFNAME, spec.name);
            batch.u32(IFLA_MASTER, spec.master);
            if let Some(mtu) = spec.mtu {
                batch.u32(IFLA_MTU, mtu);
            }
            batch.nest(IFLA_LINKINFO, |batch| {
                batch.text(IFLA_INFO_KIND, "veth");
                batch.nest(IFLA_INFO_DATA, |batch| {
                    batch.nest(VETH_INFO_PEER, |batch| peer(batch, spec))
                });
            });
        },
    );
    let operation = format!("set link {} up as a port of the bridge", spec.name);
    batch.message(operation, (RTM_NEWLINK, 0), &link_header(0, 0, 0), |batch| {
        batch.text(IFLA_IFNAME, spec.name);
        batch.nest(IFLA_LINKINFO, |batch| {
            batch.text(IFLA_INFO_SLAVE_KIND, "bridge");
            batch.nest(IFLA_INFO_SLAVE_DATA, |batch| {
                batch.attr(IFLA_BRPORT_MODE, &[1]);
                batch.attr(IFLA_BRPORT_ISOLATED, &[u8::from(spec.isolated)]);
            });
        });
    });
}

fn peer(batch: &mut Batch, spec: &VethSpec<'_>) {
    batch.raw(&link_header(0, 0, 0));
    batch.text(IFLA_IFNAME, spec.peer);
    batch.attr(IFLA_ADDRESS, &spec.peer_mac.0);
    batch.attr(IFLA_NET_NS_FD, &spec.netns.as_raw_fd().to_ne_bytes());
    if let Some(mtu) = spec.mtu {
        batch.u32(IFLA_MTU, mtu);
    }
}

/// Brings a link up, and sets its MTU if one is given.
pub fn set_up(batch: &mut Batch, index: u32, mtu: Option<u32>) {
    batch.message(
        "bring a link up",
        (RTM_NEWLINK, 0),
        &link_header(index, IFF_UP, IFF_UP),
        |batch| {
            if let Some(mtu) = mtu {
                batch.u32(IFLA_MTU, mtu);
            }
        },
    );
}

/// Deletes a link by its name; a veth's other end goes with it.
pub fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(
        format!("delete link {name}"),
        (RTM_DELLINK, 0),
        &link_header(0, 0, 0),
        |batch| {
            batch.text(IFLA_IFNAME, name);
        },
    );
}

/// Puts an address on a link, or does nothing if it is there.
pub fn add_address(batch: &mut Batch, index: u32, net: &IpNet) {
    let kind = (RTM_NEWADDR, CREATE | REPLACE);
    address_message(batch, format!("add address {net}"), kind, (index, net));
}

/// Takes an address off a link.
pub fn delete_address(batch: &mut Batch, index: u32, net: &IpNet) {
    address_message(
        batch,
        format!("delete address {net}"),
        (RTM_DELADDR, 0),
        (index, net),
    );
}

fn address_message(batch: &mut Batch, operation: String, kind: (u16, u16), (index, net): (u32, &IpNet)) {
    let mut header = [0u8; 8];
    header[0] = family(net.addr());
    header[1] = net.prefix_len();
    header[2] = if matches!(net, IpNet::V6(_)) {
        IFA_F_NODAD
    } else {
        0
    };
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch.message(operation, kind, &header, |batch| {
        with_octets(net.addr(), |octets| {
            batch.attr(IFA_LOCAL, octets);
            batch.attr(IFA_ADDRESS, octets);
        });
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
        {
            batch.attr(IFA_BROADCAST, &v4.broadcast().octets());
        }
    });
}

/// Adds a route through a link to the main table.
pub fn add_route(batch: &mut Batch, index: u32, route: &Route) {
    let mut header = [0u8; 12];
    header[0] = family(route.destination.addr());
    header[1] = route.destination.prefix_len();
    header[4] = TABLE_MAIN;
    header[5] = PROTOCOL_BOOT;
    header[6] = if route.gateway.is_some() { 0 } else { SCOPE_LINK };
    header[7] = UNICAST;
    let operation = format!("add route {}", route.destination);
    batch.message(operation, (RTM_NEWROUTE, CREATE | EXCL), &header, |batch| {
        if route.destination.prefix_len() > 0 {
            with_octets(route.destination.network(), |octets| batch.attr(RTA_DST, octets));
        }
        if let Some(gateway) = route.gateway {
            with_octets(gateway, |octets| batch.attr(RTA_GATEWAY, octets));
        }
        batch.u32(RTA_OIF, index);
    });
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn with_octets(address: IpAddr, act: impl FnOnce(&[u8])) {
    match address {
        IpAddr::V4(ip) => act(&ip.octets()),
        IpAddr::V6(ip) => act(&ip.octets()),
    }
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let attributes = payload.get(16..)?;
    let info = attribute(attributes, IFLA_LINKINFO).unwrap_or(&[]);
    let mac = attribute(attributes, IFLA_ADDRESS)
        .and_then(|bytes| bytes.try_into().ok())
        .map(MacAddr);
    Some(Link {
        index: ne32(payload, 4)?,
        name: text_of(attribute(attributes, IFLA_IFNAME)?),
        kind: attribute(info, IFLA_INFO_KIND).map(text_of).unwrap_or_default(),
        master: attribute(attributes, IFLA_MASTER).and_then(|bytes| ne32(bytes, 0)),
        up: ne32(payload, 8)? & IFF_UP != 0,
        mac,
        mtu: attribute(attributes, IFLA_MTU)
            .and_then(|bytes| ne32(bytes, 0))
            .unwrap_or(0),
    })
}

fn parse_address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let attributes = payload.get(8..)?;
    let bytes = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    Some((ne32(payload, 4)?, with_prefix(ip_of(bytes)?, payload[1])))
}

fn parse_destination(payload: &[u8]) -> Option<IpNet> {
    let prefix_len = *payload.get(1)?;
    let bytes = netlink::attribute(payload.get(12..)?, RTA_DST)?;
    (prefix_len > 0 && payload[7] == UNICAST).then(|| ip_of(bytes).map(|ip| with_prefix(ip, prefix_len)))?
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
