//! Networks and published ports.

use crate::containers::options::{PruneFilter, PruneReport};
use crate::containers::spec::EndpointSpec;
use crate::containers::view::EndpointView;
use crate::{Error, Result};
use ferry_net::NetworkConfig;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Networks {}

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

#[allow(missing_docs, clippy::unused_async)]
impl Networks {
    pub async fn list(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        Err(Error::unsupported("being written"))
    }
    pub async fn inspect(&self, _key: &str) -> Result<NetworkView> {
        Err(Error::unsupported("being written"))
    }
    /// The new network's id and warnings.
    pub async fn create(&self, _request: NetworkRequest) -> Result<(String, String)> {
        Err(Error::unsupported("being written"))
    }
    pub async fn remove(&self, _key: &str) -> Result<()> {
        Err(Error::unsupported("being written"))
    }
    pub async fn prune(&self, _filter: PruneFilter) -> Result<PruneReport> {
        Err(Error::unsupported("being written"))
    }
    pub async fn connect(&self, _network: &str, _container: &str, _endpoint: EndpointSpec) -> Result<()> {
        Err(Error::unsupported("being written"))
    }
    pub async fn disconnect(&self, _network: &str, _container: &str, _force: bool) -> Result<()> {
        Err(Error::unsupported("being written"))
    }
}
