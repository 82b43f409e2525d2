//! Bridges and endpoints: what `apply` does to the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use ferry_net::{Endpoint, EndpointPlan, Ipam, NetworkConfig, apply, plan_endpoint};

use crate::harness::{Netns, ip, on_private_host, pings, run};

/// The default network of these tests.
pub fn network(name: &str, bridge: &str, subnets: &[&str]) -> NetworkConfig {
    let subnets = subnets
        .iter()
        .map(|subnet| Ipam::new(subnet.parse().expect("subnet")))
        .collect();
    NetworkConfig::bridge(format!("{bridge:0>64}"), name, bridge, subnets)
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Ids that differ wherever names and Ethernet addresses are taken from them.
fn id(number: u32) -> String {
    format!("{number:08x}").repeat(8)
}

/// Plans and attaches one more endpoint to a new sandbox.
pub fn sandbox(network: &NetworkConfig, in_use: &mut BTreeSet<IpAddr>) -> (Netns, EndpointPlan) {
    let netns = Netns::new();
    let id = id(NEXT.fetch_add(1, Ordering::Relaxed));
    let endpoint = Endpoint {
        id,
        default_route: true,
        ..Endpoint::default()
    };
    let plan = plan_endpoint(network, &endpoint, in_use).expect("plan");
    in_use.extend(plan.addresses.iter().map(|net| net.addr()));
    apply::attach(&plan, netns.fd()).expect("attach");
    (netns, plan)
}

fn text(program: &str, arguments: &str) -> String {
    String::from_utf8_lossy(&run(program, arguments).stdout).into_owned()
}

#[test]
fn two_sandboxes_reach_each_other_and_the_gateway() {
    on_private_host(|| {
        let network = network("bridge", "ferry0", &["172.17.0.0/16"]);
        apply::ensure_bridge(&network).expect("bridge");
        apply::ensure_bridge(&network).expect("bridge again");
        let mut in_use = BTreeSet::new();
        let (one, plan) = sandbox(&network, &mut in_use);
        let (two, _) = sandbox(&network, &mut in_use);
        for address in ["172.17.0.3", "172.17.0.1", "127.0.0.1", "::1"] {
            assert!(one.run(|| pings(address)), "{address}");
        }
        assert!(two.run(|| pings("172.17.0.2")));
        let inside = one.run(|| text("ip", "addr show dev eth0"));
        assert!(inside.contains(&format!("link/ether {}", plan.mac)), "{inside}");
        assert!(
            inside.contains("inet 172.17.0.2/16 brd 172.17.255.255"),
            "{inside}"
        );
        assert!(
            !inside.contains("inet6"),
            "no IPv6 address unless allocated: {inside}"
        );
        let routes = one.run(|| text("ip", "route"));
        assert!(routes.starts_with("default via 172.17.0.1 dev eth0"), "{routes}");
        assert!(!routes.contains("linkdown"));
        let links = apply::list_links().expect("links");
        let bridge = links.iter().find(|link| link.name == "ferry0").expect("bridge");
        let port = links
            .iter()
            .find(|link| link.name == plan.host_link)
            .expect("port");
        assert_eq!(
            (bridge.kind.as_str(), port.kind.as_str(), port.master),
            ("bridge", "veth", Some(bridge.index))
        );
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .expect("knob")
                .trim(),
            "1"
        );
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv6/conf/ferry0/disable_ipv6")
                .expect("knob")
                .trim(),
            "1"
        );
    });
}

#[test]
fn detaching_and_failing_leave_nothing_behind() {
    on_private_host(|| {
        let network = network("bridge", "ferry0", &["172.17.0.0/16"]);
        apply::ensure_bridge(&network).expect("bridge");
        let (sandbox_a, plan) = sandbox(&network, &mut BTreeSet::new());
        apply::detach(&plan).expect("detach");
        apply::detach(&plan).expect("detach again");
        let mut broken = plan.clone();
        broken.routes[0].gateway = Some("10.9.9.9".parse().expect("address"));
        let error = apply::attach(&broken, sandbox_a.fd()).expect_err("unreachable gateway");
        assert_eq!(
            error.to_string(),
            "add route 0.0.0.0/0: Network is unreachable (os error 101) (Nexthop has invalid gateway)"
        );
        let names: Vec<String> = apply::list_links()
            .expect("links")
            .into_iter()
            .map(|link| link.name)
            .collect();
        assert!(!names.contains(&plan.host_link), "{names:?}");
        apply::attach(&plan, sandbox_a.fd()).expect("attach after all");
        assert!(apply::attach(&plan, sandbox_a.fd()).is_err(), "twice is an error");
        drop(sandbox_a);
        apply::remove_bridge(&network).expect("remove");
        apply::remove_bridge(&network).expect("remove again");
        let error = apply::attach(&plan, Netns::new().fd()).expect_err("no bridge");
        assert!(
            error.to_string().contains("bridge ferry0 is not there"),
            "{error}"
        );
    });
}

