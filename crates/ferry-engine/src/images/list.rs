//! Telling what images there are.

use super::view::{HistoryEntry, ImageSummary, ImageUsage, ImageView};
use super::{ImageFilters, Images, looked_up};
use crate::{Error, Result, blocking};
use ferry_oci::image::{Descriptor, MAX_CONFIG};
use ferry_oci::{Digest, Platform, Reference, media};
use ferry_store::{ImageRecord, ResolvedImage, Store, StoreError};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What `list` is asked.
#[derive(Clone, Debug, Default)]
pub struct ImageListOptions {
    /// Intermediate images too; there are none here.
    pub all: bool,
    /// By key: before dangling label label! reference since until.
    pub filters: ImageFilters,
    /// Bytes that other images share are told.
    pub shared_size: bool,
    /// How many containers use each is told.
    pub count_containers: bool,
}

const KEYS: [&str; 7] = [
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

impl Images {
    /// Images that pass the filters, newest first.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for an unknown filter.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        if let Some(key) = options.filters.keys().find(|k| !KEYS.contains(&k.as_str())) {
            return Err(Error::invalid(format!("invalid filter '{key}'")));
        }
        let users = self.users();
        let store = self.store.clone();
        blocking::run("list images", move || {
            let mut by_id: BTreeMap<Digest, Vec<ImageRecord>> = BTreeMap::new();
            for record in store.images().list()? {
                by_id
                    .entry(record.target.digest.clone())
                    .or_default()
                    .push(record);
            }
            let shared = options.shared_size.then(|| layer_uses(&store, by_id.keys()));
            let mut found = Vec::new();
            for records in by_id.into_values() {
                let Some(mut summary) = summarise(&store, &records)? else {
                    continue;
                };
                summary.shared_size = shared
                    .as_ref()
                    .map(|uses| shared_bytes(&store, &summary.id, uses));
                if options.count_containers {
                    summary.containers =
                        Some(users.iter().filter(|u| u.image.id == summary.id).count() as u64);
                }
                found.push(summary);
            }
            let mut passing = filter(&store, found, &options.filters)?;
            passing.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
            Ok::<_, Error>(passing)
        })
        .await
    }

    /// One image.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn inspect(&self, key: &str, platform: Option<&Platform>) -> Result<ImageView> {
        let (store, key, platform) = (self.store.clone(), key.to_owned(), platform.cloned());
        blocking::run("inspect an image", move || {
            let record = store.images().find(&key).map_err(looked_up(&key))?;
            let names = store.images().names_of(&record.target.digest)?;
            let image = resolve(&store, &record.target.digest, platform.as_ref())?;
            let config_bytes = store.content().read(&image.config_digest, MAX_CONFIG)?;
            let (references, by_digest) = split(&names);
            let tagged = names
                .iter()
                .filter(|n| n.reference.is_some())
                .map(|n| n.updated)
                .max();
            Ok::<_, Error>(ImageView {
                id: record.target.digest.clone(),
                manifest: manifest_descriptor(&store, &record.target, &image)?,
                size: size(&store, &record.target, &image),
                target: record.target,
                references,
                by_digest,
                config: image.config,
                config_bytes,
                last_tagged: tagged.map(|ns| UNIX_EPOCH + Duration::from_nanos(ns)),
            })
        })
        .await
    }

    /// An image's history, newest step first.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn history(&self, key: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>> {
        let (store, key, platform) = (self.store.clone(), key.to_owned(), platform.cloned());
        blocking::run("tell an image's history", move || {
            let record = store.images().find(&key).map_err(looked_up(&key))?;
            let names = store.images().names_of(&record.target.digest)?;
            let image = resolve(&store, &record.target.digest, platform.as_ref())?;
            let mut layers = image.layers.iter();
            let mut entries: Vec<HistoryEntry> = image
                .config
                .history
                .iter()
                .map(|step| HistoryEntry {
                    id: None,
                    created: step.created.as_deref().and_then(moment),
                    created_by: step.created_by.clone().unwrap_or_default(),
                    tags: Vec::new(),
                    size: if step.empty_layer {
                        0
                    } else {
                        layers
                            .next()
                            .map_or(0, |l| store.layers().size(&l.diff_id).unwrap_or(0))
                    },
                    comment: step.comment.clone().unwrap_or_default(),
                })
                .collect();
            entries.reverse();
            if let Some(newest) = entries.first_mut() {
                newest.id = Some(record.target.digest);
                newest.tags = split(&names).0.iter().map(Reference::familiar).collect();
            }
            Ok::<_, Error>(entries)
        })
        .await
    }

    /// What images take, for `system df`.
    pub async fn usage(&self) -> Result<ImageUsage> {
        let users = self.users();
        let listed = self.list(ImageListOptions::default()).await?;
        let store = self.store.clone();
        blocking::run("measure images", move || {
            let usage = store.usage()?;
            let used = |id: &Digest| users.iter().any(|u| u.image.id == *id);
            let kept: u64 = listed.iter().filter(|i| used(&i.id)).map(|i| i.size).sum();
            let total = usage.blob_bytes + usage.layer_bytes;
            Ok::<_, Error>(ImageUsage {
                total,
                reclaimable: total.saturating_sub(kept),
                count: listed.len(),
                active: listed.iter().filter(|i| used(&i.id)).count(),
            })
        })
        .await
    }
}

