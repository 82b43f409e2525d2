//! The engine's records in the store's one database.
//!
//! Tables: `containers`, `volumes`, `networks`, `engine`. A record that cannot be read is named in the log and left alone: it never
//! keeps the engine from starting.

use crate::{Error, Result, blocking};
use ferry_store::{Batch, Durability, Meta};
use serde::Serialize;
use serde_json::Value;

/// Containers, by id.
pub(crate) const CONTAINERS: &str = "containers";
/// Volumes, by name.
pub(crate) const VOLUMES: &str = "volumes";
/// Networks, by id.
pub(crate) const NETWORKS: &str = "networks";

/// The database; cloning gives another handle to the same.
#[derive(Clone)]
pub(crate) struct Db {
    meta: Meta,
}

impl Db {
    /// Over the store's.
    pub(crate) fn new(meta: Meta) -> Self {
        Self { meta }
    }

    /// Every record of a table. Blocks shortly.
    pub(crate) fn load(&self, table: &str) -> Result<Vec<(String, Value)>> {
        Ok(self.meta.scan(table, "")?)
    }

    /// Writes without waiting for the disk.
    pub(crate) fn put_lazy<T: Serialize>(&self, table: &str, key: &str, value: &T) -> Result<()> {
        Ok(self.meta.put(table, key, value, Durability::Lazy)?)
    }

    /// Deletes without waiting for the disk.
    pub(crate) fn delete_lazy(&self, table: &str, key: &str) -> Result<()> {
        Ok(self.meta.delete(table, key, Durability::Lazy)?)
    }

    /// Writes, and answers when it is on the disk.
    pub(crate) async fn put<T: Serialize>(&self, table: &'static str, key: &str, value: &T) -> Result<()> {
        let mut batch = Batch::new();
        batch.put(table, key, value)?;
        self.write(batch).await
    }

    /// Deletes, and answers when it is on the disk.
    pub(crate) async fn delete(&self, table: &'static str, key: &str) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(table, key)?;
        self.write(batch).await
    }

    /// Writes what was written lazily.
    pub(crate) async fn flush(&self) -> Result<()> {
        let meta = self.meta.clone();
        blocking::run("flush the records", move || meta.flush().map_err(Error::from)).await
    }

    async fn write(&self, batch: Batch) -> Result<()> {
        let meta = self.meta.clone();
        blocking::run("write a record", move || {
            meta.write(batch, Durability::Durable).map_err(Error::from)
        })
        .await
    }
}
