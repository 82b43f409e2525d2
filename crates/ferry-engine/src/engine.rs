//! The engine's handle, and how an engine comes up.

use crate::containers::core::{Core, Parts};
use crate::containers::recover;
use crate::containers::table::Table;
use crate::db::Db;
use crate::images::UsedBy;
use crate::supervisor::Supervisor;
use crate::supervisor::netd::Netd;
use crate::{
    Config, Containers, Error, Events, Execs, Images, Kernel, Networks, Result, System, Volumes, blocking,
};
use ferry_registry::{Client, Proxy, RegistryConfig};
use ferry_store::Store;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the rules are looked after.
const RULES_PERIOD: Duration = Duration::from_secs(1);

/// A running engine; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Engine {
    services: Arc<Services>,
}

struct Services {
    core: Arc<Core>,
    containers: Containers,
    execs: Execs,
    images: Images,
    volumes: Volumes,
    networks: Networks,
    events: Events,
    system: System,
}

impl Engine {
    /// Opens the store, takes over what runs, sets up the networks, and starts what its policy wants running.
    ///
    /// # Errors
    /// Where the data root cannot be used, or another engine has it; one bad object never stops it.
    pub async fn open(config: Config, kernel: Arc<dyn Kernel>) -> Result<Engine> {
        let (config, opened) = (Arc::new(config), Arc::clone(&kernel));
        let settings = Arc::clone(&config);
        let core = blocking::run("open the store", move || assemble(settings, opened)).await?;
        core.supervisor.warm_up().await?;
        recover::load(&core)?;
        let published = recover::adopt(&core).await;
        core.networks.reconcile(published.clone()).await?;
        if let Err(error) = core.networks.release_stale_ports(&published).await {
            tracing::warn!(%error, "ports of containers that are gone may still be reserved");
        }
        let table = Arc::clone(&core.table);
        core.images.set_in_use(Arc::new(move || used_images(&table)));
        let services = Services {
            containers: Containers::new(Arc::clone(&core)),
            execs: Execs::new(Arc::clone(&core)),
            images: core.images.clone(),
            volumes: core.volumes.clone(),
            networks: core.networks.clone(),
            events: core.events.clone(),
            system: System::new(Arc::clone(&core)),
            core,
        };
        let engine = Engine {
            services: Arc::new(services),
        };
        engine.look_after();
        Ok(engine)
    }

    /// What goes on beside requests: cleaning up, restarting, repairing rules.
    fn look_after(&self) {
        let core = Arc::clone(&self.services.core);
        tokio::spawn(async move {
            if let Err(error) = recover::sweep(&core).await {
                tracing::warn!(%error, "not everything that no record names could be removed");
            }
        });
        let core = Arc::clone(&self.services.core);
        tokio::spawn(async move { recover::resume(&core).await });
        let core = Arc::clone(&self.services.core);
        tokio::spawn(async move {
            while !core.closing() {
                tokio::time::sleep(RULES_PERIOD).await;
                let networks = core.networks.clone();
                match blocking::run("look after the packet rules", move || networks.repair_rules()).await {
                    Ok(true) => tracing::warn!("the packet rules were changed by somebody and are repaired"),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "the packet rules cannot be looked after"),
                }
            }
        });
    }

    /// Containers.
    pub fn containers(&self) -> &Containers {
        &self.services.containers
    }

    /// Execs.
    pub fn execs(&self) -> &Execs {
        &self.services.execs
    }

    /// Images.
    pub fn images(&self) -> &Images {
        &self.services.images
    }

    /// Volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.services.volumes
    }

    /// Networks.
    pub fn networks(&self) -> &Networks {
        &self.services.networks
    }

    /// Events.
    pub fn events(&self) -> &Events {
        &self.services.events
    }

    /// The engine as a whole.
    pub fn system(&self) -> &System {
        &self.services.system
    }

    /// Ends the engine; containers keep running. What was recorded lazily is on the disk when this returns.
    pub async fn shutdown(&self) {
        self.services.core.close();
        if let Err(error) = self.services.core.db.flush().await {
            tracing::error!(%error, "the last records may not be on the disk");
        }
    }
}

/// Everything that needs no runtime. Blocks shortly.
fn assemble(config: Arc<Config>, kernel: Arc<dyn Kernel>) -> Result<Arc<Core>> {
    for dir in [&config.data_root, &config.exec_root] {
        directory(dir)?;
    }
    let store = Store::open(&config.data_root)?;
    for warning in store.warnings() {
        tracing::warn!("{warning}");
    }
    let db = Db::new(store.meta().clone());
    let (events, table) = (Events::new(), Arc::new(Table::default()));
    let supervisor = Supervisor::new(Arc::clone(&kernel), &config.exec_root);
    let netd = Netd::new(supervisor.clone(), &config.exec_root);
    let networks = Networks::load(
        Arc::clone(&config),
        db.clone(),
        (events.clone(), netd, Arc::clone(&table)),
    )?;
    let volumes = Volumes::load(&config, db.clone(), events.clone(), Arc::clone(&table))?;
    let images = Images::new(store.clone(), Client::new(registries(&config)), events.clone());
    Ok(Core::new(Parts {
        config,
        kernel,
        store,
        db,
        events,
        table,
        images,
        volumes,
        networks,
        supervisor,
    }))
}

fn directory(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o711).create(dir);
    made.map_err(|e| Error::internal(format!("making {}", dir.display()), e))
}

fn registries(config: &Config) -> RegistryConfig {
    RegistryConfig {
        insecure: config.insecure_registries.clone(),
        mirrors: config.registry_mirrors.clone(),
        certs_dirs: vec![
            PathBuf::from("/etc/docker/certs.d"),
            PathBuf::from("/etc/ferry/certs.d"),
        ],
        proxy: Proxy::default(),
        user_agent: format!("ferry/{}", config.version),
    }
}

fn used_images(table: &Table) -> Vec<UsedBy> {
    let used = |container: &Arc<crate::containers::table::Container>| UsedBy {
        container: container.id.clone(),
        running: container.state().alive(),
        image: container.record().image.clone(),
    };
    table.all().iter().map(used).collect()
}
