//! Packet rules: what nft reads in them, and what they do to packets.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use ferry_net::rules::{Firewall, NetworkRules, State, table};
use ferry_net::{NetworkConfig, Proto, Published, apply, conntrack};

use crate::bridge::{network, sandbox};
use crate::harness::{Netns, ask_tcp, ask_udp, ip, on_private_host, pings, run, serve_tcp, serve_udp};

fn published(proto: Proto, host: &str, host_port: u16, container: &str, container_port: u16) -> Published {
    let (host_ip, container_ip) = (host.parse().expect("host"), container.parse().expect("container"));
    Published {
        proto,
        host_ip,
        host_port,
        container_ip,
        container_port,
    }
}

fn state(networks: &[&NetworkConfig], ports: &[Published]) -> State {
    State {
        networks: networks
            .iter()
            .filter_map(|network| NetworkRules::of(network))
            .collect(),
        published: ports.iter().copied().collect(),
        guard_forwarding: false,
    }
}

/// `nft list ruleset`, or nothing where nft is not installed.
fn listed() -> Option<String> {
    let output = Command::new("nft")
        .args(["-n", "list", "ruleset"])
        .output()
        .ok()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(sorted(&String::from_utf8_lossy(&output.stdout)))
}

/// The text with the elements of each set sorted: the kernel lists them in the order of a seeded hash.
fn sorted(text: &str) -> String {
    let mut parts = text.split("elements = {");
    let mut sorted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (elements, rest) = part.split_once('}').expect("closed list");
        let mut elements: Vec<&str> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        sorted.push_str(&format!("elements = {{ {} }}{rest}", elements.join(", ")));
    }
    sorted
}

fn many_ports() -> State {
    let default = network("bridge", "ferry0", &["172.17.0.0/16", "fd00:17::/64"]);
    let beside = network("beside", "br-beside", &["172.18.0.0/16"]);
    let quiet = NetworkConfig {
        internal: true,
        icc: false,
        ..network("quiet", "br-quiet", &["10.7.0.0/24"])
    };
    let ports = [
        published(Proto::Tcp, "0.0.0.0", 8080, "172.17.0.2", 80),
        published(Proto::Udp, "0.0.0.0", 8080, "172.17.0.2", 80),
        published(Proto::Sctp, "127.0.0.1", 99, "172.17.0.3", 99),
        published(Proto::Tcp, "::", 8080, "fd00:17::2", 80),
        published(Proto::Tcp, "2001:db8::1", 443, "fd00:17::2", 443),
        published(Proto::Tcp, "::", 81, "172.17.0.2", 80),
    ];
    State {
        guard_forwarding: true,
        ..state(&[&default, &beside, &quiet], &ports)
    }
}

#[test]
fn nft_reads_in_the_kernel_what_our_text_says() {
    on_private_host(|| {
        let state = many_ports();
        let mut firewall = Firewall::open().expect("open");
        firewall.apply(state.clone()).expect("apply");
        let Some(ours) = listed() else {
            println!("skipped: nft is not installed");
            return;
        };
        let theirs = Netns::new().run(|| {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("nft");
            let text: String = table::tables(&state).iter().map(ToString::to_string).collect();
            nft.stdin
                .take()
                .expect("stdin")
                .write_all(text.as_bytes())
                .expect("write");
            assert!(nft.wait().expect("wait").success(), "{text}");
            listed().expect("nft")
        });
        assert_eq!(ours, theirs);
        // Not only the same after a replacement, but replaced: nothing is doubled.
        firewall.apply(state).expect("apply again");
        assert_eq!(listed().expect("nft"), ours);
        firewall.remove().expect("remove");
        firewall.remove().expect("remove again");
        assert_eq!(listed().expect("nft"), "");
    });
}

