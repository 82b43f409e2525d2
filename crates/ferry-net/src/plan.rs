//! From a network and a wish to an endpoint's plan. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ipam;
use crate::model::with_prefix;
use crate::{Driver, Endpoint, EndpointPlan, Ipam, MacAddr, NetError, NetworkConfig, Route, Sysctl};

/// The longest link name that the kernel takes (`IFNAMSIZ` without its terminator).
const LINK_NAME_MAX: usize = 15;

/// Decides names, addresses, routes and knobs of one endpoint.
///
/// `in_use` are the addresses of the network's other endpoints; gateway and reserved addresses are known from the
/// network. Fails when a requested address is taken or foreign, when a subnet is full, and for networks whose driver
/// has no endpoints (host, none).
pub fn plan_endpoint(
    network: &NetworkConfig,
    endpoint: &Endpoint,
    in_use: &BTreeSet<IpAddr>,
) -> Result<EndpointPlan, NetError> {
    if network.driver != Driver::Bridge {
        let name = network.driver.docker_name();
        return Err(NetError::Unsupported(format!(
            "network {}: driver {name} has no endpoints to attach",
            network.name
        )));
    }
    let container_link = endpoint.link.clone().unwrap_or_else(|| "eth0".to_owned());
    check_link_name(&network.bridge)?;
    check_link_name(&container_link)?;
    let mut addresses = Vec::new();
    let mut gateways = Vec::new();
    let wishes = [
        (endpoint.ipv4.map(IpAddr::V4), network.enable_ipv4),
        (endpoint.ipv6.map(IpAddr::V6), network.enable_ipv6),
    ];
    for (index, (wish, enabled)) in wishes.into_iter().enumerate() {
        if !enabled {
            if let Some(address) = wish {
                return Err(NetError::AddressOutside(address));
            }
            continue;
        }
        let subnets: Vec<&Ipam> = network
            .subnets
            .iter()
            .filter(|ipam| ipam.is_ipv6() == (index == 1))
            .collect();
        let (address, ipam) = allocate(network, &subnets, wish, in_use)?;
        addresses.push(with_prefix(address, ipam.subnet.prefix_len()));
        if !network.internal {
            gateways.push(ipam.gateway);
        }
    }
    let routes = if endpoint.default_route {
        gateways.iter().map(|gateway| default_route(*gateway)).collect()
    } else {
        Vec::new()
    };
    Ok(EndpointPlan {
        network_id: network.id.clone(),
        endpoint_id: endpoint.id.clone(),
        bridge: network.bridge.clone(),
        host_link: host_link_name(&endpoint.id)?,
        mac: endpoint.mac.unwrap_or_else(|| mac_of(&endpoint.id)),
        sysctls: sysctls(
            &container_link,
            addresses.iter().any(|net| matches!(net, IpNet::V6(_))),
        ),
        container_link,
        addresses,
        gateways,
        mtu: network.mtu,
        routes,
        isolated: !network.icc,
    })
}

