//! Packet rules: which packets may reach an endpoint, and what the outside sees of it.
//!
//! One table in each family, named `ferry`, holds everything; nothing of anybody else's is read or touched. All networks
//! and ports are a [`State`]; the kernel's copy is a projection of it that can be made anew at any time, in one
//! transaction. What the rules say:
//!
//! * An endpoint is reached from outside of its network only through published ports, and answers come back. That holds
//!   for packets from any link, so other networks of the engine are outside, too.
//! * Published ports are translated for clients in the neighbourhood, on the host (also on 127.0.0.1) and in the networks.
//! * What is bound to 127.0.0.1 is reached from the host only.
//! * What leaves a network bears the host's address, if the network says so.

mod encode;
pub mod table;

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::netlink::Socket;
use crate::{Driver, NetError, NetworkConfig, Published};
use encode::Transaction;

/// `NETLINK_NETFILTER`.
const NETLINK_NETFILTER: i32 = 12;

/// What the rules need to know of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRules {
    /// The bridge's link name.
    pub bridge: String,
    /// The subnets of both families.
    pub subnets: Vec<IpNet>,
    /// Nothing passes between the network and anything else.
    pub internal: bool,
    /// Endpoints of the network may talk to each other.
    pub icc: bool,
    /// What leaves the host gets the host's address.
    pub masquerade: bool,
}

impl NetworkRules {
    /// The rules' view of a network; none for a network without a bridge.
    pub fn of(network: &NetworkConfig) -> Option<Self> {
        (network.driver == Driver::Bridge).then(|| NetworkRules {
            bridge: network.bridge.clone(),
            subnets: network.subnets.iter().map(|ipam| ipam.subnet).collect(),
            internal: network.internal,
            icc: network.icc,
            masquerade: network.masquerade,
        })
    }
}

/// All that the rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The bridge networks.
    pub networks: Vec<NetworkRules>,
    /// The published ports. Pairs that rules cannot carry ([`Published::needs_relay`]) may be among them.
    pub published: BTreeSet<Published>,
    /// Drop what the host would forward between links that are not the engine's. For a host that was no router before the
    /// engine turned forwarding on ([`crate::apply::ensure_forwarding`]).
    pub guard_forwarding: bool,
}

/// The kernel's rules and the state that they are to show. Belongs to the network namespace in which it was opened.
pub struct Firewall {
    socket: Socket,
    state: State,
    /// The kernel's count of rule set changes after ours; `None` before the first.
    generation: Option<u32>,
}

impl Firewall {
    /// Opens the way to the kernel's rules; changes nothing.
    pub fn open() -> Result<Self, NetError> {
        Ok(Firewall {
            socket: Socket::open(NETLINK_NETFILTER)?,
            state: State::default(),
            generation: None,
        })
    }

    /// The state that was applied last.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Replaces all rules by those of the state, in one transaction: no packet sees anything in between.
    pub fn apply(&mut self, state: State) -> Result<(), NetError> {
        let mut transaction = Transaction::new();
        for table in table::tables(&state) {
            transaction.replace_table(&table);
        }
        self.commit(transaction, true)?;
        self.state = state;
        Ok(())
    }

    /// Adds published ports. Costs as much as there are ports in the argument. UDP conversations that went on with a
    /// host's port before are not translated unless forgotten: [`crate::conntrack::forget_udp_port`].
    pub fn publish(&mut self, ports: &[Published]) -> Result<(), NetError> {
        let added: Vec<Published> = ports
            .iter()
            .filter(|port| self.state.published.insert(**port))
            .copied()
            .collect();
        self.change(&added, true).inspect_err(|_| {
            for port in &added {
                self.state.published.remove(port);
            }
        })
    }

    /// Removes published ports; those that are not there are passed over. Connections that exist go on until they end.
    pub fn unpublish(&mut self, ports: &[Published]) -> Result<(), NetError> {
        let removed: Vec<Published> = ports
            .iter()
            .filter(|port| self.state.published.remove(port))
            .copied()
            .collect();
        self.change(&removed, false)
    }

    /// Makes the kernel's rules those of the state again if anything changed any rules since (`nft flush ruleset`, a
    /// firewall service that restarts). True if they were made anew. One question to the kernel where nothing changed.
    pub fn reconcile(&mut self) -> Result<bool, NetError> {
        let now = self.read_generation()?;
        if self.generation == Some(now) {
            return Ok(false);
        }
        self.apply(self.state.clone())?;
        Ok(true)
    }

    /// Removes every rule of the engine.
    pub fn remove(&mut self) -> Result<(), NetError> {
        let mut transaction = Transaction::new();
        transaction.delete_table(table::Family::V4);
        transaction.delete_table(table::Family::V6);
        self.commit(transaction, true)?;
        self.state = State::default();
        Ok(())
    }

    /// Adds or removes elements. A kernel whose rules are not what they should be gets all of them anew.
    fn change(&mut self, ports: &[Published], add: bool) -> Result<(), NetError> {
        let mut transaction = Transaction::new();
        for family in [table::Family::V4, table::Family::V6] {
            for (map, element) in ports.iter().filter_map(|port| table::element_of(family, port)) {
                transaction.change_element(family, map, &element, add);
            }
        }
        if transaction.is_empty() {
            return Ok(());
        }
        match self.commit(transaction, false) {
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EEXIST)) => {
                self.apply(self.state.clone())
            }
            other => other,
        }
    }

    /// Commits. `whole` says that the kernel's rules are afterwards ours whatever they were before; else they are only
    /// known to be so if nobody changed any rules since our last change. The kernel counts each transaction as one.
    fn commit(&mut self, transaction: Transaction, whole: bool) -> Result<(), NetError> {
        let before = self.read_generation()?;
        let known = whole || self.generation == Some(before);
        self.generation = None;
        self.socket.transact(&transaction.finish())?;
        let after = self.read_generation()?;
        self.generation = (known && after == before.wrapping_add(1)).then_some(after);
        Ok(())
    }

    fn read_generation(&mut self) -> Result<u32, NetError> {
        encode::generation(&mut self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ipam, Proto};

    /// Two networks and four ports.
    pub fn example() -> State {
        let port = |proto, host: &str, host_port, container: &str| Published {
            proto,
            host_ip: host.parse().unwrap(),
            host_port,
            container_ip: container.parse().unwrap(),
            container_port: 80,
        };
        let subnets = ["172.17.0.0/16", "fd00:17::/64"].map(|subnet| Ipam::new(subnet.parse().unwrap()));
        let bridge = NetworkConfig::bridge("1", "bridge", "ferry0", subnets.to_vec());
        let quiet = vec![Ipam::new("172.18.0.0/16".parse().unwrap())];
        let quiet = NetworkConfig {
            internal: true,
            icc: false,
            ..NetworkConfig::bridge("2", "quiet", "br-2", quiet)
        };
        let host = NetworkConfig::without_bridge("3", "host", Driver::Host);
        State {
            networks: [&bridge, &quiet, &host]
                .into_iter()
                .filter_map(NetworkRules::of)
                .collect(),
            published: [
                port(Proto::Tcp, "0.0.0.0", 8080, "172.17.0.2"),
                port(Proto::Tcp, "::", 8080, "fd00:17::2"),
                port(Proto::Tcp, "::", 8081, "172.17.0.2"),
                port(Proto::Udp, "127.0.0.1", 53, "172.17.0.3"),
            ]
            .into(),
            guard_forwarding: false,
        }
    }
}