#[test]
fn ports_come_and_go_and_a_flush_is_repaired() {
    on_private_host(|| {
        let network = network("bridge", "ferry0", &["172.17.0.0/16"]);
        let (one, two) = (
            published(Proto::Tcp, "0.0.0.0", 80, "172.17.0.2", 80),
            published(Proto::Tcp, "127.0.0.1", 81, "172.17.0.2", 81),
        );
        let mut firewall = Firewall::open().expect("open");
        firewall.apply(state(&[&network], &[one])).expect("apply");
        let with_one = listed();
        firewall.publish(&[one, two]).expect("publish");
        assert!(!firewall.reconcile().expect("reconcile"), "nothing to do");
        let with_both = listed();
        firewall.unpublish(&[two, two]).expect("unpublish");
        firewall.unpublish(&[two]).expect("unpublish what is not there");
        assert_eq!(listed(), with_one);
        if with_one.is_none() {
            println!("skipped: nft is not installed");
            return;
        }
        assert_ne!(with_one, with_both);
        run("nft", "flush ruleset");
        assert!(firewall.reconcile().expect("reconcile"));
        assert_eq!(listed(), with_one);
        run("nft", "flush ruleset");
        firewall.publish(&[two]).expect("publish into nothing");
        assert_eq!(listed(), with_both);
        run("nft", "add table ip somebody");
        assert!(firewall.reconcile().expect("reconcile"));
        assert!(
            listed().expect("nft").contains("table ip somebody"),
            "others' tables stay"
        );
        run("nft", "flush ruleset");
        firewall.unpublish(&[two]).expect("unpublish from nothing");
        assert_eq!(listed(), with_one);
    });
}

#[test]
fn the_cost_of_a_port_does_not_depend_on_the_others() {
    on_private_host(|| {
        let network = network("bridge", "ferry0", &["172.17.0.0/16"]);
        let ports: Vec<Published> = (1..=20_000)
            .map(|port| published(Proto::Tcp, "0.0.0.0", port, "172.17.0.2", port))
            .collect();
        let mut firewall = Firewall::open().expect("open");
        firewall.apply(state(&[&network], &[])).expect("apply");
        let one = published(Proto::Udp, "0.0.0.0", 80, "172.17.0.2", 80);
        let time = |firewall: &mut Firewall| {
            let mut micros: Vec<u128> = (0..20)
                .map(|_| {
                    let start = Instant::now();
                    firewall.publish(&[one]).expect("publish");
                    let elapsed = start.elapsed().as_micros();
                    firewall.unpublish(&[one]).expect("unpublish");
                    elapsed
                })
                .collect();
            micros.sort_unstable();
            micros[10]
        };
        let alone = time(&mut firewall);
        let start = Instant::now();
        firewall
            .apply(state(&[&network], &ports))
            .expect("apply 20,000 ports");
        let whole = start.elapsed().as_millis();
        let among = time(&mut firewall);
        println!("publishing a port: {alone} µs alone, {among} µs among 20,000; all of those in {whole} ms");
    });
}

/// A host with a LAN, two bridge networks and a server in each of three sandboxes.
struct World {
    lan: Netns,
    first: Netns,
    second: Netns,
    beside: Netns,
    firewall: Firewall,
}

fn world() -> World {
    let lan = Netns::new();
    lan.cable("lan0", "192.0.2.1/24", "192.0.2.2/24");
    let default = network("bridge", "ferry0", &["172.17.0.0/16"]);
    let other = network("beside", "br-beside", &["172.18.0.0/16"]);
    for network in [&default, &other] {
        apply::ensure_bridge(network).expect("bridge");
    }
    let mut in_use: BTreeSet<IpAddr> = BTreeSet::new();
    let (first, _) = sandbox(&default, &mut in_use);
    let (second, _) = sandbox(&default, &mut in_use);
    let (beside, _) = sandbox(&other, &mut in_use);
    for netns in [&first, &second, &beside] {
        netns.run(|| {
            serve_tcp("0.0.0.0:80");
            serve_udp("0.0.0.0:80");
        });
    }
    lan.run(|| serve_tcp("0.0.0.0:80"));
    let ports = [
        published(Proto::Tcp, "0.0.0.0", 8080, "172.17.0.2", 80),
        published(Proto::Udp, "0.0.0.0", 8080, "172.17.0.2", 80),
        published(Proto::Tcp, "127.0.0.1", 8081, "172.17.0.2", 80),
        published(Proto::Tcp, "192.0.2.1", 8082, "172.18.0.2", 80),
    ];
    let mut firewall = Firewall::open().expect("open");
    firewall.apply(state(&[&default, &other], &ports)).expect("apply");
    World {
        lan,
        first,
        second,
        beside,
        firewall,
    }
}

