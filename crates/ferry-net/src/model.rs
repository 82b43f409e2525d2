//! The nouns: networks, endpoints, what an endpoint becomes, and published ports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::NetError;

/// What carries a network's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge with a veth pair for each endpoint.
    Bridge,
    /// The host's own network namespace.
    Host,
    /// Loopback only. Docker's API calls this driver `null`.
    None,
}

impl Driver {
    /// The driver's name in Docker's API.
    pub fn docker_name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::None => "null",
        }
    }
}

/// One subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ipam {
    /// The subnet, its host bits zero.
    pub subnet: IpNet,
    /// The bridge's own address in the subnet and the endpoints' default gateway.
    pub gateway: IpAddr,
    /// The part of the subnet that addresses are taken from; all of it when absent.
    pub range: Option<IpNet>,
    /// Addresses that are never given out, by name (Docker's `--aux-address`).
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Ipam {
    /// A subnet whose gateway is its first usable address.
    pub fn new(subnet: IpNet) -> Self {
        let subnet = subnet.trunc();
        Ipam {
            subnet,
            gateway: crate::ipam::first_host(&subnet),
            range: None,
            reserved: BTreeMap::new(),
        }
    }

    /// Docker's `--bip`: an address with its prefix length; the address becomes the gateway.
    pub fn from_bip(bip: IpNet) -> Self {
        Ipam {
            subnet: bip.trunc(),
            gateway: bip.addr(),
            range: None,
            reserved: BTreeMap::new(),
        }
    }

    /// Whether this is an IPv6 subnet.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.subnet, IpNet::V6(_))
    }

    /// The gateway with the subnet's prefix length, as it is put on the bridge.
    pub fn gateway_net(&self) -> IpNet {
        with_prefix(self.gateway, self.subnet.prefix_len())
    }
}

/// An address with a prefix length. The length must fit the family, as that of an [`IpNet`] of the same family does.
pub(crate) fn with_prefix(address: IpAddr, prefix_len: u8) -> IpNet {
    IpNet::new(address, prefix_len).unwrap_or_else(|_| IpNet::from(address))
}

/// A network as the engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The network's id: 64 hexadecimal digits.
    pub id: String,
    /// The name that the user gave.
    pub name: String,
    /// What carries the packets.
    pub driver: Driver,
    /// The bridge's link name, at most 15 bytes; empty for drivers without one.
    pub bridge: String,
    /// The subnets, IPv4 and IPv6.
    pub subnets: Vec<Ipam>,
    /// Whether endpoints get IPv4 addresses.
    #[serde(default = "yes")]
    pub enable_ipv4: bool,
    /// Whether endpoints get IPv6 addresses.
    pub enable_ipv6: bool,
    /// No traffic but among the network's own endpoints.
    pub internal: bool,
    /// Whether the network's endpoints may talk to each other ("inter-container communication").
    pub icc: bool,
    /// Whether what leaves the host gets the host's address as its source.
    pub masquerade: bool,
    /// The links' MTU in bytes; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// The address that ports are published on when the user names none; Docker's `host_binding_ipv4`.
    #[serde(default)]
    pub host_binding: Option<IpAddr>,
    /// Driver options as the user gave them.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

impl NetworkConfig {
    /// A bridge network with Docker's defaults: IPv4, inter-container communication, masquerade, default MTU.
    /// The bridge of a user's network is `br-` and the first 12 digits of the id: see [`bridge_name`].
    pub fn bridge(
        id: impl Into<String>,
        name: impl Into<String>,
        bridge: impl Into<String>,
        subnets: Vec<Ipam>,
    ) -> Self {
        let enable_ipv6 = subnets.iter().any(Ipam::is_ipv6);
        NetworkConfig {
            id: id.into(),
            name: name.into(),
            driver: Driver::Bridge,
            bridge: bridge.into(),
            subnets,
            enable_ipv4: true,
            enable_ipv6,
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_binding: None,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// One of the two networks without a bridge: `host` and `none`.
    pub fn without_bridge(id: impl Into<String>, name: impl Into<String>, driver: Driver) -> Self {
        NetworkConfig {
            driver,
            enable_ipv4: false,
            enable_ipv6: false,
            masquerade: false,
            ..NetworkConfig::bridge(id, name, "", Vec::new())
        }
    }
}

/// The bridge's name for a user's network: `br-` and the first 12 characters of the network's id, as Docker names it.
pub fn bridge_name(network_id: &str) -> String {
    format!("br-{}", network_id.get(..12).unwrap_or(network_id))
}

/// What the engine asks for one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The endpoint's id: 64 random hexadecimal digits. Link name and MAC address derive from it.
    pub id: String,
    /// The sandbox (network namespace) that the endpoint belongs to; only a name in messages.
    pub sandbox: String,
    /// A static IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// A static IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// A MAC address that the user chose.
    pub mac: Option<MacAddr>,
    /// The link's name in the sandbox; `eth0` when absent.
    pub link: Option<String>,
    /// Whether the default route goes through this endpoint (of a sandbox with several, one has it).
    pub default_route: bool,
}

/// Everything that attaching an endpoint needs to know. The engine computes it and sends it to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// The network.
    pub network_id: String,
    /// The endpoint.
    pub endpoint_id: String,
    /// The bridge that the host's end joins.
    pub bridge: String,
    /// The host's end of the veth pair.
    pub host_link: String,
    /// The sandbox's end.
    pub container_link: String,
    /// The MAC address of the sandbox's end.
    pub mac: MacAddr,
    /// Addresses of the sandbox's end, with their prefix length.
    pub addresses: Vec<IpNet>,
    /// The gateways: at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// The MTU of both ends; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// Routes inside, default routes among them.
    pub routes: Vec<Route>,
    /// Knobs below `/proc/sys/net` to write inside before the link comes up.
    pub sysctls: Vec<Sysctl>,
    /// The host's port may talk to the bridge but not to other such ports (a network without icc).
    pub isolated: bool,
}

