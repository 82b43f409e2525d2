//! The packet rules as data: from networks and published ports to two tables. Pure.
//!
//! The rules are the same few whatever the number of networks and ports: those are elements of sets and maps, so that
//! publishing a port costs one element, and a packet costs the same with one port or with ten thousand. A table's
//! [`Display`](fmt::Display) is what `nft -f` reads.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::State;
use crate::{Proto, Published};

/// The table's name, in both families.
pub const TABLE: &str = "ferry";

/// An address family of nf_tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `ip`.
    V4,
    /// `ip6`.
    V6,
}

impl Family {
    fn keyword(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Family::V4)
    }
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The family of the packets that it sees.
    pub family: Family,
    /// Its sets and maps.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// The type of a part of a set's key or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A link's name.
    Ifname,
    /// An address of the table's family.
    Address,
    /// A transport protocol.
    Protocol,
    /// A port.
    Service,
}

/// A set, or a map if it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The name.
    pub name: &'static str,
    /// The key's parts.
    pub key: &'static [Type],
    /// The data's parts; empty for a set.
    pub data: &'static [Type],
    /// Whether the elements are ranges.
    pub interval: bool,
    /// What is in it.
    pub elements: Vec<Element>,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key's parts.
    pub key: Vec<Value>,
    /// The data's parts.
    pub data: Vec<Value>,
}

/// A part of an element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A link's name.
    Ifname(String),
    /// An address.
    Address(IpAddr),
    /// All addresses from the first to the last.
    Range(IpAddr, IpAddr),
    /// A transport protocol.
    Protocol(Proto),
    /// A port.
    Service(u16),
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The name.
    pub name: &'static str,
    /// Where packets enter it; `None` for one that is only jumped to.
    pub hook: Option<Hook>,
    /// The rules, each a conjunction of matches with a verdict at its end.
    pub rules: Vec<Vec<Statement>>,
}

/// Where in the kernel a base chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// The hook.
    pub point: Point,
    /// The order among the chains of a hook.
    pub priority: i32,
    /// Whether a packet that no rule decides about is dropped.
    pub drop: bool,
}

/// A hook of netfilter, by its number (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// What arrives.
    Prerouting = 0,
    /// What passes through.
    Forward = 2,
    /// What the host sends.
    Output = 3,
    /// What leaves.
    Postrouting = 4,
}

/// Something to look at in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The link that it came by.
    Iif,
    /// The link that it leaves by.
    Oif,
    /// Its source.
    Saddr,
    /// Its destination.
    Daddr,
    /// Its transport protocol.
    Protocol,
    /// Its destination port.
    Dport,
}

/// A match, or what becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The fields together are in the set.
    In(&'static [Field], &'static str),
    /// The address is (or, negated, is not) in the block.
    Block {
        /// Source or destination.
        field: Field,
        /// The block.
        net: IpNet,
        /// Turns it round.
        negate: bool,
    },
    /// The destination is one of the host's own addresses.
    ToHost,
    /// The packet belongs to, or is about, a connection that was let in before.
    Established,
    /// A published port's translation brought the packet here.
    Translated,
    /// Lets it pass this chain's hook.
    Accept,
    /// Drops it.
    Drop,
    /// Asks another chain.
    Jump(&'static str),
    /// Gives it the host's address as its source.
    Masquerade,
    /// Gives it the destination that the map has for the fields; goes on if it has none.
    Dnat(&'static [Field], &'static str),
}

/// The maps' keys: with and without the host's address.
pub const ON: &str = "published_on";
/// See [`ON`].
pub const ANY: &str = "published";

/// The two tables of a state.
pub fn tables(state: &State) -> [Table; 2] {
    [Family::V4, Family::V6].map(|family| Table {
        family,
        sets: sets(family, state),
        chains: chains(family, state),
    })
}