#[test]
fn what_leaves_has_the_hosts_address() {
    on_private_host(|| {
        let world = world();
        assert_eq!(
            world.first.run(|| ask_tcp("192.0.2.2:80")).expect("answer"),
            "192.0.2.1"
        );
        assert!(world.first.run(|| pings("192.0.2.2")));
        assert_eq!(
            world.first.run(|| ask_tcp("172.17.0.3:80")).expect("neighbour"),
            "172.17.0.2",
            "and only then"
        );
    });
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    on_private_host(|| {
        let world = world();
        assert_eq!(
            world.lan.run(|| ask_tcp("192.0.2.1:8080")).expect("from the LAN"),
            "192.0.2.2"
        );
        assert_eq!(
            world.lan.run(|| ask_udp("192.0.2.1:8080")).expect("from the LAN"),
            "192.0.2.2"
        );
        assert_eq!(
            world
                .lan
                .run(|| ask_tcp("192.0.2.1:8082"))
                .expect("on one address"),
            "192.0.2.2"
        );
        assert_eq!(
            ask_tcp("127.0.0.1:8080").expect("the host by 127.0.0.1"),
            "172.17.0.1"
        );
        assert_eq!(
            ask_udp("127.0.0.1:8080").expect("the host by 127.0.0.1"),
            "172.17.0.1"
        );
        assert_eq!(
            ask_tcp("127.0.0.1:8081").expect("bound to 127.0.0.1"),
            "172.17.0.1"
        );
        assert!(ask_tcp("192.0.2.1:8080").is_ok(), "the host by its own address");
        assert!(
            ask_tcp("172.17.0.1:8080").is_ok(),
            "the host by the bridge's address"
        );
        assert!(ask_tcp("172.17.0.2:80").is_ok(), "the host directly");
        for (who, netns) in [
            ("itself", &world.first),
            ("a neighbour", &world.second),
            ("another network", &world.beside),
        ] {
            for address in ["192.0.2.1:8080", "172.17.0.1:8080", "172.18.0.1:8080"] {
                assert!(netns.run(|| ask_tcp(address)).is_ok(), "{who} by {address}");
            }
            assert!(netns.run(|| ask_udp("192.0.2.1:8080")).is_ok(), "{who} by UDP");
        }
    });
}

#[test]
fn all_else_is_closed() {
    on_private_host(|| {
        let mut world = world();
        world.lan.run(|| {
            // A neighbour that knows the way: the host routes for it.
            ip("route add 172.17.0.0/16 via 192.0.2.1");
            ip("route add 127.0.0.0/8 via 192.0.2.1 table 7");
            ip("rule add pref 0 to 127.0.0.1 ipproto tcp dport 8081 table 7");
        });
        assert!(
            world.lan.run(|| ask_tcp("172.17.0.2:80")).is_err(),
            "no direct way in, even to a published port"
        );
        assert!(!world.lan.run(|| pings("172.17.0.2")));
        assert!(
            world.lan.run(|| ask_tcp("192.0.2.1:8081")).is_err(),
            "127.0.0.1 is not the LAN's business"
        );
        assert!(
            world.first.run(|| ask_tcp("172.17.0.1:8081")).is_err(),
            "nor a sandbox's"
        );
        assert!(
            world.first.run(|| ask_tcp("172.18.0.2:80")).is_err(),
            "no way between networks"
        );
        assert!(!world.beside.run(|| pings("172.17.0.2")));
        assert!(
            ask_tcp("127.0.0.1:8082").is_err(),
            "bound to the LAN's address only"
        );
        let gone = published(Proto::Tcp, "0.0.0.0", 8080, "172.17.0.2", 80);
        world.firewall.unpublish(&[gone]).expect("unpublish");
        assert!(world.lan.run(|| ask_tcp("192.0.2.1:8080")).is_err());
        assert!(ask_tcp("127.0.0.1:8080").is_err());
    });
}

#[test]
fn the_hosts_loopback_is_out_of_a_sandboxs_reach() {
    on_private_host(|| {
        let world = world();
        serve_tcp("127.0.0.1:9000");
        assert!(ask_tcp("127.0.0.1:9000").is_ok());
        let rogue = |netns: &Netns| {
            netns.run(|| {
                // What a privileged sandbox, or a neighbour on the LAN, can do.
                std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("knob");
                ip("addr del 127.0.0.1/8 dev lo");
                run("ip", "route del local 127.0.0.0/8 dev lo table local");
                let gateway = if netns.fd().as_raw_fd() == world.lan.fd().as_raw_fd() {
                    "192.0.2.1"
                } else {
                    "172.17.0.1"
                };
                ip(&format!("route add 127.0.0.1/32 via {gateway} dev eth0"));
                ask_tcp("127.0.0.1:9000").is_ok() || ask_tcp("127.0.0.1:8081").is_ok()
            })
        };
        assert!(!rogue(&world.first));
        assert!(!rogue(&world.lan));
        // Even where the host's owner lets the LAN's packets for 127.0.0.1 in, they are not translated.
        std::fs::write("/proc/sys/net/ipv4/conf/lan0/route_localnet", "1").expect("knob");
        assert!(world.lan.run(|| ask_tcp("127.0.0.1:8081")).is_err());
    });
}

