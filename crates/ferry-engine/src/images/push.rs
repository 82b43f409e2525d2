//! Pushing: every blob that the registry lacks, then the manifests, the target last.

use super::view::{Progress, ProgressStream};
use super::{Images, Steps, progress_stream};
use crate::{Error, Result, blocking};
use bytes::Bytes;
use ferry_oci::image::{Descriptor, Document, MAX_MANIFEST};
use ferry_oci::{Platform, Reference};
use ferry_registry::{Access, Credentials, Repository, Uploaded};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Blobs that are sent at a time, as Docker's default.
const UPLOADS: usize = 5;
const TICK: Duration = Duration::from_millis(100);

/// A manifest of the image with its bytes.
struct Part {
    descriptor: Descriptor,
    bytes: Bytes,
    blobs: Vec<Descriptor>,
}

impl Images {
    /// Pushes the image that `reference` names here. Of an index, the platforms that are here whole are sent with their blobs; where some are
    /// missing, only the chosen platform's manifest is pushed under the tag.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] where the name is not known here; the registry's errors end the stream.
    pub async fn push(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Credentials,
    ) -> Result<ProgressStream> {
        let reference = reference.tagged();
        let missing = || Error::not_found(format!("tag does not exist: {}", reference.familiar()));
        let target = self.target_descriptor(&reference).await?.ok_or_else(missing)?;
        let parts = self.parts(target, platform).await?;
        let sisters = self.sisters(&reference).await?;
        let repository = self.client.repository(&reference, credentials, Access::Push);
        let images = self.clone();
        Ok(progress_stream(move |steps| async move {
            let name = reference.familiar_name();
            steps
                .tell(Progress::status(format!(
                    "The push refers to repository [{}/{}]",
                    reference.registry(),
                    reference.repository()
                )))
                .await;
            let work = Push {
                images,
                repository,
                sisters,
                steps,
            };
            work.blobs(&parts).await?;
            work.manifests(&parts, &reference).await?;
            tracing::debug!(name, "pushed");
            Ok(())
        }))
    }

    /// The manifests to push, the target last.
    async fn parts(&self, target: Descriptor, platform: Option<Platform>) -> Result<Vec<Part>> {
        let store = self.store.clone();
        blocking::run("read manifests", move || -> Result<Vec<Part>> {
            let read = |d: &Descriptor| -> Result<(Bytes, Document)> {
                let bytes = store.content().read(&d.digest, MAX_MANIFEST)?;
                let document =
                    Document::parse(&bytes, &d.media_type).map_err(|e| Error::invalid(e.to_string()))?;
                Ok((bytes.into(), document))
            };
            let part = |descriptor: &Descriptor| -> Result<Part> {
                let (bytes, document) = read(descriptor)?;
                let Document::Manifest(m) = document else {
                    return Err(Error::invalid("an index in an index cannot be pushed"));
                };
                Ok(Part {
                    descriptor: descriptor.clone(),
                    bytes,
                    blobs: m.layers.into_iter().chain([m.config]).collect(),
                })
            };
            let (bytes, document) = read(&target)?;
            let Document::Index(index) = document else {
                return Ok(vec![part(&target)?]);
            };
            let whole = |d: &&Descriptor| {
                part(d).is_ok_and(|p| p.blobs.iter().all(|b| store.content().contains(&b.digest)))
            };
            let here: Vec<&Descriptor> = index.manifests.iter().filter(whole).collect();
            if here.len() == index.manifests.len() && platform.is_none() {
                let mut parts = here.into_iter().map(part).collect::<Result<Vec<_>>>()?;
                parts.push(Part {
                    descriptor: target,
                    bytes,
                    blobs: Vec::new(),
                });
                return Ok(parts);
            }
            let wanted = platform.unwrap_or_else(Platform::host);
            let chosen = here
                .into_iter()
                .find(|d| d.platform.as_ref().is_some_and(|p| wanted.accepts(p)));
            let chosen = chosen.ok_or_else(|| {
                Error::not_found(format!(
                    "the image is not here for {wanted}: pull it with --platform {wanted} first"
                ))
            })?;
            Ok(vec![part(chosen)?])
        })
        .await
    }
}

struct Push {
    images: Images,
    repository: Repository,
    sisters: Vec<String>,
    steps: Steps,
}

impl Push {
    async fn blobs(&self, parts: &[Part]) -> Result<()> {
        let gate = Arc::new(Semaphore::new(UPLOADS));
        let mut tasks = tokio::task::JoinSet::new();
        let mut seen = std::collections::BTreeSet::new();
        for blob in parts.iter().flat_map(|p| &p.blobs).filter(|b| b.urls.is_empty()) {
            if !seen.insert(blob.digest.clone()) {
                continue;
            }
            self.steps
                .tell(Progress::of(blob.digest.short(), "Preparing"))
                .await;
            let (store, repository, sisters, steps) = (
                self.images.store.clone(),
                self.repository.clone(),
                self.sisters.clone(),
                self.steps.clone(),
            );
            let (gate, blob) = (Arc::clone(&gate), blob.clone());
            tasks.spawn(async move {
                let _turn = gate
                    .acquire()
                    .await
                    .map_err(|e| Error::internal("waiting for a turn", e))?;
                let id = blob.digest.short().to_owned();
                let bar = meter(steps.clone(), id.clone(), blob.size);
                let status = match repository.send_blob(&store, &blob, &sisters, bar).await? {
                    Uploaded::AlreadyThere => "Layer already exists".to_owned(),
                    Uploaded::Mounted(from) => format!("Mounted from {from}"),
                    Uploaded::Sent => "Pushed".to_owned(),
                };
                steps.tell(Progress::of(id, status)).await;
                Ok::<(), Error>(())
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|e| Error::internal("a blob's task", e))??;
        }
        Ok(())
    }

    async fn manifests(&self, parts: &[Part], reference: &Reference) -> Result<()> {
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let tag = reference.tag().unwrap_or(ferry_oci::reference::DEFAULT_TAG);
            let which = if last {
                tag.to_owned()
            } else {
                part.descriptor.digest.to_string()
            };
            let digest = self
                .repository
                .send_manifest(&which, &part.descriptor.media_type, part.bytes.clone())
                .await?;
            if last {
                let size = part.bytes.len();
                self.steps
                    .tell(Progress::status(format!("{tag}: digest: {digest} size: {size}")))
                    .await;
                let aux = serde_json::json!({"Tag": tag, "Digest": digest, "Size": size});
                self.steps
                    .tell(Progress {
                        aux: Some(aux),
                        ..Progress::default()
                    })
                    .await;
            }
        }
        Ok(())
    }
}

fn meter(steps: Steps, id: String, total: u64) -> Arc<dyn Fn(u64) + Send + Sync> {
    let last = Mutex::new(None::<Instant>);
    Arc::new(move |at| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|l| l.elapsed() >= TICK) {
            *last = Some(Instant::now());
            steps.try_tell(Progress::of(id.clone(), "Pushing").at(at, total));
        }
    })
}