/// The map of a published port, and its element. `None` if rules of this family cannot carry it.
pub fn element_of(family: Family, published: &Published) -> Option<(&'static str, Element)> {
    if !family.holds(published.host_ip) || !family.holds(published.container_ip) {
        return None;
    }
    let data = vec![
        Value::Address(published.container_ip),
        Value::Service(published.container_port),
    ];
    let mut key = vec![
        Value::Protocol(published.proto),
        Value::Service(published.host_port),
    ];
    if published.host_ip.is_unspecified() {
        return Some((ANY, Element { key, data }));
    }
    key.insert(0, Value::Address(published.host_ip));
    Some((ON, Element { key, data }))
}

fn sets(family: Family, state: &State) -> Vec<Set> {
    let name = |bridge: &String| Value::Ifname(bridge.clone());
    let names = |wanted: &dyn Fn(&super::NetworkRules) -> bool, times: usize| -> Vec<Element> {
        let bridges: BTreeSet<&String> = state
            .networks
            .iter()
            .filter(|net| wanted(net))
            .map(|net| &net.bridge)
            .collect();
        bridges
            .into_iter()
            .map(|bridge| Element {
                key: vec![name(bridge); times],
                data: Vec::new(),
            })
            .collect()
    };
    let published = |map: &str| -> Vec<Element> {
        let all = state
            .published
            .iter()
            .filter_map(|published| element_of(family, published));
        let elements: BTreeSet<Element> = all
            .filter(|(name, _)| *name == map)
            .map(|(_, element)| element)
            .collect();
        elements.into_iter().collect()
    };
    let set = |name, key, elements| Set {
        name,
        key,
        data: &[],
        interval: false,
        elements,
    };
    let target: &[Type] = &[Type::Address, Type::Service];
    vec![
        set("bridges", &[Type::Ifname], names(&|_| true, 1)),
        set("internal", &[Type::Ifname], names(&|net| net.internal, 1)),
        set("icc", &[Type::Ifname, Type::Ifname], names(&|net| net.icc, 2)),
        Set {
            interval: true,
            ..set("subnets", &[Type::Address], ranges(family, state, &|_| true))
        },
        Set {
            interval: true,
            ..set(
                "masqueraded",
                &[Type::Address],
                ranges(family, state, &|net| net.masquerade && !net.internal),
            )
        },
        Set {
            data: target,
            ..set(ON, &[Type::Address, Type::Protocol, Type::Service], published(ON))
        },
        Set {
            data: target,
            ..set(ANY, &[Type::Protocol, Type::Service], published(ANY))
        },
    ]
}

/// Subnets of the networks that are wanted, as ranges that do not touch each other.
fn ranges(family: Family, state: &State, wanted: &dyn Fn(&super::NetworkRules) -> bool) -> Vec<Element> {
    let networks = state.networks.iter().filter(|net| wanted(net));
    let subnets = networks
        .flat_map(|net| &net.subnets)
        .filter(|subnet| family.holds(subnet.addr()));
    let mut ranges: Vec<(IpAddr, IpAddr)> = subnets.map(|net| (net.network(), net.broadcast())).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(IpAddr, IpAddr)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if successor(previous.1).is_none_or(|next| next >= first) => {
                previous.1 = previous.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
        .into_iter()
        .map(|(first, last)| Element {
            key: vec![Value::Range(first, last)],
            data: Vec::new(),
        })
        .collect()
}

/// The next address; none after the last one.
pub fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        Family::V6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    }
}

