//! Volumes: directories that outlive containers.
//!
//! On disk: `<data-root>/volumes/<name>/_data`. What a volume is lies in its record; a directory without a record is taken in again at the
//! engine's start, a record without a directory is dropped. Removal renames the directory into `<data-root>/volumes/.trash` first, which
//! needs no new blocks, then deletes the record, then the trash.

mod copy_up;
mod local;

pub(crate) use copy_up::copy_up;

use crate::containers::options::{PruneFilter, PruneReport};
use crate::containers::table::Table;
use crate::db::{self, Db};
use crate::filters::Filters;
use crate::{Config, Error, Events, Result, blocking, ids};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

/// The label of volumes that were made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Volumes {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    db: Db,
    events: Events,
    table: Arc<Table>,
    records: RwLock<BTreeMap<String, Record>>,
    /// Held by containers that are being made and are in no table yet.
    pins: Mutex<BTreeMap<String, usize>>,
}

/// A volume as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    name: String,
    created: SystemTime,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

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

/// Keeps a volume from removal until it is dropped.
pub(crate) struct Pin {
    volumes: Volumes,
    name: String,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self
            .volumes
            .shared
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pins.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.name);
            }
        }
    }
}

impl Volumes {
    /// Loads the records and matches them with the directories. Blocks shortly.
    pub(crate) fn load(config: &Config, db: Db, events: Events, table: Arc<Table>) -> Result<Self> {
        let root = config.data_root.join("volumes");
        let records = local::open(&root, &db)?;
        let shared = Shared {
            root,
            db,
            events,
            table,
            records: RwLock::new(records),
            pins: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes a volume; an empty name makes an anonymous one. One of this name and driver that is there is answered as it is.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for a name, [`crate::Kind::Unsupported`] for a driver or option that is not there, by name.
    pub async fn create(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        let this = self.clone();
        let (name, driver) = (name.to_owned(), driver.to_owned());
        blocking::owned(async move {
            this.ensure(&name, &driver, options, labels)
                .await
                .map(|(view, _)| view)
        })
        .await
    }

    /// As `create`, and pinned.
    pub(crate) async fn create_pinned(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<(VolumeView, Pin)> {
        self.ensure(name, driver, options, labels).await
    }

    async fn ensure(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        mut labels: BTreeMap<String, String>,
    ) -> Result<(VolumeView, Pin)> {
        if !["", "local"].contains(&driver) {
            let text = format!("error looking up volume plugin {driver}: plugin {driver:?} not found");
            return Err(Error::not_found(text));
        }
        let name = if name.is_empty() {
            labels.insert(ANONYMOUS.into(), String::new());
            ids::random()?
        } else {
            local::check_name(name)?;
            name.to_owned()
        };
        local::check_options(&options)?;
        let pin = self.pin(&name);
        if let Some(record) = self.shared.get(&name) {
            return Ok((self.view(&record), pin));
        }
        let record = Record {
            name: name.clone(),
            created: SystemTime::now(),
            labels,
            options,
        };
        let dir = self.shared.root.join(&name).join("_data");
        let make = blocking::run("make a volume", move || local::make(&dir));
        let put = self.shared.db.put(db::VOLUMES, &name, &record);
        let (made, put) = tokio::join!(make, put);
        made?;
        put?;
        self.shared
            .records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), record.clone());
        self.publish(&name, "create", &[]);
        Ok((self.view(&record), pin))
    }

    /// Volumes by these filters: dangling, driver, label, name.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for an unknown filter.
    #[allow(clippy::unused_async)]
    pub async fn list(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<VolumeView>> {
        let filters = Filters::new(filters, &["dangling", "driver", "label", "label!", "name"])?;
        let dangling = filters.boolean("dangling")?;
        let records = self
            .shared
            .records
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut views: Vec<VolumeView> = records.values().map(|r| self.view(r)).collect();
        views.retain(|v| {
            filters.any("driver", |d| d == v.driver)
                && filters.any("name", |n| v.name.contains(n))
                && filters.labels(&v.labels)
                && dangling.is_none_or(|d| d == v.in_use.is_empty())
        });
        Ok(views)
    }

    /// One volume.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]: `get x: no such volume`.
    #[allow(clippy::unused_async)]
    pub async fn inspect(&self, name: &str) -> Result<VolumeView> {
        let record = self
            .shared
            .get(name)
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
        Ok(self.view(&record))
    }

    /// Removes a volume that no container has.
    ///
    /// # Errors
    /// [`crate::Kind::Conflict`] while one has it; [`crate::Kind::NotFound`] unless `force`.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let this = self.clone();
        let name = name.to_owned();
        blocking::owned(async move { this.remove_owned(&name, force).await }).await
    }

    async fn remove_owned(&self, name: &str, force: bool) -> Result<()> {
        let record = match self.shared.get(name) {
            Some(record) => record,
            None if force => return Ok(()),
            None => return Err(Error::not_found(format!("get {name}: no such volume"))),
        };
        let users = self.users(name);
        let pinned = self
            .shared
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(name);
        if !users.is_empty() || pinned {
            let text = format!("remove {name}: volume is in use - [{}]", users.join(", "));
            return Err(Error::conflict(text));
        }
        self.shared
            .records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        let (root, of) = (self.shared.root.clone(), record.name.clone());
        let trash = blocking::run("remove a volume", move || local::to_trash(&root, &of)).await;
        if let Err(error) = trash {
            self.shared
                .records
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.to_owned(), record);
            return Err(Error::new(error.kind(), format!("remove {name}: {error}")));
        }
        self.shared.db.delete(db::VOLUMES, name).await?;
        self.publish(name, "destroy", &[]);
        let root = self.shared.root.clone();
        tokio::spawn(async move {
            if let Err(error) =
                blocking::run("empty the volumes' trash", move || local::empty_trash(&root)).await
            {
                tracing::error!(%error, "removed volumes still take space");
            }
        });
        Ok(())
    }

