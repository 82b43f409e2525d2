//! Networks and published ports.
//!
//! Three are always there: `bridge` on the link [`DEFAULT_BRIDGE`], `host` and `none`. What a network is lies in its record; which addresses and
//! ports are in use is known from the containers that run.

mod attach;
mod create;
mod setup;

pub(crate) use attach::{Attachment, Wanted};

use crate::containers::options::{PruneFilter, PruneReport};
use crate::containers::spec::{EndpointSpec, NetworkMode};
use crate::containers::table::Table;
use crate::containers::view::EndpointView;
use crate::db::{self, Db};
use crate::filters::Filters;
use crate::supervisor::netd::Netd;
use crate::{Config, Error, Events, Kind, Result, blocking};
use ferry_net::NetworkConfig;
use ferry_net::rules::Firewall;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The link of the default network.
pub const DEFAULT_BRIDGE: &str = "ferry0";
/// Networks that are always there.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Networks {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles share.
pub(crate) struct Shared {
    config: Arc<Config>,
    db: Db,
    events: Events,
    netd: Netd,
    table: Arc<Table>,
    networks: RwLock<BTreeMap<String, Entry>>,
    /// Opened by the first that needs it, in the engine's network namespace.
    firewall: Mutex<Option<Firewall>>,
    /// Addresses of endpoints, by network.
    addresses: Mutex<BTreeMap<String, BTreeSet<IpAddr>>>,
    /// One change of networks at a time.
    changes: Semaphore,
}

/// A network as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// What it is.
    pub config: NetworkConfig,
    /// When it was made.
    pub created: SystemTime,
    /// Whether it was asked for as attachable.
    #[serde(default)]
    pub attachable: bool,
}

/// A subnet that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    /// Chosen from the pools when absent.
    pub subnet: Option<IpNet>,
    /// The part that addresses are taken from.
    pub range: Option<IpNet>,
    /// The first address when absent.
    pub gateway: Option<IpAddr>,
    /// Addresses never given out.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A network that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `bridge`; empty means bridge.
    pub driver: String,
    /// No way out of it.
    pub internal: bool,
    /// Containers may be attached by hand (always so here).
    pub attachable: bool,
    /// Swarm's; refused.
    pub ingress: bool,
    /// `None` is yes.
    pub enable_ipv4: Option<bool>,
    /// `None` is no.
    pub enable_ipv6: Option<bool>,
    /// `default` or empty.
    pub ipam_driver: String,
    /// Of the IPAM driver; refused by name.
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets.
    pub ipam: Vec<SubnetRequest>,
    /// Of the driver.
    pub options: BTreeMap<String, String>,
    /// The user's.
    pub labels: BTreeMap<String, String>,
    /// `local` or empty.
    pub scope: String,
    /// Only a template for other networks; refused.
    pub config_only: bool,
    /// The template; refused.
    pub config_from: String,
}

/// One network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkView {
    /// What it is.
    pub config: NetworkConfig,
    /// When it was made.
    pub created: SystemTime,
    /// `local`.
    pub scope: &'static str,
    /// Whether it was asked for as attachable.
    pub attachable: bool,
    /// Running containers on it: id, name, endpoint.
    pub containers: Vec<(String, String, EndpointView)>,
}

