//! Image names in the metadata store.

use super::journal::{self, Journal};
use super::resolve::{self, Closure, ResolvedImage};
use crate::content::Content;
use crate::error::{Result, StoreError};
use crate::layer::Limits;
use crate::layout::Layout;
use crate::lease::Leases;
use crate::meta::{Batch, Durability, Meta};
use crate::snapshot::Snapshotter;
use ferry_oci::image::Descriptor;
use ferry_oci::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const TABLE: &str = "images";
/// How the key of an image without a name begins; no reference can.
const UNNAMED: &str = "<unnamed>@";

/// One name and what it points to, or an image that has lost its last name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name in its canonical form; `None` for an image without one.
    #[serde(with = "name", default)]
    pub reference: Option<Reference>,
    /// The manifest or index. Its digest is the image's id.
    pub target: Descriptor,
    /// When the name was given, in nanoseconds since 1970.
    pub updated: u64,
}

impl ImageRecord {
    pub(super) fn key(&self) -> String {
        match &self.reference {
            Some(reference) => reference.to_string(),
            None => format!("{UNNAMED}{}", self.target.digest),
        }
    }
}

/// References are kept in their canonical text.
mod name {
    use ferry_oci::Reference;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &Option<Reference>, s: S) -> Result<S::Ok, S::Error> {
        name.as_ref().map(Reference::to_string).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Reference>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| t.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

struct Inner {
    meta: Meta,
    content: Content,
    snapshotter: Arc<dyn Snapshotter>,
    leases: Leases,
    journal: Journal,
}

/// The images of a store. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

impl Images {
    /// Opens the names; where the database begins anew they are rebuilt from the journal, as far as their content is here.
    pub(crate) fn open(
        layout: &Layout,
        meta: Meta,
        (content, leases): (Content, Leases),
        snapshotter: Arc<dyn Snapshotter>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self> {
        if meta.was_rebuilt() {
            rebuild(layout, &meta, &content, warn)?;
        }
        let journal = Journal::start(layout, &meta.scan::<ImageRecord>(TABLE, "")?)?;
        Ok(Self {
            inner: Arc::new(Inner {
                meta,
                content,
                snapshotter,
                leases,
                journal,
            }),
        })
    }

    /// Points a name to a target whose content is here, and makes the image's layers durable first. Durable when this returns.
    /// Returns what the name pointed to before; when that was another image and has no other name, it stays as an unnamed one.
    pub fn set(&self, reference: &Reference, target: &Descriptor) -> Result<Option<Descriptor>> {
        self.write(Some(reference.clone().tagged()), target)
    }

    /// Keeps an image that has no name. Durable when this returns.
    pub fn set_unnamed(&self, target: &Descriptor) -> Result<()> {
        self.write(None, target).map(|_| ())
    }

    fn write(&self, reference: Option<Reference>, target: &Descriptor) -> Result<Option<Descriptor>> {
        let inner = &*self.inner;
        let _lease = inner.leases.acquire();
        let mut closure = Closure::default();
        closure.add(&inner.content, &target.digest)?;
        // What somebody looks at under a lease is spared by gc; other platforms' blobs need not be here.
        closure.blobs.iter().for_each(|digest| {
            inner.content.contains(digest);
        });
        inner
            .snapshotter
            .sync_image(&closure.layers.into_iter().collect::<Vec<_>>())?;
        let updated = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        let updated = u64::try_from(updated).unwrap_or(u64::MAX);
        let record = ImageRecord {
            reference,
            target: target.clone(),
            updated,
        };
        let before: Option<ImageRecord> = inner.meta.get(TABLE, &record.key())?;
        let mut batch = Batch::new();
        batch.put(TABLE, &record.key(), &record)?;
        let mut journalled = vec![record.clone()];
        let mut gone = None;
        if record.reference.is_some() {
            let unnamed = ImageRecord {
                reference: None,
                ..record.clone()
            };
            if inner.meta.get::<ImageRecord>(TABLE, &unnamed.key())?.is_some() {
                batch.delete(TABLE, &unnamed.key())?;
                gone = Some(unnamed.key());
            }
            if let Some(old) = before.as_ref().filter(|b| b.target.digest != target.digest)
                && self.names_of(&old.target.digest)?.len() < 2
            {
                let unnamed = ImageRecord {
                    reference: None,
                    ..old.clone()
                };
                batch.put(TABLE, &unnamed.key(), &unnamed)?;
                journalled.push(unnamed);
            }
        }
        inner.meta.write(batch, Durability::Durable)?;
        let now = || inner.meta.scan(TABLE, "");
        inner.journal.note(&journalled, gone.as_slice(), now)?;
        Ok(before.map(|b| b.target))
    }

    /// Takes a name away, and nothing else: what it pointed to goes with the next gc unless something else refers to it.
    /// Durable when this returns.
    pub fn remove(&self, reference: &Reference) -> Result<()> {
        let key = reference.clone().tagged().to_string();
        self.remove_key(&key, || StoreError::not_found("image", reference.familiar()))
    }

    /// Lets go of an image that has no name. Durable when this returns.
    pub fn remove_unnamed(&self, target: &Digest) -> Result<()> {
        self.remove_key(&format!("{UNNAMED}{target}"), || {
            StoreError::not_found("image", target)
        })
    }

    fn remove_key(&self, key: &str, missing: impl FnOnce() -> StoreError) -> Result<()> {
        if self.inner.meta.get::<ImageRecord>(TABLE, key)?.is_none() {
            return Err(missing());
        }
        self.inner.meta.delete(TABLE, key, Durability::Durable)?;
        let now = || self.inner.meta.scan(TABLE, "");
        self.inner.journal.note(&[], &[key.to_owned()], now)
    }

    /// Every name, and every image without one, in the order of names.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        Ok(self
            .inner
            .meta
            .scan(TABLE, "")?
            .into_iter()
            .map(|(_, record)| record)
            .collect())
    }

    /// What a name points to.
    pub fn get(&self, reference: &Reference) -> Result<ImageRecord> {
        let reference = reference.clone().tagged();
        if let Some(record) = self.inner.meta.get(TABLE, &reference.to_string())? {
            return Ok(record);
        }
        self.by_digest_of_name(&reference)?
            .ok_or_else(|| StoreError::not_found("image", reference.familiar()))
    }

    /// `name@digest` also finds an image of that digest which has the name with a tag.
    fn by_digest_of_name(&self, wanted: &Reference) -> Result<Option<ImageRecord>> {
        let Some(digest) = wanted.digest() else {
            return Ok(None);
        };
        let same = |r: &Reference| (r.registry(), r.repository()) == (wanted.registry(), wanted.repository());
        let found = self
            .list()?
            .into_iter()
            .find(|record| record.target.digest == *digest && record.reference.as_ref().is_some_and(same));
        Ok(found.map(|record| ImageRecord {
            reference: Some(wanted.clone()),
            ..record
        }))
    }

    /// All names of an image, by its id; the unnamed record where it has none.
    pub fn names_of(&self, target: &Digest) -> Result<Vec<ImageRecord>> {
        Ok(self
            .list()?
            .into_iter()
            .filter(|record| record.target.digest == *target)
            .collect())
    }

    /// What a person means by `text`: a name, else a digest or the beginning of one, with or without `sha256:`.
    pub fn find(&self, text: &str) -> Result<ImageRecord> {
        if let Ok(reference) = text.parse::<Reference>() {
            match self.get(&reference) {
                Err(e) if e.is_not_found() => {}
                found => return found,
            }
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if prefix.is_empty() || !prefix.bytes().all(is_hex) {
            return Err(StoreError::not_found("image", text));
        }
        let mut found: Vec<ImageRecord> = self.list()?;
        found.retain(|record| record.target.digest.hex().starts_with(prefix));
        let first = found
            .first()
            .ok_or_else(|| StoreError::not_found("image", text))?;
        if found
            .iter()
            .any(|record| record.target.digest != first.target.digest)
        {
            return Err(StoreError::Ambiguous {
                name: text.to_owned(),
            });
        }
        Ok(found.swap_remove(0))
    }

    /// What an image is on a platform: its manifest, configuration and layers, all read from verified content.
    pub fn resolve(&self, target: &Digest, platform: &Platform) -> Result<ResolvedImage> {
        resolve::resolve(&self.inner.content, target, platform)
    }

    /// Whether every layer is unpacked.
    pub fn is_unpacked(&self, image: &ResolvedImage) -> bool {
        image
            .layers
            .iter()
            .all(|layer| self.inner.snapshotter.has(&layer.diff_id))
    }

    /// Unpacks the layers that are missing, two at a time, from content that is here.
    pub fn unpack(&self, image: &ResolvedImage, limits: &Limits) -> Result<()> {
        let _lease = self.inner.leases.acquire();
        let (content, snapshotter) = (&self.inner.content, &*self.inner.snapshotter);
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(layer) = image.layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                resolve::unpack_layer(content, snapshotter, layer, limits)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let own: Result<()> = work();
            let others = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            own.and(others)
        })?;
        snapshotter.sync_image(&image.diff_ids())
    }
}

fn rebuild(layout: &Layout, meta: &Meta, content: &Content, warn: &mut dyn FnMut(String)) -> Result<()> {
    let mut batch = Batch::new();
    let mut kept = 0;
    for (key, record) in journal::replay(layout) {
        if content.contains(&record.target.digest) {
            batch.put(TABLE, &key, &record)?;
            kept += 1;
        } else {
            warn(format!(
                "the image name {key} is lost: its manifest is not here any more"
            ));
        }
    }
    meta.write(batch, Durability::Durable)?;
    warn(format!("{kept} image names were rebuilt from their journal"));
    Ok(())
}