/// The image on the platform asked for; without one, on the host's or else the first that is here whole.
fn resolve(store: &Store, target: &Digest, platform: Option<&Platform>) -> Result<ResolvedImage> {
    let host = Platform::host();
    Ok(store.images().resolve(target, platform.unwrap_or(&host))?)
}

fn summarise(store: &Store, records: &[ImageRecord]) -> Result<Option<ImageSummary>> {
    let Some(first) = records.first() else {
        return Ok(None);
    };
    let image = match store.images().resolve(&first.target.digest, &Platform::host()) {
        Ok(image) => image,
        Err(
            StoreError::NoPlatform { .. }
            | StoreError::NotFound { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Invalid { .. },
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (references, by_digest) = split(records);
    Ok(Some(ImageSummary {
        id: first.target.digest.clone(),
        target: first.target.clone(),
        references,
        by_digest,
        created: image.config.created.as_deref().and_then(moment),
        size: size(store, &first.target, &image),
        shared_size: None,
        containers: None,
        labels: image.config.config.labels.clone(),
        platform: image.config.platform(),
    }))
}

/// Names with a tag, and one `name@digest` for each repository.
fn split(records: &[ImageRecord]) -> (Vec<Reference>, Vec<Reference>) {
    let names = || {
        records
            .iter()
            .filter_map(|r| r.reference.as_ref().map(|n| (n, &r.target)))
    };
    let mut tagged: Vec<Reference> = names()
        .filter(|(n, _)| n.tag().is_some())
        .map(|(n, _)| n.clone())
        .collect();
    tagged.sort();
    let mut by_digest: Vec<Reference> = names().map(|(n, t)| n.with_digest(t.digest.clone())).collect();
    by_digest.sort();
    by_digest.dedup();
    (tagged, by_digest)
}

/// Blobs and unpacked layers, as Docker counts an image.
fn size(store: &Store, target: &Descriptor, image: &ResolvedImage) -> u64 {
    let documents = if image.index.is_some() {
        target.size + store.content().size(&image.manifest_digest).unwrap_or(0)
    } else {
        target.size
    };
    let unpacked: u64 = image
        .layers
        .iter()
        .map(|l| store.layers().size(&l.diff_id).unwrap_or(0))
        .sum();
    documents + image.manifest.config.size + image.compressed_size() + unpacked
}

fn manifest_descriptor(store: &Store, target: &Descriptor, image: &ResolvedImage) -> Result<Descriptor> {
    if image.index.is_none() {
        return Ok(target.clone());
    }
    Ok(Descriptor {
        media_type: image
            .manifest
            .media_type
            .clone()
            .unwrap_or_else(|| media::OCI_MANIFEST.into()),
        digest: image.manifest_digest.clone(),
        size: store.content().size(&image.manifest_digest)?,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: Some(image.config.platform()),
        artifact_type: None,
    })
}

/// How many images stand on each layer.
fn layer_uses<'d>(store: &Store, ids: impl Iterator<Item = &'d Digest>) -> BTreeMap<Digest, u32> {
    let mut uses = BTreeMap::new();
    for id in ids {
        if let Ok(image) = store.images().resolve(id, &Platform::host()) {
            for layer in image.layers {
                *uses.entry(layer.diff_id).or_default() += 1;
            }
        }
    }
    uses
}

fn shared_bytes(store: &Store, id: &Digest, uses: &BTreeMap<Digest, u32>) -> u64 {
    let Ok(image) = store.images().resolve(id, &Platform::host()) else {
        return 0;
    };
    image
        .layers
        .iter()
        .filter(|l| uses.get(&l.diff_id).is_some_and(|n| *n > 1))
        .map(|l| store.layers().size(&l.diff_id).unwrap_or(0))
        .sum()
}

fn filter(store: &Store, images: Vec<ImageSummary>, filters: &ImageFilters) -> Result<Vec<ImageSummary>> {
    let created_of = |key: &str| -> Result<Option<SystemTime>> {
        let record = store.images().find(key).map_err(looked_up(key))?;
        Ok(resolve(store, &record.target.digest, None)?
            .config
            .created
            .as_deref()
            .and_then(moment))
    };
    let mut after = None;
    let mut before = None;
    for key in filters.get("since").into_iter().flatten() {
        after = after.max(created_of(key)?);
    }
    for key in filters.get("before").into_iter().flatten() {
        before = created_of(key)?;
    }
    for text in filters.get("until").into_iter().flatten() {
        let moment = crate::filters::timestamp(text, SystemTime::now());
        before = Some(moment.ok_or_else(|| {
            Error::invalid(format!(
                "invalid filter 'until={text}': neither a time nor a duration"
            ))
        })?);
    }
    let dangling = filters
        .get("dangling")
        .and_then(|v| v.first())
        .map(|v| matches!(v.as_str(), "true" | "1"));
    let keep = |image: &ImageSummary| {
        after.is_none_or(|t| image.created.is_some_and(|c| c > t))
            && before.is_none_or(|t| image.created.is_some_and(|c| c < t))
            && dangling.is_none_or(|d| image.references.is_empty() == d)
            && filters
                .get("label")
                .into_iter()
                .flatten()
                .all(|l| has_label(image, l))
            && !filters
                .get("label!")
                .into_iter()
                .flatten()
                .any(|l| has_label(image, l))
            && filters
                .get("reference")
                .is_none_or(|patterns| patterns.iter().any(|p| names_match(image, p)))
    };
    Ok(images.into_iter().filter(keep).collect())
}

fn has_label(image: &ImageSummary, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => image.labels.get(name).is_some_and(|v| v == value),
        None => image.labels.contains_key(wanted),
    }
}

fn names_match(image: &ImageSummary, pattern: &str) -> bool {
    image
        .references
        .iter()
        .any(|r| glob(pattern, &r.familiar()) || glob(pattern, &r.familiar_name()))
}

/// Go's `path.Match`: `*` and `?` do not cross a slash.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            glob(&pattern[1..], text)
                || text
                    .chars()
                    .next()
                    .is_some_and(|c| c != '/' && glob(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) if c != '/' => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

/// An RFC 3339 moment of an image's documents; `None` for none and for what is malformed.
fn moment(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_are_gos() {
        assert!(glob("busy*", "busybox:latest"));
        assert!(glob("*/app:?", "team/app:1"));
        assert!(!glob("*", "team/app"));
        assert!(!glob("a", "ab"));
    }
}