impl Networks {
    /// Networks by these filters: dangling, driver, id, label, name, scope, type.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an unknown filter.
    #[allow(clippy::unused_async)]
    pub async fn list(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        let filters = Filters::new(
            filters,
            &["dangling", "driver", "id", "label", "name", "scope", "type"],
        )?;
        let dangling = filters.boolean("dangling")?;
        if let Some(kind) = filters
            .values("type")
            .iter()
            .find(|t| !["builtin", "custom"].contains(&t.as_str()))
        {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let mut views: Vec<NetworkView> = self.shared.entries().into_iter().map(|e| self.view(e)).collect();
        views.retain(|v| {
            let builtin = PREDEFINED.contains(&v.config.name.as_str());
            filters.any("driver", |d| d == v.config.driver.docker_name())
                && filters.any("id", |i| v.config.id.starts_with(i))
                && filters.any("name", |n| v.config.name.contains(n))
                && filters.any("scope", |s| s == v.scope)
                && filters.any("type", |t| (t == "builtin") == builtin)
                && filters.labels(&v.config.labels)
                && dangling.is_none_or(|d| d == (!builtin && v.containers.is_empty()))
        });
        Ok(views)
    }

    /// By full id, name, or unique beginning of an id.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: `network x not found`.
    #[allow(clippy::unused_async)]
    pub async fn inspect(&self, key: &str) -> Result<NetworkView> {
        Ok(self.view(self.find(key)?))
    }

    /// Removes a network that no container has.
    ///
    /// # Errors
    /// [`Kind::Denied`] for one that is always there or in use.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let this = self.clone();
        let key = key.to_owned();
        blocking::owned(async move { this.remove_owned(&key).await }).await
    }

    async fn remove_owned(&self, key: &str) -> Result<()> {
        let _permit = self.change().await?;
        let entry = self.find(key)?;
        let NetworkConfig { name, id, .. } = &entry.config;
        if PREDEFINED.contains(&name.as_str()) {
            return Err(Error::new(
                Kind::Denied,
                format!("{name} is a pre-defined network and cannot be removed"),
            ));
        }
        let active = self.view(entry.clone()).containers;
        if !active.is_empty() {
            let who: Vec<String> = active
                .iter()
                .map(|(id, name, _)| format!("name:{name:?} id:{:?}", id.get(..12).unwrap_or(id)))
                .collect();
            let text = format!(
                "error while removing network: network {name} has active endpoints ({})",
                who.join(", ")
            );
            return Err(Error::new(Kind::Denied, text));
        }
        self.shared.db.delete(db::NETWORKS, id).await?;
        self.shared.write().remove(id);
        let (this, config) = (self.clone(), entry.config.clone());
        blocking::run("remove a bridge", move || -> Result<()> {
            this.shared.apply_rules()?;
            Ok(ferry_net::apply::remove_bridge(&config)?)
        })
        .await?;
        self.publish(&entry.config, "destroy", BTreeMap::new());
        Ok(())
    }

    /// Removes every network of the user's that no container has.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an unknown filter: label, label!, until.
    pub async fn prune(&self, filter: PruneFilter) -> Result<PruneReport> {
        let filters = Filters::new(&filter.filters, &["label", "label!", "until"])?;
        let until = filters.until(SystemTime::now())?;
        let mut report = PruneReport::default();
        for entry in self.shared.entries() {
            let builtin = PREDEFINED.contains(&entry.config.name.as_str());
            let old = until.is_none_or(|u| entry.created < u);
            let unused = self.view(entry.clone()).containers.is_empty() && !self.referred(&entry.config);
            if !builtin
                && old
                && unused
                && filters.labels(&entry.config.labels)
                && self.remove(&entry.config.id).await.is_ok()
            {
                report.deleted.push(entry.config.name);
            }
        }
        Ok(report)
    }

    /// Whether a stopped container will need it.
    fn referred(&self, config: &NetworkConfig) -> bool {
        self.shared.table.all().iter().any(|c| {
            let record = c.record();
            let network = &record.spec.network;
            let mode =
                matches!(&network.mode, NetworkMode::Network(n) if *n == config.name || *n == config.id);
            mode || network.endpoints.contains_key(&config.name) || network.endpoints.contains_key(&config.id)
        })
    }

