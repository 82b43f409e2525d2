//! Which subnet a network gets and which address an endpoint gets.
//!
//! Nothing is stored: what is free follows from the endpoints in use, which the caller passes in. Addresses are given
//! out lowest first, as Docker's default driver does, so a restarted container finds its address again if nobody took it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Ipam, NetError};

/// A block of addresses that subnets are cut from (an entry of Docker's `default-address-pools`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The block.
    pub base: IpNet,
    /// The prefix length of the subnets cut from it.
    pub size: u8,
}

/// Docker's default pools of the local scope: `172.17.0.0/16` to `172.31.0.0/16`, then `192.168.0.0/16` in /20 pieces.
pub fn default_pools() -> Vec<Pool> {
    let v4 = |a: u8, b: u8, length: u8, size: u8| Pool {
        base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length)),
        size,
    };
    vec![
        v4(172, 17, 16, 16),
        v4(172, 18, 16, 16),
        v4(172, 19, 16, 16),
        v4(172, 20, 14, 16),
        v4(172, 24, 14, 16),
        v4(172, 28, 14, 16),
        v4(192, 168, 16, 20),
    ]
}

/// A pool of unique local IPv6 subnets (RFC 4193) of this host: `fd` and 40 bits that the caller derives from something
/// that is the host's own, as the RFC asks, cut into /64 pieces.
pub fn ula_pool(host_bits: u64) -> Pool {
    let prefix = (0xfdu128 << 120) | (u128::from(host_bits & 0xff_ffff_ffff) << 80);
    Pool {
        base: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(prefix), 48)),
        size: 64,
    }
}

/// Whether two blocks share an address.
pub fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    match (one, other) {
        (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)) => {
            one.contains(other) || other.contains(one)
        }
        _ => false,
    }
}

/// The first subnet of the pools, in their order, that overlaps nothing in `taken`: the host's addresses and routes
/// (without default routes), the subnets of other networks, and the host's nameservers as single addresses.
pub fn choose_subnet(pools: &[Pool], taken: &[IpNet]) -> Result<IpNet, NetError> {
    for pool in pools {
        let found = match pool.base {
            IpNet::V4(base) => base
                .subnets(pool.size)
                .ok()
                .and_then(|nets| first_clear(nets.map(IpNet::V4), taken)),
            IpNet::V6(base) => base
                .subnets(pool.size)
                .ok()
                .and_then(|nets| first_clear(nets.map(IpNet::V6), taken)),
        };
        if let Some(subnet) = found {
            return Ok(subnet);
        }
    }
    Err(NetError::NoFreeSubnet)
}

fn first_clear(mut subnets: impl Iterator<Item = IpNet>, taken: &[IpNet]) -> Option<IpNet> {
    subnets.find(|subnet| !taken.iter().any(|net| overlaps(subnet, net)))
}

/// Fails if the subnet that a user asked for overlaps one of another network's.
pub fn check_subnet(subnet: &IpNet, others: &[IpNet]) -> Result<(), NetError> {
    match others.iter().find(|other| overlaps(subnet, other)) {
        Some(other) => Err(NetError::SubnetOverlaps {
            subnet: *subnet,
            other: *other,
        }),
        None => Ok(()),
    }
}

/// The first address that a host may have: the network's own address is skipped, except where there is no such thing
/// (prefix lengths 31, 32, 127 and 128).
pub fn first_host(subnet: &IpNet) -> IpAddr {
    from_bits(subnet, host_bounds(subnet).0)
}

/// Checks the parts of a user's subnet against each other.
pub fn check_ipam(ipam: &Ipam) -> Result<(), NetError> {
    let inside = |address: &IpAddr| ipam.subnet.contains(address);
    if !inside(&ipam.gateway) {
        return Err(NetError::Invalid(format!(
            "invalid gateway {}: it is not in subnet {}",
            ipam.gateway, ipam.subnet
        )));
    }
    if let Some(range) = ipam.range
        && !ipam.subnet.contains(&range)
    {
        return Err(NetError::Invalid(format!(
            "invalid ip-range {range}: it is not in subnet {}",
            ipam.subnet
        )));
    }
    match ipam.reserved.iter().find(|(_, address)| !inside(address)) {
        Some((name, address)) => Err(NetError::Invalid(format!(
            "invalid auxiliary address {name}={address}: it is not in subnet {}",
            ipam.subnet
        ))),
        None => Ok(()),
    }
}

