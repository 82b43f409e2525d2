//! Networks at the engine's start: the ones that are always there, bridges and rules as they should be.

use super::{DEFAULT_BRIDGE, Entry, Networks, Shared};
use crate::containers::table::Table;
use crate::db::{self, Db};
use crate::supervisor::netd::Netd;
use crate::{Config, Error, Events, Result, blocking, ids};
use ferry_net::ipam::{self, Pool};
use ferry_net::rules::{Firewall, NetworkRules, State};
use ferry_net::{Driver, Ipam, NetworkConfig, Published, apply};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::sync::Semaphore;

impl Networks {
    /// Puts the rules back where somebody took them away; tells whether they were. Blocks shortly.
    pub(crate) fn repair_rules(&self) -> Result<bool> {
        self.shared.repair_rules()
    }

    /// Loads what is stored; touches nothing of the kernel yet. Blocks shortly.
    pub(crate) fn load(
        config: Arc<Config>,
        db: Db,
        (events, netd, table): (Events, Netd, Arc<Table>),
    ) -> Result<Self> {
        let mut networks = BTreeMap::new();
        for (key, value) in db.load(db::NETWORKS)? {
            match serde_json::from_value::<Entry>(value) {
                Ok(entry) => drop(networks.insert(key, entry)),
                Err(error) => {
                    tracing::error!(network = key, %error, "the record of a network cannot be read and is left alone")
                }
            }
        }
        let shared = Shared {
            config,
            db,
            events,
            netd,
            table,
            networks: RwLock::new(networks),
            firewall: Mutex::new(None),
            addresses: Mutex::default(),
            changes: Semaphore::new(1),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes the kernel's bridges and rules what the records and the running containers say. What is published already comes with `running`.
    pub(crate) async fn reconcile(&self, running: Vec<Published>) -> Result<()> {
        let this = self.clone();
        blocking::run("set up the networks", move || this.reconcile_blocking(running)).await
    }

    fn reconcile_blocking(&self, running: Vec<Published>) -> Result<()> {
        self.predefined()?;
        let mut guard = false;
        for entry in self.shared.entries() {
            if entry.config.driver != Driver::Bridge {
                continue;
            }
            guard |= apply::ensure_forwarding(entry.config.enable_ipv6)?;
            apply::ensure_bridge(&entry.config)?;
        }
        let mut state = self.shared.rules();
        state.published = running.into_iter().collect();
        state.guard_forwarding = guard;
        self.shared.with_firewall(|f| Ok(f.apply(state)?))
    }

    fn predefined(&self) -> Result<()> {
        let shared = &self.shared;
        for (name, driver) in [("host", Driver::Host), ("none", Driver::None)] {
            if !shared.entries().iter().any(|e| e.config.name == name) {
                shared.add_lazily(NetworkConfig::without_bridge(ids::random()?, name, driver))?;
            }
        }
        let stored = shared.entries().into_iter().find(|e| e.config.name == "bridge");
        let id = stored
            .as_ref()
            .map_or_else(ids::random, |e| Ok(e.config.id.clone()))?;
        let wanted = self.default_bridge(id, stored.as_ref().map(|e| &e.config))?;
        match stored {
            Some(entry) if entry.config == wanted => Ok(()),
            Some(entry) => {
                let changed = Entry {
                    config: wanted,
                    ..entry
                };
                shared.db.put_lazy(db::NETWORKS, &changed.config.id, &changed)?;
                shared.write().insert(changed.config.id.clone(), changed);
                Ok(())
            }
            None => shared.add_lazily(wanted),
        }
    }

    /// As configured; without a configured address it keeps the subnet that it has.
    fn default_bridge(&self, id: String, stored: Option<&NetworkConfig>) -> Result<NetworkConfig> {
        let config = &self.shared.config;
        let had = |six: bool| {
            stored
                .and_then(|s| s.subnets.iter().find(|i| i.is_ipv6() == six))
                .cloned()
        };
        let mut four = match config.bip {
            Some(bip) => Ipam::from_bip(bip),
            None => match had(false) {
                Some(ipam) => ipam,
                None => Ipam::new(self.free_subnet(false)?),
            },
        };
        four.range = config
            .fixed_cidr
            .or(if config.bip.is_some() { None } else { four.range });
        ipam::check_ipam(&four)?;
        let mut subnets = vec![four];
        if config.ipv6 {
            subnets.push(match (config.fixed_cidr_v6, had(true)) {
                (Some(subnet), _) => Ipam::new(subnet),
                (None, Some(ipam)) => ipam,
                (None, None) => Ipam::new(self.free_subnet(true)?),
            });
        }
        let mut bridge = NetworkConfig::bridge(id, "bridge", DEFAULT_BRIDGE, subnets);
        bridge.icc = config.icc;
        bridge.masquerade = config.ip_masq;
        bridge.mtu = config.mtu;
        bridge.host_binding = config.ip;
        bridge.options = default_options(config);
        Ok(bridge)
    }

    /// A subnet of the pools that overlaps nothing of the host's and no other network.
    pub(super) fn free_subnet(&self, ipv6: bool) -> Result<IpNet> {
        let entries = self.shared.entries();
        let bridges: Vec<&str> = entries
            .iter()
            .map(|e| e.config.bridge.as_str())
            .filter(|b| !b.is_empty())
            .chain([DEFAULT_BRIDGE])
            .collect();
        let mut taken = apply::occupied(&bridges)?;
        taken.extend(
            entries
                .iter()
                .flat_map(|e| e.config.subnets.iter().map(|i| i.subnet)),
        );
        taken.extend(name_servers().into_iter().map(IpNet::from));
        let configured = &self.shared.config.default_address_pools;
        let mut pools: Vec<Pool> = configured
            .iter()
            .map(|p| Pool {
                base: p.base,
                size: p.size,
            })
            .collect();
        if pools.is_empty() {
            pools = ipam::default_pools();
        }
        pools.retain(|p| matches!(p.base, IpNet::V6(_)) == ipv6);
        if ipv6 && pools.is_empty() {
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            let bits = u64::from_str_radix(id.trim().get(..16).unwrap_or("0"), 16).unwrap_or(0);
            pools.push(ipam::ula_pool(bits & 0xff_ffff_ffff));
        }
        Ok(ipam::choose_subnet(&pools, &taken)?)
    }
}

/// What Docker shows as the options of its default network.
fn default_options(config: &Config) -> BTreeMap<String, String> {
    let flag = |b: bool| b.to_string();
    let address = config
        .ip
        .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    let mtu = config.mtu.unwrap_or(1500).to_string();
    [
        ("com.docker.network.bridge.default_bridge", flag(true)),
        ("com.docker.network.bridge.enable_icc", flag(config.icc)),
        (
            "com.docker.network.bridge.enable_ip_masquerade",
            flag(config.ip_masq),
        ),
        ("com.docker.network.bridge.host_binding_ipv4", address),
        ("com.docker.network.bridge.name", DEFAULT_BRIDGE.to_owned()),
        ("com.docker.network.driver.mtu", mtu),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect()
}

/// The host's own name servers: no network may cover them.
fn name_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ferry_net::files::ResolvConf::parse(&text).servers
}

impl Shared {
    fn add_lazily(&self, config: NetworkConfig) -> Result<()> {
        let entry = Entry {
            config,
            created: SystemTime::now(),
            attachable: false,
        };
        self.db.put_lazy(db::NETWORKS, &entry.config.id, &entry)?;
        self.write().insert(entry.config.id.clone(), entry);
        Ok(())
    }

    /// The networks' part of the rules.
    fn rules(&self) -> State {
        let networks = self
            .entries()
            .iter()
            .filter_map(|e| NetworkRules::of(&e.config))
            .collect();
        State {
            networks,
            published: BTreeSet::new(),
            guard_forwarding: false,
        }
    }

    /// Rules for the networks that there are now; published ports stay. Blocks shortly.
    pub(super) fn apply_rules(&self) -> Result<()> {
        let networks = self.rules().networks;
        self.with_firewall(|f| {
            let state = State {
                networks,
                ..f.state().clone()
            };
            Ok(f.apply(state)?)
        })
    }

    /// Publishes ports. Blocks shortly.
    pub(super) fn publish_ports(&self, ports: &[Published]) -> Result<()> {
        self.with_firewall(|f| Ok(f.publish(ports)?))
    }

    /// Takes published ports back. Blocks shortly.
    pub(super) fn unpublish_ports(&self, ports: &[Published]) -> Result<()> {
        self.with_firewall(|f| Ok(f.unpublish(ports)?))
    }

    fn with_firewall(&self, act: impl FnOnce(&mut Firewall) -> Result<()>) -> Result<()> {
        let mut slot: MutexGuard<'_, Option<Firewall>> =
            self.firewall.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Firewall::open()?);
        }
        let firewall = slot
            .as_mut()
            .ok_or_else(|| Error::unsupported("the packet rules are not open"))?;
        act(firewall)
    }

    /// Makes the rules anew when somebody flushed them; for a timer. Blocks shortly.
    pub(crate) fn repair_rules(&self) -> Result<bool> {
        let mut changed = false;
        self.with_firewall(|f| {
            changed = f.reconcile()?;
            Ok(())
        })?;
        Ok(changed)
    }
}
