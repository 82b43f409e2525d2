//! Taking names and images away.

use super::view::Removed;
use super::{Images, UsedBy, looked_up, short};
use crate::{Error, Result, blocking};
use ferry_oci::{Digest, Reference};
use ferry_store::{GcRoots, ImageRecord, Store};

/// What `remove` is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageRemoveOptions {
    /// Even if a stopped container uses it or it has several names.
    pub force: bool,
    /// Untagged parents stay. Images here have no parents, so it changes nothing.
    pub no_prune: bool,
}

impl Images {
    /// Removes a name, and the image with its last name; by id, all of an image's names.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Conflict`] where a container uses it, or an id has several names and `force` is not set.
    pub async fn remove(&self, key: &str, options: ImageRemoveOptions) -> Result<Vec<Removed>> {
        let users = self.users();
        let (images, key) = (self.clone(), key.to_owned());
        let removed = blocking::run("remove an image", move || {
            images.remove_now(&key, options.force, &users)
        })
        .await?;
        for step in &removed {
            match step {
                Removed::Untagged(name) => self.happened("untag", name, name, &Default::default()),
                Removed::Deleted(digest) => self.happened(
                    "delete",
                    &digest.to_string(),
                    &digest.to_string(),
                    &Default::default(),
                ),
            }
        }
        Ok(removed)
    }

    fn remove_now(&self, key: &str, force: bool, users: &[UsedBy]) -> Result<Vec<Removed>> {
        let store = &self.store;
        let found = store.images().find(key).map_err(looked_up(key))?;
        let id = found.target.digest.clone();
        let names = store.images().names_of(&id)?;
        let by_name = key
            .parse::<Reference>()
            .is_ok_and(|r| found.reference.as_ref() == Some(&r.tagged()))
            && !is_id(key, &id);
        let using: Vec<&UsedBy> = users.iter().filter(|u| u.image.id == id).collect();
        if by_name && names.len() > 1 {
            return self.untag(&found).map(|step| vec![step]);
        }
        if !by_name
            && names
                .iter()
                .filter_map(|n| n.reference.as_ref())
                .map(Reference::familiar_name)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
                > 1
            && !force
        {
            return Err(conflict(
                short(&id),
                "must be forced",
                "image is referenced in multiple repositories",
            ));
        }
        let shown = if by_name {
            found
                .reference
                .as_ref()
                .map_or_else(|| short(&id).to_owned(), Reference::familiar)
        } else {
            short(&id).to_owned()
        };
        let running = using.iter().find(|u| u.running);
        if let Some(user) = running.filter(|_| !by_name) {
            let text = format!(
                "container {} is using its referenced image {}",
                &user.container[..12],
                short(&id)
            );
            return Err(conflict(
                &shown,
                "cannot be forced",
                &format!("image is being used by running {text}"),
            ));
        }
        if let Some(user) = using.first().filter(|_| !force) {
            let text = format!(
                "container {} is using its referenced image {}",
                &user.container[..12],
                short(&id)
            );
            return Err(conflict(&shown, "must be forced", &text));
        }
        self.take_away(&names, &found, using.is_empty())
    }

    /// All names go; the image too unless a container still uses it, in which case it stays without a name.
    fn take_away(&self, names: &[ImageRecord], found: &ImageRecord, unused: bool) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        if !unused {
            self.store.images().set_unnamed(&found.target)?;
        }
        for record in names {
            if record.reference.is_some() {
                removed.push(self.untag(record)?);
            } else if unused {
                self.store.images().remove_unnamed(&record.target.digest)?;
            }
        }
        if unused {
            removed.push(Removed::Deleted(found.target.digest.clone()));
            self.collect(&self.store)?;
        }
        Ok(removed)
    }

    fn untag(&self, record: &ImageRecord) -> Result<Removed> {
        let Some(reference) = &record.reference else {
            return Ok(Removed::Untagged(record.target.digest.to_string()));
        };
        self.store.images().remove(reference)?;
        Ok(Removed::Untagged(reference.familiar()))
    }

    /// Frees what nothing refers to any more; returns the bytes.
    pub(super) fn collect(&self, store: &Store) -> Result<u64> {
        let users = self.users();
        let roots = GcRoots {
            images: users.iter().map(|u| u.image.manifest.clone()).collect(),
            layers: users.iter().flat_map(|u| u.image.layers.clone()).collect(),
            content: Vec::new(),
        };
        let report = store.gc(&roots)?;
        for problem in &report.problems {
            tracing::warn!(problem, "garbage collection");
        }
        Ok(report.blob_bytes + report.layer_bytes)
    }

    /// Removes images that no container uses: dangling ones, or all of them with the filter `dangling=false`. Further filters: `label`, `label!`, `until`.
    /// Tells what went, and the bytes freed.
    pub async fn prune(&self, filters: &super::ImageFilters) -> Result<(Vec<Removed>, u64)> {
        let all = filters
            .get("dangling")
            .and_then(|v| v.first())
            .is_some_and(|v| matches!(v.as_str(), "false" | "0"));
        for key in filters.keys() {
            if !matches!(key.as_str(), "dangling" | "label" | "label!" | "until") {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
        }
        let mut wanted = filters.clone();
        wanted.remove("dangling");
        let chosen = self
            .list(super::ImageListOptions {
                filters: wanted,
                ..Default::default()
            })
            .await?;
        let users = self.users();
        let images = self.clone();
        blocking::run("prune images", move || -> Result<(Vec<Removed>, u64)> {
            let mut removed = Vec::new();
            for image in chosen
                .iter()
                .filter(|i| (all || i.references.is_empty()) && !users.iter().any(|u| u.image.id == i.id))
            {
                for record in images.store.images().names_of(&image.id)? {
                    let step = images.untag(&record)?;
                    if record.reference.is_none() {
                        images.store.images().remove_unnamed(&image.id)?;
                    }
                    removed.push(step);
                }
                removed.push(Removed::Deleted(image.id.clone()));
            }
            let freed = if removed.is_empty() {
                0
            } else {
                images.collect(&images.store)?
            };
            Ok((removed, freed))
        })
        .await
    }
}

fn is_id(key: &str, id: &Digest) -> bool {
    let hex = key.strip_prefix("sha256:").unwrap_or(key);
    key.starts_with("sha256:") && id.hex().starts_with(hex)
}

fn conflict(what: &str, how: &str, why: &str) -> Error {
    Error::conflict(format!("conflict: unable to delete {what} ({how}) - {why}"))
}