#[test]
fn an_internal_network_and_a_guarded_host() {
    on_private_host(|| {
        let lan = Netns::new();
        lan.cable("lan0", "192.0.2.1/24", "192.0.2.2/24");
        let far = Netns::new();
        far.cable("far0", "198.51.100.1/24", "198.51.100.2/24");
        let inside = NetworkConfig {
            internal: true,
            ..network("inside", "br-inside", &["10.8.0.0/24"])
        };
        apply::ensure_bridge(&inside).expect("bridge");
        let mut in_use = BTreeSet::new();
        let (one, _) = sandbox(&inside, &mut in_use);
        let (_two, _) = sandbox(&inside, &mut in_use);
        let mut firewall = Firewall::open().expect("open");
        firewall.apply(state(&[&inside], &[])).expect("apply");
        one.run(|| ip("route add default via 10.8.0.1"));
        assert!(one.run(|| pings("10.8.0.3") && pings("10.8.0.1")));
        assert!(!one.run(|| pings("192.0.2.2")));
        lan.run(|| ip("route add default via 192.0.2.1"));
        far.run(|| ip("route add default via 198.51.100.1"));
        assert!(lan.run(|| pings("198.51.100.2")), "a router stays one");
        firewall
            .apply(State {
                guard_forwarding: true,
                ..firewall.state().clone()
            })
            .expect("apply");
        assert!(
            !lan.run(|| pings("198.51.100.2")),
            "who was none does not become one"
        );
        assert!(lan.run(|| pings("192.0.2.1")));
    });
}

#[test]
fn connections_are_forgotten_where_rules_changed() {
    on_private_host(|| {
        let mut world = world();
        let port = published(Proto::Udp, "0.0.0.0", 9090, "172.17.0.2", 80);
        let client = world.lan.run(|| {
            let client = std::net::UdpSocket::bind("192.0.2.2:40000").expect("bind");
            client
                .set_read_timeout(Some(std::time::Duration::from_millis(300)))
                .expect("timeout");
            client
        });
        let _silent = std::net::UdpSocket::bind("0.0.0.0:9090").expect("bind");
        let mut answer = [0; 64];
        client.send_to(b"?", "192.0.2.1:9090").expect("send");
        assert!(client.recv(&mut answer).is_err(), "nobody answers yet");
        world.firewall.publish(&[port]).expect("publish");
        assert_eq!(conntrack::forget_udp_port(9090).expect("forget"), 1);
        client.send_to(b"?", "192.0.2.1:9090").expect("send");
        let length = client
            .recv(&mut answer)
            .expect("the same client is translated now");
        assert_eq!(&answer[..length], b"192.0.2.2");
        let endpoint = "172.17.0.2".parse().expect("address");
        assert_eq!(conntrack::forget_endpoint(endpoint).expect("forget"), 1);
        assert_eq!(conntrack::forget_endpoint(endpoint).expect("forget"), 0);
        assert_eq!(
            conntrack::forget_endpoint("fd00::2".parse().expect("address")).expect("forget"),
            0
        );
    });
}

#[test]
fn six() {
    on_private_host(|| {
        let lan = Netns::new();
        lan.cable("lan0", "2001:db8::1/64", "2001:db8::2/64");
        let network = network("six", "ferry0", &["172.17.0.0/16", "fd00:17::/64"]);
        apply::ensure_bridge(&network).expect("bridge");
        let (one, _) = sandbox(&network, &mut BTreeSet::new());
        one.run(|| serve_tcp("[::]:80"));
        lan.run(|| serve_tcp("[::]:80"));
        let mut firewall = Firewall::open().expect("open");
        firewall
            .apply(state(
                &[&network],
                &[published(Proto::Tcp, "::", 8080, "fd00:17::2", 80)],
            ))
            .expect("apply");
        assert_eq!(
            lan.run(|| ask_tcp("[2001:db8::1]:8080")).expect("from the LAN"),
            "2001:db8::2"
        );
        assert_eq!(
            one.run(|| ask_tcp("[2001:db8::2]:80")).expect("to the LAN"),
            "2001:db8::1"
        );
        assert!(ask_tcp("[2001:db8::1]:8080").is_ok(), "the host");
        assert!(one.run(|| ask_tcp("[2001:db8::1]:8080")).is_ok(), "itself");
        lan.run(|| ip("route add fd00:17::/64 via 2001:db8::1"));
        assert!(
            lan.run(|| ask_tcp("[fd00:17::2]:80")).is_err(),
            "no direct way in"
        );
    });
}