fn chains(family: Family, state: &State) -> Vec<Chain> {
    use Statement::{Accept, Dnat, Drop, Established, In, Jump, Masquerade, ToHost, Translated};
    let base = |name, kind, point, priority, rules| Chain {
        name,
        hook: Some(Hook {
            kind,
            point,
            priority,
            drop: false,
        }),
        rules,
    };
    let loopback = |field, negate| Statement::Block {
        field,
        net: loopback(family),
        negate,
    };
    let mut forward = vec![
        vec![In(&[Field::Iif, Field::Oif], "icc"), Accept],
        vec![In(&[Field::Iif], "internal"), Drop],
        vec![In(&[Field::Oif], "internal"), Drop],
        vec![In(&[Field::Oif], "bridges"), Jump("inbound")],
    ];
    if state.guard_forwarding {
        forward.push(vec![In(&[Field::Iif], "bridges"), Accept]);
        forward.push(vec![Established, Accept]);
    }
    let mut forward = base("forward", "filter", Point::Forward, 0, forward);
    if let Some(hook) = &mut forward.hook {
        hook.drop = state.guard_forwarding;
    }
    // The host's loopback is no neighbour's business, though route_localnet is on for the bridges.
    let raw = vec![vec![
        In(&[Field::Iif], "bridges"),
        loopback(Field::Daddr, false),
        Drop,
    ]];
    // IPv6 cannot leave the loopback: ::1 is left to the relay.
    let output = match family {
        Family::V4 => vec![ToHost, Jump("published")],
        Family::V6 => vec![loopback(Field::Daddr, true), ToHost, Jump("published")],
    };
    let postrouting = vec![
        vec![
            In(&[Field::Oif], "bridges"),
            loopback(Field::Saddr, false),
            Masquerade,
        ],
        // A client that reaches itself or a neighbour by a published port must get its answer back through the
        // translation. The link that it came by is not told here when br_netfilter translates on the bridge itself.
        vec![
            In(&[Field::Oif], "bridges"),
            In(&[Field::Saddr], "subnets"),
            Translated,
            Masquerade,
        ],
        vec![In(&[Field::Iif, Field::Oif], "icc"), Accept],
        vec![
            In(&[Field::Iif], "bridges"),
            In(&[Field::Saddr], "masqueraded"),
            Masquerade,
        ],
    ];
    let chain = |name, rules| Chain {
        name,
        hook: None,
        rules,
    };
    vec![
        chain(
            "inbound",
            vec![vec![Established, Accept], vec![Translated, Accept], vec![Drop]],
        ),
        chain(
            "published",
            vec![
                vec![Dnat(&[Field::Daddr, Field::Protocol, Field::Dport], ON)],
                vec![Dnat(&[Field::Protocol, Field::Dport], ANY)],
            ],
        ),
        base("raw", "filter", Point::Prerouting, -300, raw),
        base(
            "prerouting",
            "nat",
            Point::Prerouting,
            -100,
            vec![vec![loopback(Field::Daddr, true), ToHost, Jump("published")]],
        ),
        base("output", "nat", Point::Output, -100, vec![output]),
        forward,
        base("postrouting", "nat", Point::Postrouting, 100, postrouting),
    ]
}