#[test]
fn both_families_and_a_smaller_mtu() {
    on_private_host(|| {
        let mut network = network("six", "br-six", &["10.50.0.0/24", "fd00:50::/64"]);
        network.mtu = Some(1400);
        apply::ensure_bridge(&network).expect("bridge");
        let mut in_use = BTreeSet::new();
        let (one, _) = sandbox(&network, &mut in_use);
        let (_two, _) = sandbox(&network, &mut in_use);
        for address in ["fd00:50::3", "fd00:50::1", "10.50.0.3"] {
            assert!(one.run(|| pings(address)), "{address}");
        }
        let link = one.run(|| text("ip", "link show dev eth0"));
        assert!(link.contains("mtu 1400"), "{link}");
        let routes = one.run(|| text("ip", "-6 route"));
        assert!(routes.contains("default via fd00:50::1 dev eth0"), "{routes}");
    });
}

#[test]
fn a_host_keeps_the_routes_that_its_router_advertises() {
    on_private_host(|| {
        let lan = Netns::new();
        lan.cable("lan0", "192.0.2.1/24", "192.0.2.2/24");
        apply::ensure_bridge(&network("six", "br-six", &["fd00:50::/64"])).expect("bridge");
        let knob = |link: &str| {
            std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/accept_ra")).expect("knob")
        };
        assert_eq!((knob("lan0").trim(), knob("br-six").trim()), ("2", "0"));
    });
}

#[test]
fn without_icc_sandboxes_reach_the_gateway_only() {
    on_private_host(|| {
        let network = NetworkConfig {
            icc: false,
            ..network("quiet", "br-quiet", &["10.51.0.0/24"])
        };
        apply::ensure_bridge(&network).expect("bridge");
        let mut in_use = BTreeSet::new();
        let (one, _) = sandbox(&network, &mut in_use);
        let (_two, _) = sandbox(&network, &mut in_use);
        assert!(one.run(|| pings("10.51.0.1")));
        assert!(!one.run(|| pings("10.51.0.3")));
    });
}

#[test]
fn a_changed_subnet_replaces_the_address_and_a_foreign_link_is_refused() {
    on_private_host(|| {
        apply::ensure_bridge(&network("bridge", "ferry0", &["172.17.0.0/16"])).expect("bridge");
        apply::ensure_bridge(&network("bridge", "ferry0", &["172.20.0.0/16"])).expect("bridge");
        let addresses = text("ip", "addr show dev ferry0");
        assert!(
            addresses.contains("172.20.0.1/16") && !addresses.contains("172.17"),
            "{addresses}"
        );
        ip("link add ferry1 type veth peer name other");
        let error =
            apply::ensure_bridge(&network("bridge", "ferry1", &["172.21.0.0/16"])).expect_err("no bridge");
        assert!(
            error.to_string().contains("link ferry1 exists and is no bridge"),
            "{error}"
        );
    });
}

#[test]
fn what_the_host_uses_is_occupied() {
    on_private_host(|| {
        let lan = Netns::new();
        lan.cable("d0", "192.0.2.7/24", "192.0.2.8/24");
        ip("route add 172.18.0.0/15 via 192.0.2.1");
        ip("route add default via 192.0.2.1");
        apply::ensure_bridge(&network("bridge", "ferry0", &["172.20.0.0/16"])).expect("bridge");
        let v4 = |except: &[&str]| -> Vec<String> {
            let nets = apply::occupied(except).expect("occupied");
            nets.iter()
                .map(ToString::to_string)
                .filter(|net| !net.contains("::"))
                .collect()
        };
        assert_eq!(v4(&["ferry0"]), ["127.0.0.0/8", "172.18.0.0/15", "192.0.2.0/24"]);
        assert!(v4(&[]).contains(&"172.20.0.0/16".to_owned()));
    });
}

#[test]
fn a_sandbox_without_networks_has_its_loopback() {
    on_private_host(|| {
        let netns = Netns::new();
        assert!(!netns.run(|| pings("127.0.0.1")));
        apply::loopback_up(netns.fd()).expect("loopback");
        assert!(netns.run(|| pings("127.0.0.1") && pings("::1")));
    });
}

/// Not a check but a number: what a start pays for its network.
#[test]
fn how_long_attaching_takes() {
    on_private_host(|| {
        let network = network("bridge", "ferry0", &["172.17.0.0/16"]);
        apply::ensure_bridge(&network).expect("bridge");
        let mut in_use = BTreeSet::new();
        let mut micros = Vec::new();
        let mut sandboxes = Vec::new();
        for index in 0..60u32 {
            let netns = Netns::new();
            let endpoint = Endpoint {
                id: id(index),
                default_route: true,
                ..Endpoint::default()
            };
            let plan = plan_endpoint(&network, &endpoint, &in_use).expect("plan");
            in_use.extend(plan.addresses.iter().map(|net| net.addr()));
            let start = Instant::now();
            apply::attach(&plan, netns.fd()).expect("attach");
            micros.push(start.elapsed().as_micros());
            sandboxes.push(netns);
        }
        micros.sort_unstable();
        println!(
            "attach of 60 endpoints: p50 {} µs, p95 {} µs",
            micros[30], micros[57]
        );
    });
}