    /// Gives a stopped container one more network, or other settings on one that it has.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] while it runs.
    pub async fn connect(&self, network: &str, container: &str, endpoint: EndpointSpec) -> Result<()> {
        let entry = self.find(network)?;
        let found = self.shared.table.find(container)?;
        if found.state().alive() {
            return Err(Error::unsupported(format!(
                "connecting the running container {container} to network {network} is not supported yet: stop it first"
            )));
        }
        let mode = found.record().spec.network.mode.clone();
        if matches!(
            mode,
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_)
        ) {
            return Err(Error::new(Kind::Denied, no_endpoints(&mode)));
        }
        self.change_endpoints(&found, |endpoints| {
            endpoints.insert(entry.config.name.clone(), endpoint);
        })
        .await
    }

    /// Takes a network from a stopped container.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] while it runs; [`Kind::Denied`] when it is not on it.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let entry = self.find(network)?;
        let found = match self.shared.table.find(container) {
            Err(_) if force => return Ok(()),
            found => found?,
        };
        if found.state().alive() {
            return Err(Error::unsupported(format!(
                "disconnecting the running container {container} from network {network} is not supported yet: stop it first"
            )));
        }
        let spec = found.record().spec.clone();
        let name = entry.config.name.clone();
        if !attach::networks_of(&spec.network).contains(&name) {
            let text = format!("container {} is not connected to the network {name}", found.id);
            return Err(Error::new(Kind::Denied, text));
        }
        self.change_endpoints(&found, |endpoints| drop(endpoints.remove(&name)))
            .await
    }

    async fn change_endpoints(
        &self,
        container: &Arc<crate::containers::table::Container>,
        change: impl FnOnce(&mut BTreeMap<String, EndpointSpec>),
    ) -> Result<()> {
        let stored = {
            let mut cell = container.cell();
            let mut record = crate::containers::record::Record::clone(&cell.record);
            let mut spec = crate::containers::spec::ContainerSpec::clone(&record.spec);
            if spec.network.endpoints.is_empty() {
                for name in attach::networks_of(&spec.network) {
                    spec.network.endpoints.insert(name, EndpointSpec::default());
                }
            }
            change(&mut spec.network.endpoints);
            record.spec = Arc::new(spec);
            cell.record = Arc::new(record);
            crate::containers::record::encode(&cell.record, &cell.state)?
        };
        self.shared.db.put(db::CONTAINERS, &container.id, &stored).await
    }

    pub(crate) fn find(&self, key: &str) -> Result<Entry> {
        let networks = self
            .shared
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = networks
            .get(key)
            .or_else(|| networks.values().find(|e| e.config.name == key))
        {
            return Ok(entry.clone());
        }
        let matches: Vec<&Entry> = networks
            .values()
            .filter(|e| !key.is_empty() && e.config.id.starts_with(key))
            .collect();
        match matches.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::not_found(format!("network {key} not found"))),
            many => Err(Error::invalid(format!(
                "network {key} is ambiguous ({} matches found based on ID prefix)",
                many.len()
            ))),
        }
    }

    fn view(&self, entry: Entry) -> NetworkView {
        let Entry {
            config,
            created,
            attachable,
        } = entry;
        let mut containers = Vec::new();
        for container in self.shared.table.all() {
            let Some(run) = container.run() else { continue };
            let name = container.record().name.clone();
            let on = run
                .facts
                .network
                .endpoints
                .iter()
                .filter(|e| e.network_id == config.id)
                .cloned();
            containers.extend(on.map(|e| (container.id.clone(), name.clone(), e)));
        }
        NetworkView {
            config,
            created,
            scope: "local",
            attachable,
            containers,
        }
    }

    pub(crate) fn publish(
        &self,
        config: &NetworkConfig,
        action: &str,
        mut attributes: BTreeMap<String, String>,
    ) {
        attributes.insert("name".into(), config.name.clone());
        attributes.insert("type".into(), config.driver.docker_name().into());
        self.shared
            .events
            .publish("network", action, config.id.clone(), attributes);
    }

    async fn change(&self) -> Result<SemaphorePermit<'_>> {
        self.shared
            .changes
            .acquire()
            .await
            .map_err(|e| Error::internal("changing networks", e))
    }
}

fn no_endpoints(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Host => "container cannot be connected to host network - must be created in host network".into(),
        NetworkMode::None => "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        _ => "container sharing network namespace with another container or host cannot be connected to any other network".into(),
    }
}

impl Shared {
    fn entries(&self) -> Vec<Entry> {
        self.networks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.networks.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<IpAddr>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