/// The first of the subnets that has an address to give, or the one that the wish lies in.
fn allocate<'a>(
    network: &NetworkConfig,
    subnets: &[&'a Ipam],
    wish: Option<IpAddr>,
    in_use: &BTreeSet<IpAddr>,
) -> Result<(IpAddr, &'a Ipam), NetError> {
    if let Some(address) = wish {
        let ipam = subnets
            .iter()
            .find(|ipam| ipam.subnet.contains(&address))
            .ok_or(NetError::AddressOutside(address))?;
        return ipam::claim(ipam, address, in_use).map(|()| (address, *ipam));
    }
    let mut failure = NetError::Invalid(format!(
        "network {} lacks a subnet of an enabled address family",
        network.name
    ));
    for ipam in subnets {
        match ipam::next_free(ipam, in_use) {
            Ok(address) => return Ok((address, ipam)),
            Err(NetError::NoFreeAddress { version, .. }) => {
                failure = NetError::NoFreeAddress {
                    version,
                    pool: format!("{} ({})", network.name, network.id),
                };
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn default_route(gateway: IpAddr) -> Route {
    let destination = match gateway {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    Route {
        destination,
        gateway: Some(gateway),
    }
}

/// IPv6 is off on a link without an IPv6 address: else a router advertisement from a neighbour would configure it
/// (CVE-2020-13401). With an address, advertisements are still not listened to.
fn sysctls(link: &str, ipv6: bool) -> Vec<Sysctl> {
    let knob = |name: &str, value: &str| Sysctl {
        key: format!("ipv6/conf/{link}/{name}"),
        value: value.to_owned(),
    };
    if ipv6 {
        vec![knob("disable_ipv6", "0"), knob("accept_ra", "0")]
    } else {
        vec![knob("disable_ipv6", "1")]
    }
}

/// `veth` and the first eleven digits of the endpoint's id: unique in practice, and the same when done again.
fn host_link_name(endpoint_id: &str) -> Result<String, NetError> {
    let digits = endpoint_id
        .get(..11)
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match digits {
        Some(digits) => Ok(format!("veth{digits}")),
        None => Err(NetError::Invalid(format!(
            "endpoint id {endpoint_id:?} is not a string of hexadecimal digits"
        ))),
    }
}

/// A locally administered unicast address out of the endpoint's id, which is random: so the address is, too. The
/// digits are those behind the ones that name the link.
pub(crate) fn mac_of(endpoint_id: &str) -> MacAddr {
    let mut mac = [0u8; 6];
    let digits = endpoint_id
        .bytes()
        .rev()
        .map(|digit| (digit as char).to_digit(16).unwrap_or(0));
    for (index, digit) in digits.take(12).enumerate() {
        mac[index / 2] |= (digit as u8) << (4 * (index % 2));
    }
    mac[0] = (mac[0] & 0xfe) | 0x02;
    MacAddr(mac)
}

/// What the kernel accepts as a link's name (`dev_valid_name`).
fn check_link_name(name: &str) -> Result<(), NetError> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    if name.is_empty() || name.len() > LINK_NAME_MAX || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(NetError::Invalid(format!(
            "{name:?} is not a valid link name: it needs 1 to {LINK_NAME_MAX} bytes without '/', ':' and white space"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn network() -> NetworkConfig {
        NetworkConfig::bridge(
            "n1",
            "bridge",
            "ferry0",
            vec![Ipam::new("172.17.0.0/16".parse().unwrap())],
        )
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            id: ID.into(),
            default_route: true,
            ..Endpoint::default()
        }
    }

    #[test]
    fn the_golden_plan_of_the_default_bridge() {
        let plan = plan_endpoint(&network(), &endpoint(), &BTreeSet::new()).unwrap();
        let golden = r#"{"network_id":"n1","endpoint_id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","bridge":"ferry0","host_link":"veth0123456789a","container_link":"eth0","mac":"ee:cd:ab:89:67:45","addresses":["172.17.0.2/16"],"gateways":["172.17.0.1"],"mtu":null,"routes":[{"destination":"0.0.0.0/0","gateway":"172.17.0.1"}],"sysctls":[{"key":"ipv6/conf/eth0/disable_ipv6","value":"1"}],"isolated":false}"#;
        assert_eq!(serde_json::to_string(&plan).unwrap(), golden);
        assert_eq!(plan.mac.0[0] & 3, 2, "local and unicast");
        assert_eq!(
            serde_json::from_str::<EndpointPlan>(golden).unwrap().host_link,
            plan.host_link
        );
    }

    #[test]
    fn both_families() {
        let mut network = network();
        network.subnets.push(Ipam::new("fd00:1::/64".parse().unwrap()));
        network.enable_ipv6 = true;
        let plan = plan_endpoint(&network, &endpoint(), &BTreeSet::new()).unwrap();
        assert_eq!(plan.ipv6().unwrap().to_string(), "fd00:1::2/64");
        assert_eq!(plan.routes.len(), 2);
        assert_eq!(plan.sysctls[0].value, "0");
    }

    #[test]
    fn wishes_are_granted_or_refused_by_name() {
        let mut wish = Endpoint {
            ipv4: Some("172.17.3.4".parse().unwrap()),
            ..endpoint()
        };
        wish.mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let plan = plan_endpoint(&network(), &wish, &BTreeSet::new()).unwrap();
        assert_eq!(plan.addresses, ["172.17.3.4/16".parse().unwrap()]);
        assert_eq!(plan.mac.to_string(), "02:00:00:00:00:09");
        let taken = BTreeSet::from(["172.17.3.4".parse().unwrap()]);
        assert!(matches!(
            plan_endpoint(&network(), &wish, &taken),
            Err(NetError::AddressInUse(_))
        ));
        let foreign = Endpoint {
            ipv4: Some("10.0.0.1".parse().unwrap()),
            ..endpoint()
        };
        let error = plan_endpoint(&network(), &foreign, &BTreeSet::new())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "invalid address 10.0.0.1: It does not belong to any of this network's subnets"
        );
        let six = Endpoint {
            ipv6: Some("fd00::1".parse().unwrap()),
            ..endpoint()
        };
        assert!(plan_endpoint(&network(), &six, &BTreeSet::new()).is_err());
    }

    #[test]
    fn drivers_without_endpoints_and_bad_names_are_refused() {
        let host = NetworkConfig::without_bridge("n2", "host", Driver::Host);
        assert!(matches!(
            plan_endpoint(&host, &endpoint(), &BTreeSet::new()),
            Err(NetError::Unsupported(_))
        ));
        for link in ["", "a/b", "a b", "1234567890123456", ".."] {
            let bad = Endpoint {
                link: Some(link.into()),
                ..endpoint()
            };
            assert!(
                plan_endpoint(&network(), &bad, &BTreeSet::new()).is_err(),
                "{link}"
            );
        }
        let bad = Endpoint {
            id: "short".into(),
            ..endpoint()
        };
        assert!(plan_endpoint(&network(), &bad, &BTreeSet::new()).is_err());
    }

    #[test]
    fn an_internal_network_has_no_way_out() {
        let internal = NetworkConfig {
            internal: true,
            icc: false,
            ..network()
        };
        let plan = plan_endpoint(&internal, &endpoint(), &BTreeSet::new()).unwrap();
        assert!(plan.routes.is_empty() && plan.gateways.is_empty() && plan.isolated);
    }
}
