//! Images: names for content, and what is done with them.
#![allow(missing_docs, unused_variables, clippy::unused_async)]
pub mod view;
use crate::containers::spec::ImageIdentity;
use crate::{Error, Result};
use ferry_oci::image::ImageConfig;
use ferry_oci::{Platform, Reference};
use ferry_registry::{Credentials, LoginOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use view::{HistoryEntry, ImageSummary, ImageUsage, ImageView, ProgressStream, Removed};

pub type InUse = Arc<dyn Fn() -> Vec<UsedBy> + Send + Sync>;
#[derive(Clone, Debug)]
pub struct UsedBy {
    pub container: String,
    pub running: bool,
    pub image: ImageIdentity,
}
#[derive(Clone)]
pub struct Images {}
#[derive(Clone, Debug)]
pub struct ImageUse {
    pub identity: ImageIdentity,
    pub config: ImageConfig,
}
pub type ImageFilters = BTreeMap<String, Vec<String>>;
/// What `list` is asked.
#[derive(Clone, Debug, Default)]
pub struct ImageListOptions {
    pub all: bool,
    pub filters: ImageFilters,
    pub shared_size: bool,
    pub count_containers: bool,
}
/// What `remove` is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageRemoveOptions {
    pub force: bool,
    pub no_prune: bool,
}
fn later<T>() -> Result<T> {
    Err(Error::unsupported("being written"))
}
impl Images {
    pub fn set_in_use(&self, in_use: InUse) {}
    pub async fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<ImageUse> {
        Err(Error::not_found(format!("No such image: {name}")))
    }
    pub async fn auth(&self, server: &str, credentials: &Credentials) -> Result<LoginOutcome> {
        later()
    }
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        later()
    }
    pub async fn inspect(&self, key: &str, platform: Option<&Platform>) -> Result<ImageView> {
        later()
    }
    pub async fn history(&self, key: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>> {
        later()
    }
    /// `target` is a whole new reference; its default tag is `latest`.
    pub async fn tag(&self, key: &str, target: &Reference) -> Result<()> {
        later()
    }
    pub async fn remove(&self, key: &str, options: ImageRemoveOptions) -> Result<Vec<Removed>> {
        later()
    }
    /// What went, and bytes freed. Filters: dangling (default true), label, label!, until.
    pub async fn prune(&self, filters: &ImageFilters) -> Result<(Vec<Removed>, u64)> {
        later()
    }
    pub async fn usage(&self) -> Result<ImageUsage> {
        later()
    }
    /// `all` is every tag of the repository.
    pub async fn pull(&self, reference: Reference, platform: Option<Platform>, credentials: Credentials, all: bool) -> Result<ProgressStream> {
        later()
    }
    pub async fn push(&self, reference: Reference, platform: Option<Platform>, credentials: Credentials) -> Result<ProgressStream> {
        later()
    }
    /// `archive` is read to its end: a tar, gzip or zstd.
    pub async fn load(&self, archive: impl tokio::io::AsyncRead + Send + Unpin + 'static, quiet: bool) -> Result<ProgressStream> {
        later()
    }
    /// A tar of these names and ids; errors of what is not there come before the first byte.
    pub async fn save(&self, keys: Vec<String>, platform: Option<Platform>) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        later()
    }
}
