//! Containers: from `create` to `rm`.

pub mod attach;
pub mod logs;
pub mod options;
pub mod spec;
pub mod view;

use self::attach::AttachStream;
use self::logs::LogStream;
use self::options::*;
use self::spec::ContainerSpec;
use self::view::{Change, ContainerView, Top, WaitCondition, WaitResult};
use crate::{Error, Result};
use ferry_oci::Platform;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Containers {}

/// A wait that is registered already.
pub struct WaitHandle {}

impl WaitHandle {
    /// Waits for what was asked.
    ///
    /// # Errors
    /// When the engine shuts down first.
    pub async fn result(self) -> Result<WaitResult> {
        Err(unfinished())
    }
}

fn unfinished() -> Error {
    Error::unsupported("being written")
}

#[allow(missing_docs, clippy::unused_async)]
impl Containers {
    pub async fn create(
        &self,
        _name: Option<String>,
        _spec: ContainerSpec,
        _platform: Option<Platform>,
    ) -> Result<Created> {
        Err(unfinished())
    }
    pub async fn start(&self, _key: &str) -> Result<()> {
        Err(unfinished())
    }
    pub async fn stop(&self, _key: &str, _options: StopOptions) -> Result<()> {
        Err(unfinished())
    }
    pub async fn restart(&self, _key: &str, _options: StopOptions) -> Result<()> {
        Err(unfinished())
    }
    pub async fn kill(&self, _key: &str, _signal: &str) -> Result<()> {
        Err(unfinished())
    }
    pub async fn pause(&self, _key: &str) -> Result<()> {
        Err(unfinished())
    }
    pub async fn unpause(&self, _key: &str) -> Result<()> {
        Err(unfinished())
    }
    pub async fn rename(&self, _key: &str, _new_name: &str) -> Result<()> {
        Err(unfinished())
    }
    pub async fn remove(&self, _key: &str, _options: RemoveOptions) -> Result<()> {
        Err(unfinished())
    }
    pub async fn update(&self, _key: &str, _update: Update) -> Result<Vec<String>> {
        Err(unfinished())
    }
    pub async fn wait(&self, _key: &str, _condition: WaitCondition) -> Result<WaitHandle> {
        Err(unfinished())
    }
    pub async fn attach(&self, _key: &str, _options: AttachOptions) -> Result<AttachStream> {
        Err(unfinished())
    }
    pub async fn resize(&self, _key: &str, _height: u16, _width: u16) -> Result<()> {
        Err(unfinished())
    }
    pub async fn logs(&self, _key: &str, _options: LogOptions) -> Result<LogStream> {
        Err(unfinished())
    }
    pub async fn stats(&self, _key: &str) -> Result<StatsSample> {
        Err(unfinished())
    }
    pub async fn top(&self, _key: &str, _ps_args: &str) -> Result<Top> {
        Err(unfinished())
    }
    pub async fn changes(&self, _key: &str) -> Result<Vec<Change>> {
        Err(unfinished())
    }
    pub async fn list(&self, _filter: &Filter) -> Result<Vec<ContainerView>> {
        Err(unfinished())
    }
    pub async fn inspect(&self, _key: &str, _size: bool) -> Result<ContainerView> {
        Err(unfinished())
    }
    pub async fn prune(&self, _filter: PruneFilter) -> Result<PruneReport> {
        Err(unfinished())
    }
}