impl EndpointPlan {
    /// The endpoint's IPv4 address, if it has one.
    pub fn ipv4(&self) -> Option<IpNet> {
        self.addresses
            .iter()
            .copied()
            .find(|net| matches!(net, IpNet::V4(_)))
    }

    /// The endpoint's IPv6 address, if it has one.
    pub fn ipv6(&self) -> Option<IpNet> {
        self.addresses
            .iter()
            .copied()
            .find(|net| matches!(net, IpNet::V6(_)))
    }
}

/// A route in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// The next hop; absent for a route on the link itself.
    pub gateway: Option<IpAddr>,
}

/// A kernel knob below `/proc/sys/net`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The path relative to `/proc/sys/net`, with slashes: `ipv6/conf/eth0/disable_ipv6`.
    pub key: String,
    /// The text to write.
    pub value: String,
}

/// A transport protocol that ports are published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Proto {
    /// The protocol's number in the IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        })
    }
}

impl FromStr for Proto {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        match text {
            "tcp" => Ok(Proto::Tcp),
            "udp" => Ok(Proto::Udp),
            "sctp" => Ok(Proto::Sctp),
            _ => Err(NetError::Invalid(format!("invalid proto: {text}"))),
        }
    }
}

/// One published port: what arrives at the host's side goes to the endpoint's side.
///
/// Both sides are of one family, or the pair needs the relay: see [`Published::needs_relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; the unspecified address stands for each one the host has.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The endpoint's address.
    pub container_ip: IpAddr,
    /// The port inside.
    pub container_port: u16,
}

impl Published {
    /// Whether packet rules cannot carry this pair, wholly or for some clients, so that netd must listen for it:
    /// the families differ, or the host's side covers `::1`, which the kernel will not route off the loopback.
    pub fn needs_relay(&self) -> bool {
        match self.host_ip {
            IpAddr::V4(_) => self.container_ip.is_ipv6(),
            IpAddr::V6(ip) => self.container_ip.is_ipv4() || ip.is_unspecified() || ip.is_loopback(),
        }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = std::net::SocketAddr::new(self.host_ip, self.host_port);
        let container = std::net::SocketAddr::new(self.container_ip, self.container_port);
        write!(f, "{host} -> {container}/{}", self.proto)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = NetError;

    /// Six groups of two hexadecimal digits, split by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::Invalid(format!("invalid MAC address: {text}"));
        let mut bytes = [0u8; 6];
        let mut groups = text.split([':', '-']);
        for byte in &mut bytes {
            let group = groups.next().ok_or_else(wrong)?;
            if group.len() != 2 || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(group, 16).map_err(|_| wrong())?;
        }
        if groups.next().is_some() {
            Err(wrong())
        } else {
            Ok(MacAddr(bytes))
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_round_trip_and_reject_what_is_not_one() {
        let mac: MacAddr = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-AC-11-00-02".parse::<MacAddr>().unwrap(), mac);
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "02:42:ac:11:00:+2",
            "zz:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&mac).unwrap(), "\"02:42:ac:11:00:02\"");
        assert_eq!(
            serde_json::from_str::<MacAddr>("\"02:42:ac:11:00:02\"").unwrap(),
            mac
        );
    }

    #[test]
    fn the_relay_carries_what_rules_cannot() {
        let pair = |host: &str, container: &str| Published {
            proto: Proto::Tcp,
            host_ip: host.parse().unwrap(),
            host_port: 80,
            container_ip: container.parse().unwrap(),
            container_port: 80,
        };
        assert!(!pair("0.0.0.0", "172.17.0.2").needs_relay());
        assert!(!pair("127.0.0.1", "172.17.0.2").needs_relay());
        assert!(pair("::", "172.17.0.2").needs_relay());
        assert!(pair("::", "fd00::2").needs_relay());
        assert!(!pair("2001:db8::1", "fd00::2").needs_relay());
        assert!(pair("::1", "fd00::2").needs_relay());
    }

    #[test]
    fn a_bridge_is_named_after_the_network() {
        assert_eq!(bridge_name("0123456789abcdef"), "br-0123456789ab");
    }
}