fn join<T>(parts: &[T], text: impl Fn(&T) -> String) -> String {
    parts.iter().map(text).collect::<Vec<_>>().join(" . ")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family;
        writeln!(f, "table {} {TABLE} {{", family.keyword())?;
        for set in &self.sets {
            set_text(f, family, set)?;
        }
        for chain in &self.chains {
            writeln!(f, "\tchain {} {{", chain.name)?;
            if let Some(Hook {
                kind,
                point,
                priority,
                drop,
            }) = chain.hook
            {
                let point = format!("{point:?}").to_lowercase();
                let policy = if drop { "drop" } else { "accept" };
                writeln!(
                    f,
                    "\t\ttype {kind} hook {point} priority {priority}; policy {policy};"
                )?;
            }
            for rule in &chain.rules {
                let texts: Vec<String> = rule
                    .iter()
                    .map(|statement| statement_text(family, statement))
                    .collect();
                writeln!(f, "\t\t{}", texts.join(" "))?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

fn set_text(f: &mut fmt::Formatter<'_>, family: Family, set: &Set) -> fmt::Result {
    let types = |parts: &[Type]| join(parts, |part| type_text(family, *part).to_owned());
    let (kind, data) = match set.data {
        [] => ("set", String::new()),
        data => ("map", format!(" : {}", types(data))),
    };
    writeln!(f, "\t{kind} {} {{\n\t\ttype {}{data}", set.name, types(set.key))?;
    if set.interval {
        writeln!(f, "\t\tflags interval")?;
    }
    if !set.elements.is_empty() {
        let elements: Vec<String> = set.elements.iter().map(element_text).collect();
        writeln!(f, "\t\telements = {{ {} }}", elements.join(", "))?;
    }
    writeln!(f, "\t}}")
}

fn type_text(family: Family, part: Type) -> &'static str {
    match (part, family) {
        (Type::Ifname, _) => "ifname",
        (Type::Address, Family::V4) => "ipv4_addr",
        (Type::Address, Family::V6) => "ipv6_addr",
        (Type::Protocol, _) => "inet_proto",
        (Type::Service, _) => "inet_service",
    }
}

fn element_text(element: &Element) -> String {
    let value = |value: &Value| match value {
        Value::Ifname(name) => format!("\"{name}\""),
        Value::Address(address) => address.to_string(),
        Value::Range(first, last) => format!("{first}-{last}"),
        Value::Protocol(proto) => proto.to_string(),
        Value::Service(port) => port.to_string(),
    };
    let key = join(&element.key, value);
    if element.data.is_empty() {
        key
    } else {
        format!("{key} : {}", join(&element.data, value))
    }
}

fn statement_text(family: Family, statement: &Statement) -> String {
    let field = |field: &Field| match field {
        Field::Iif => "iifname".to_owned(),
        Field::Oif => "oifname".to_owned(),
        Field::Saddr => format!("{} saddr", family.keyword()),
        Field::Daddr => format!("{} daddr", family.keyword()),
        Field::Protocol => "meta l4proto".to_owned(),
        Field::Dport => "th dport".to_owned(),
    };
    match statement {
        Statement::In(fields, set) => format!("{} @{set}", join(fields, field)),
        Statement::Block {
            field: side,
            net,
            negate,
        } => {
            format!("{} {}{net}", field(side), if *negate { "!= " } else { "" })
        }
        Statement::ToHost => "fib daddr type local".to_owned(),
        Statement::Established => "ct state established,related".to_owned(),
        Statement::Translated => "ct status dnat".to_owned(),
        Statement::Accept => "accept".to_owned(),
        Statement::Drop => "drop".to_owned(),
        Statement::Jump(chain) => format!("jump {chain}"),
        Statement::Masquerade => "masquerade".to_owned(),
        Statement::Dnat(fields, map) => format!("dnat to {} map @{map}", join(fields, field)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn the_golden_tables() {
        let [v4, v6] = tables(&example());
        assert_eq!(v4.to_string(), include_str!("golden/ip.nft"));
        assert_eq!(v6.to_string(), include_str!("golden/ip6.nft"));
    }

    #[test]
    fn touching_subnets_become_one_range() {
        let mut state = example();
        state.networks[0].subnets = vec!["172.18.0.0/16".parse().unwrap(), "172.17.0.0/16".parse().unwrap()];
        state.networks[0]
            .subnets
            .push("255.255.255.0/24".parse().unwrap());
        let ranges: Vec<String> = ranges(Family::V4, &state, &|_| true)
            .iter()
            .map(element_text)
            .collect();
        assert_eq!(
            ranges,
            ["172.17.0.0-172.18.255.255", "255.255.255.0-255.255.255.255"]
        );
    }

    #[test]
    fn each_family_carries_its_own() {
        let pair = |host: &str, container: &str| Published {
            proto: Proto::Udp,
            host_ip: host.parse().unwrap(),
            host_port: 53,
            container_ip: container.parse().unwrap(),
            container_port: 5353,
        };
        let text = |family, host, container| {
            element_of(family, &pair(host, container))
                .map(|(map, element)| format!("{map} {}", element_text(&element)))
        };
        assert_eq!(
            text(Family::V4, "0.0.0.0", "10.0.0.2").unwrap(),
            "published udp . 53 : 10.0.0.2 . 5353"
        );
        assert_eq!(
            text(Family::V4, "127.0.0.1", "10.0.0.2").unwrap(),
            "published_on 127.0.0.1 . udp . 53 : 10.0.0.2 . 5353"
        );
        assert_eq!(
            text(Family::V6, "::", "fd00::2").unwrap(),
            "published udp . 53 : fd00::2 . 5353"
        );
        assert_eq!(text(Family::V6, "::", "10.0.0.2"), None);
        assert_eq!(text(Family::V4, "0.0.0.0", "fd00::2"), None);
    }
}
