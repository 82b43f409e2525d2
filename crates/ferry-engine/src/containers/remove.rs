//! Removal: first from the records, then from the disk.
//!
//! Once the record is gone the container does not exist: its name is free and everything else is litter, which a bounded reaper
//! takes away, now or at the engine's next start.

use super::core::{Core, refused};
use super::lifecycle::{remove_dir, settle};
use super::options::RemoveOptions;
use super::state::{Conflict, Event};
use super::stop::kill_to_remove;
use super::table::Container;
use super::view::Status;
use crate::{Error, Kind, Result, blocking, db};
use std::sync::Arc;

/// How often a removal asks again when the container's state moves under it.
const ATTEMPTS: usize = 16;

/// Removes a container and answers when the removal is on the disk.
pub(crate) async fn remove(
    core: &Arc<Core>,
    container: &Arc<Container>,
    options: &RemoveOptions,
) -> Result<()> {
    if options.link {
        return Err(Error::conflict(
            "Conflict, cannot remove the default link name of the container",
        ));
    }
    claim(core, container, options.force).await?;
    let name = container.record().name.clone();
    if let Err(error) = core.db.delete(db::CONTAINERS, &container.id).await {
        // Always legal from where it stands.
        let _ = core.apply(container, Event::RemoveFailed);
        return Err(Error::new(
            error.kind(),
            format!("cannot remove container {name:?}: {error}"),
        ));
    }
    finish(core, container, options.volumes);
    Ok(())
}

/// Removes a container that ended and was to be removed then.
pub(crate) async fn automatically(core: Arc<Core>, container: Arc<Container>) {
    if claim(&core, &container, false).await.is_err() {
        // Somebody else removes it.
        return;
    }
    if let Err(error) = core.db.delete_lazy(db::CONTAINERS, &container.id) {
        tracing::error!(container = container.id, %error, "it could not be removed at its end");
        let _ = core.apply(&container, Event::RemoveFailed);
        return;
    }
    finish(&core, &container, true);
}

/// From now on nobody else starts or removes it.
async fn claim(core: &Arc<Core>, container: &Arc<Container>, force: bool) -> Result<()> {
    let record = container.record();
    for _ in 0..ATTEMPTS {
        let conflict = match core.apply(container, Event::Remove) {
            Ok(_) => return Ok(()),
            Err(conflict) => conflict,
        };
        let state = container.state();
        match conflict {
            Conflict::Starting => settle(container).await?,
            Conflict::Removing => {
                let text = format!("removal of container {} is already in progress", record.name);
                return Err(Error::conflict(text));
            }
            Conflict::Running | Conflict::Paused | Conflict::Restarting if force => {
                kill_to_remove(core, container).await?
            }
            Conflict::Running | Conflict::Paused | Conflict::Restarting => {
                let why = match state.status() {
                    Status::Paused => "container is paused and must be unpaused first".to_owned(),
                    Status::Restarting => {
                        "container is restarting: stop the container before removing or force remove"
                            .to_owned()
                    }
                    _ => {
                        "container is running: stop the container before removing or force remove".to_owned()
                    }
                };
                return Err(Error::conflict(format!(
                    "cannot remove container {:?}: {why}",
                    record.name
                )));
            }
            other => return Err(refused(other, &container.id, &state)),
        }
    }
    Err(Error::new(
        Kind::Conflict,
        format!("container {} keeps changing: try again", record.name),
    ))
}

/// The record is gone: name, those who wait, the event, then the disk.
fn finish(core: &Arc<Core>, container: &Arc<Container>, volumes: bool) {
    let record = container.record();
    core.table.remove(&container.id);
    core.publish(&container.cell(), "destroy", &[]);
    // Always legal from where it stands.
    let _ = core.apply(container, Event::Removed);
    let anonymous = if volumes {
        record.anonymous.clone()
    } else {
        Vec::new()
    };
    let (core, container) = (Arc::clone(core), Arc::clone(container));
    tokio::spawn(async move {
        if let Err(error) = reap(&core, &container, anonymous).await {
            tracing::error!(container = container.id, %error, "not all of a removed container could be taken from the disk");
        }
    });
}

/// Takes a removed container from the disk.
async fn reap(core: &Arc<Core>, container: &Arc<Container>, anonymous: Vec<String>) -> Result<()> {
    let mut progress = container.watch();
    // An error would say that the container is gone, and then nothing is held.
    let _ = progress.wait_for(|p| !p.held).await;
    let _permit = core.reaper().await?;
    for volume in anonymous {
        match core.volumes.remove(&volume, false).await {
            Err(e) if !matches!(e.kind(), Kind::NotFound | Kind::Conflict) => {
                tracing::error!(volume, error = %e, "an anonymous volume could not be removed with its container");
            }
            _ => {}
        }
    }
    let (store, dir, id) = (core.store.clone(), core.dir(&container.id), container.id.clone());
    let runtime = core.runtime_dir(&container.id);
    blocking::run("remove a container from the disk", move || -> Result<()> {
        store.layers().remove(&id)?;
        remove_dir(&dir)?;
        remove_dir(&runtime)?;
        store.layers().empty_trash()?;
        Ok(())
    })
    .await
}
