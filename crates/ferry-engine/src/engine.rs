//! The engine's handle.

use crate::{Config, Containers, Error, Events, Execs, Images, Kernel, Networks, Result, System, Volumes};
use std::sync::Arc;

/// A running engine; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Engine {
    services: Arc<Services>,
}

struct Services {
    containers: Containers,
    execs: Execs,
    images: Images,
    volumes: Volumes,
    networks: Networks,
    events: Events,
    system: System,
}

#[allow(missing_docs, clippy::unused_async)]
impl Engine {
    pub async fn open(_config: Config, _kernel: Arc<dyn Kernel>) -> Result<Engine> {
        Err(Error::unsupported("being written"))
    }
    pub fn containers(&self) -> &Containers {
        &self.services.containers
    }
    pub fn execs(&self) -> &Execs {
        &self.services.execs
    }
    pub fn images(&self) -> &Images {
        &self.services.images
    }
    pub fn volumes(&self) -> &Volumes {
        &self.services.volumes
    }
    pub fn networks(&self) -> &Networks {
        &self.services.networks
    }
    pub fn events(&self) -> &Events {
        &self.services.events
    }
    pub fn system(&self) -> &System {
        &self.services.system
    }
    pub async fn shutdown(&self) {}
}