/// The lowest free address of the subnet's range.
pub fn next_free(ipam: &Ipam, in_use: &BTreeSet<IpAddr>) -> Result<IpAddr, NetError> {
    let (low, high) = host_bounds(&ipam.subnet);
    let (low, high) = match &ipam.range {
        Some(range) => (low.max(bits(range.network())), high.min(bits(range.broadcast()))),
        None => (low, high),
    };
    let version = if ipam.is_ipv6() { 6 } else { 4 };
    let full = NetError::NoFreeAddress {
        version,
        pool: ipam.range.unwrap_or(ipam.subnet).to_string(),
    };
    if low > high {
        return Err(full);
    }
    let mut candidate = low;
    // Everything in use at or above `candidate`, in order: the first gap is the answer.
    for address in in_use.range(from_bits(&ipam.subnet, low)..=from_bits(&ipam.subnet, high)) {
        candidate = skip_withheld(ipam, candidate);
        if bits(*address) > candidate {
            break;
        }
        if bits(*address) == candidate {
            candidate += 1;
        }
    }
    candidate = skip_withheld(ipam, candidate);
    if candidate > high {
        Err(full)
    } else {
        Ok(from_bits(&ipam.subnet, candidate))
    }
}

/// Whether the address, one of this subnet, can be given to the endpoint that asks for it.
pub fn claim(ipam: &Ipam, address: IpAddr, in_use: &BTreeSet<IpAddr>) -> Result<(), NetError> {
    let (low, high) = host_bounds(&ipam.subnet);
    let value = bits(address);
    if !ipam.subnet.contains(&address) || value < low || value > high {
        return Err(NetError::Invalid(format!(
            "invalid address {address}: no host address of subnet {}",
            ipam.subnet
        )));
    }
    if withheld(ipam, address) || in_use.contains(&address) {
        return Err(NetError::AddressInUse(address));
    }
    Ok(())
}

fn withheld(ipam: &Ipam, address: IpAddr) -> bool {
    address == ipam.gateway || ipam.reserved.values().any(|reserved| *reserved == address)
}

fn skip_withheld(ipam: &Ipam, mut candidate: u128) -> u128 {
    while withheld(ipam, from_bits(&ipam.subnet, candidate)) {
        candidate += 1;
    }
    candidate
}

