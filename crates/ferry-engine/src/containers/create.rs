//! `create`: a container that is there, but does not run.

use super::core::Core;
use super::options::Created;
use super::record::{self, Record};
use super::spec::ContainerSpec;
use super::state::State;
use super::table::Container;
use super::{merge, mounts, validate};
use crate::kernel::Overlay;
use crate::volumes::copy_up;
use crate::{Error, Result, blocking, db, ids, names};
use ferry_oci::Platform;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::SystemTime;

/// Makes a container and answers when it is on the disk; one that is removed at its end need not be.
pub(crate) async fn create(
    core: &Arc<Core>,
    name: Option<String>,
    mut spec: ContainerSpec,
    platform: Option<Platform>,
) -> Result<Created> {
    let name = name.filter(|n| !n.is_empty());
    let name = name.as_deref().map(names::check).transpose()?.map(String::from);
    validate::request(&spec)?;
    let image = core.images.resolve(&spec.image, platform.as_ref()).await?;
    merge::merge(&mut spec, &image.config.config)?;
    let id = ids::random()?;
    merge::defaults(&mut spec, &id, &core.config, core.kernel.host());
    let (config, host) = (Arc::clone(&core.config), core.kernel.host().clone());
    let (spec, warnings) = blocking::run("check a container", move || -> Result<_> {
        let warnings = validate::merged(&mut spec, &config, &host)?;
        Ok((spec, warnings))
    })
    .await?;
    let name = reserve(core, name, &id)?;
    let record = Record {
        id: id.clone(),
        name: name.clone(),
        created: SystemTime::now(),
        spec: Arc::new(spec),
        image: image.identity,
        mounts: Vec::new(),
        anonymous: Vec::new(),
    };
    match make(core, record).await {
        Ok(()) => Ok(Created { id, warnings }),
        Err(error) => {
            core.table.release(&name, &id);
            undo(core, &id).await;
            Err(error)
        }
    }
}

/// The name that was asked for, or one that nobody has.
fn reserve(core: &Core, name: Option<String>, id: &str) -> Result<String> {
    if let Some(name) = name {
        return core
            .table
            .reserve(&name, id)
            .map(|()| name.clone())
            .map_err(|by| taken(&name, &by));
    }
    loop {
        let name = names::generate(|n| core.table.taken(n))?;
        if core.table.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
}

/// Docker's words for a name that somebody has.
pub(crate) fn taken(name: &str, by: &str) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    ))
}

async fn make(core: &Arc<Core>, mut record: Record) -> Result<()> {
    let settled = mounts::settle(core, &record.spec).await?;
    record.mounts.clone_from(&settled.points);
    record.anonymous.clone_from(&settled.anonymous);
    let spec = &record.spec;
    let state = State {
        policy: spec.restart.clone(),
        auto_remove: spec.auto_remove,
        ..State::default()
    };
    let value = record::encode(&record, &state)?;
    let (of, disk, fresh) = (Arc::clone(core), record.clone(), settled.fresh.clone());
    let on_disk = blocking::run("make a container", move || lay_out(&of, &disk, &fresh));
    let lazily = spec.auto_remove;
    let recorded = async {
        if lazily {
            return core.db.put_lazy(db::CONTAINERS, &record.id, &value);
        }
        core.db.put(db::CONTAINERS, &record.id, &value).await
    };
    let (on_disk, recorded) = tokio::join!(on_disk, recorded);
    on_disk?;
    recorded?;
    let container = Container::new(record, state);
    core.table.insert(Arc::clone(&container));
    core.publish(&container.cell(), "create", &[]);
    Ok(())
}

/// Directory, snapshot, and the image's content in empty volumes.
fn lay_out(core: &Core, record: &Record, fresh: &[(String, String)]) -> Result<()> {
    let dir = core.dir(&record.id);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|e| Error::internal(format!("making {}", dir.display()), e))?;
    let mounts = core.store.layers().prepare(&record.id, &record.image.layers)?;
    if fresh.is_empty() {
        return Ok(());
    }
    let overlay = Overlay {
        lowers: mounts.lowers,
        upper: None,
        work: None,
    };
    let root = core
        .kernel
        .mount_overlay(&overlay)
        .map_err(|e| Error::internal("mounting the image", e))?;
    for (name, destination) in fresh {
        copy_up(root.as_fd(), destination, &core.volumes.source(name)?)?;
    }
    Ok(())
}

async fn undo(core: &Arc<Core>, id: &str) {
    let (of, container) = (Arc::clone(core), id.to_owned());
    let undone = blocking::run("take a container back", move || -> Result<()> {
        of.db.delete_lazy(db::CONTAINERS, &container)?;
        of.store.layers().remove(&container)?;
        super::lifecycle::remove_dir(&of.dir(&container))
    });
    if let Err(error) = undone.await {
        tracing::error!(container = id, %error, "a container that could not be made left something behind");
    }
}
