//! Volumes: directories that outlive containers.

use crate::containers::options::{PruneFilter, PruneReport};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Volumes {}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    /// Its name; sixty-four hexadecimal digits for anonymous ones.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Its directory on the host.
    pub mountpoint: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created: SystemTime,
    /// `local`.
    pub scope: &'static str,
    /// Whether it was made for a container without a name of its own.
    pub anonymous: bool,
    /// Ids of the containers that have it.
    pub in_use: Vec<String>,
    /// Bytes, where asked for.
    pub size: Option<u64>,
}

#[allow(missing_docs, clippy::unused_async)]
impl Volumes {
    /// An empty name makes an anonymous volume.
    pub async fn create(
        &self,
        _name: &str,
        _driver: &str,
        _options: BTreeMap<String, String>,
        _labels: BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        Err(Error::unsupported("being written"))
    }
    pub async fn list(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<VolumeView>> {
        Err(Error::unsupported("being written"))
    }
    pub async fn inspect(&self, _name: &str) -> Result<VolumeView> {
        Err(Error::unsupported("being written"))
    }
    pub async fn remove(&self, _name: &str, _force: bool) -> Result<()> {
        Err(Error::unsupported("being written"))
    }
    pub async fn prune(&self, _filter: PruneFilter) -> Result<PruneReport> {
        Err(Error::unsupported("being written"))
    }
}