    /// Removes the anonymous volumes that no container has, or with the filter `all` every such volume.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for an unknown filter: all, label, label!.
    pub async fn prune(&self, filter: PruneFilter) -> Result<PruneReport> {
        let filters = Filters::new(&filter.filters, &["all", "label", "label!"])?;
        let all = filters.boolean("all")?.unwrap_or(false);
        let records = self
            .shared
            .records
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut report = PruneReport::default();
        for record in records.values() {
            let wanted = all || record.labels.contains_key(ANONYMOUS);
            if !wanted || !filters.labels(&record.labels) || !self.users(&record.name).is_empty() {
                continue;
            }
            let dir = self.shared.root.join(&record.name);
            let size = blocking::run("measure a volume", move || local::size(&dir)).await?;
            if self.remove(&record.name, false).await.is_ok() {
                report.deleted.push(record.name.clone());
                report.reclaimed += size;
            }
        }
        Ok(report)
    }

    /// Every volume with its size.
    pub(crate) async fn usage(&self) -> Result<Vec<VolumeView>> {
        let mut views = self.list(&BTreeMap::new()).await?;
        for view in &mut views {
            let dir = self.shared.root.join(&view.name);
            view.size = Some(blocking::run("measure a volume", move || local::size(&dir)).await?);
        }
        Ok(views)
    }

    /// The directory that is mounted for a volume: its own, or the one that its options bind.
    pub(crate) fn source(&self, name: &str) -> Result<PathBuf> {
        let record = self
            .shared
            .get(name)
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
        Ok(local::bound(&record.options).unwrap_or_else(|| self.shared.root.join(name).join("_data")))
    }

    /// Tells of `mount` and `unmount`, with the container.
    pub(crate) fn publish(&self, name: &str, action: &str, extra: &[(&str, &str)]) {
        let mut attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.shared.events.publish("volume", action, name, attributes);
    }

    /// Keeps a volume from removal.
    pub(crate) fn pin(&self, name: &str) -> Pin {
        let mut pins = self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner);
        *pins.entry(name.to_owned()).or_default() += 1;
        Pin {
            volumes: self.clone(),
            name: name.to_owned(),
        }
    }

    fn users(&self, name: &str) -> Vec<String> {
        let mut users = BTreeSet::new();
        for container in self.shared.table.all() {
            if container.record().mounts.iter().any(|m| m.name == name) {
                users.insert(container.id.clone());
            }
        }
        users.into_iter().collect()
    }

    fn view(&self, record: &Record) -> VolumeView {
        VolumeView {
            name: record.name.clone(),
            driver: "local".into(),
            mountpoint: self
                .shared
                .root
                .join(&record.name)
                .join("_data")
                .to_string_lossy()
                .into_owned(),
            labels: record.labels.clone(),
            options: record.options.clone(),
            created: record.created,
            scope: "local",
            anonymous: record.labels.contains_key(ANONYMOUS),
            in_use: self.users(&record.name),
            size: None,
        }
    }
}

impl Shared {
    fn get(&self, name: &str) -> Option<Record> {
        self.records
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }
}