/// First and last address that a host may have, as numbers. IPv4 keeps the last one for broadcasts; IPv6 has none, and
/// its first is the subnet-router anycast address (RFC 4291).
fn host_bounds(subnet: &IpNet) -> (u128, u128) {
    let (first, last) = (bits(subnet.network()), bits(subnet.broadcast()));
    match (last - first, subnet) {
        (0 | 1, _) => (first, last),
        (_, IpNet::V4(_)) => (first + 1, last - 1),
        (_, IpNet::V6(_)) => (first + 1, last),
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address with this number in the subnet's family. IPv4 numbers come from IPv4 subnets and fit.
fn from_bits(subnet: &IpNet, bits: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_default_pools_in_dockers_order() {
        let mut taken = Vec::new();
        for _ in 0..31 {
            taken.push(choose_subnet(&default_pools(), &taken).unwrap());
        }
        let names: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(names[0], "172.17.0.0/16");
        assert_eq!(names[14], "172.31.0.0/16");
        assert_eq!(names[15], "192.168.0.0/20");
        assert_eq!(names[30], "192.168.240.0/20");
        assert!(matches!(
            choose_subnet(&default_pools(), &taken),
            Err(NetError::NoFreeSubnet)
        ));
    }

    #[test]
    fn a_route_inside_or_around_a_subnet_excludes_it() {
        let taken = [
            net("172.17.42.1/32"),
            net("172.16.0.0/14"),
            net("10.0.0.0/8"),
            net("172.20.0.0/24"),
        ];
        assert_eq!(
            choose_subnet(&default_pools(), &taken).unwrap(),
            net("172.21.0.0/16")
        );
    }

    #[test]
    fn unique_local_subnets() {
        let pool = ula_pool(0x12_3456_789a);
        assert_eq!(pool.base, net("fd12:3456:789a::/48"));
        assert_eq!(
            choose_subnet(&[pool], &[net("fd12:3456:789a::/64")]).unwrap(),
            net("fd12:3456:789a:1::/64")
        );
    }

    #[test]
    fn lowest_first_without_gateway_reserved_and_edges() {
        let mut ipam = Ipam::new(net("10.0.0.0/29"));
        assert_eq!(ipam.gateway.to_string(), "10.0.0.1");
        ipam.reserved.insert("router".into(), "10.0.0.3".parse().unwrap());
        let mut used = BTreeSet::new();
        let mut given = Vec::new();
        while let Ok(address) = next_free(&ipam, &used) {
            used.insert(address);
            given.push(address.to_string());
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        used.remove(&"10.0.0.4".parse().unwrap());
        assert_eq!(next_free(&ipam, &used).unwrap().to_string(), "10.0.0.4");
        assert!(claim(&ipam, "10.0.0.7".parse().unwrap(), &used).is_err());
        assert!(claim(&ipam, "10.0.0.1".parse().unwrap(), &used).is_err());
        assert!(claim(&ipam, "10.0.0.4".parse().unwrap(), &used).is_ok());
    }

    #[test]
    fn a_range_bounds_what_is_given_but_not_what_is_asked_for() {
        let ipam = Ipam {
            range: Some(net("10.0.5.0/30")),
            ..Ipam::new(net("10.0.0.0/16"))
        };
        assert_eq!(
            next_free(&ipam, &BTreeSet::new()).unwrap().to_string(),
            "10.0.5.0"
        );
        assert!(claim(&ipam, "10.0.9.9".parse().unwrap(), &BTreeSet::new()).is_ok());
        let used = (0..4).map(|last| IpAddr::from([10, 0, 5, last])).collect();
        assert!(matches!(
            next_free(&ipam, &used),
            Err(NetError::NoFreeAddress { .. })
        ));
    }

    #[test]
    fn bip_wins() {
        let ipam = Ipam::from_bip(net("192.168.5.1/24"));
        assert_eq!(
            (ipam.subnet, ipam.gateway_net()),
            (net("192.168.5.0/24"), net("192.168.5.1/24"))
        );
        assert_eq!(
            next_free(&Ipam::from_bip(net("10.9.0.77/24")), &BTreeSet::new())
                .unwrap()
                .to_string(),
            "10.9.0.1"
        );
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let ok = Ipam::new(net("10.1.0.0/24"));
        assert!(check_ipam(&ok).is_ok());
        assert!(
            check_ipam(&Ipam {
                gateway: "10.2.0.1".parse().unwrap(),
                ..ok.clone()
            })
            .is_err()
        );
        assert!(
            check_ipam(&Ipam {
                range: Some(net("10.0.0.0/8")),
                ..ok.clone()
            })
            .is_err()
        );
        let aux = [("x".to_owned(), "10.2.0.1".parse().unwrap())].into();
        assert!(check_ipam(&Ipam { reserved: aux, ..ok }).is_err());
        assert!(check_subnet(&net("10.1.0.0/24"), &[net("10.1.0.0/16")]).is_err());
    }

    fn v4_net(lengths: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = IpNet> {
        (any::<u32>(), lengths).prop_map(|(address, length)| {
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), length).trunc())
        })
    }

    proptest! {
        #[test]
        fn a_chosen_subnet_overlaps_nothing(taken in proptest::collection::vec(v4_net(8..=32), 0..40)) {
            if let Ok(subnet) = choose_subnet(&default_pools(), &taken) {
                prop_assert!(taken.iter().all(|net| !overlaps(net, &subnet)));
            }
        }

        #[test]
        fn what_is_given_is_free_inside_and_the_lowest(
            subnet in v4_net(22..=32),
            offsets in proptest::collection::btree_set(0u32..1024, 0..300),
        ) {
            let ipam = Ipam::new(subnet);
            let IpAddr::V4(base) = subnet.network() else { unreachable!() };
            let used: BTreeSet<IpAddr> = offsets.iter().map(|offset| IpAddr::from(Ipv4Addr::from(base.to_bits().wrapping_add(*offset)))).collect();
            let free = |address: &IpAddr| claim(&ipam, *address, &used).is_ok();
            let expected = subnet.hosts().filter(free).min();
            prop_assert_eq!(next_free(&ipam, &used).ok(), expected);
        }

        #[test]
        fn sequential_allocation_never_repeats(count in 1usize..200, subnet in prop_oneof![v4_net(16..=24), Just(net("fd00::/64"))]) {
            let ipam = Ipam::new(subnet);
            let mut used = BTreeSet::new();
            for _ in 0..count {
                let address = next_free(&ipam, &used).unwrap();
                prop_assert!(subnet.contains(&address) && address != ipam.gateway);
                prop_assert!(used.insert(address));
            }
        }
    }
}
