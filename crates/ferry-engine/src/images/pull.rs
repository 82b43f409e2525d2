//! Pulling: resolve, choose the platform, fetch and unpack layers in parallel, then record the name.
//!
//! Nothing names an image before all of it is here; a broken pull leaves blobs that the next one finds, and a part that it resumes.

use super::view::{Progress, ProgressStream};
use super::{Images, Steps, progress_stream};
use crate::{Error, Kind, Result, blocking};
use ferry_oci::image::{Descriptor, Document, ImageConfig, Index, MAX_CONFIG, Manifest};
use ferry_oci::{Digest, Platform, Reference, media};
use ferry_registry::{Access, Credentials, Pulled, Repository};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Layers that are fetched at a time, as Docker's default.
const DOWNLOADS: usize = 3;
/// Layers that are unpacked at a time.
const UNPACKS: usize = 2;
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// What was found under the name, before anything large is fetched.
struct Found {
    repository: Repository,
    reference: Reference,
    target: Descriptor,
    documents: Vec<bytes::Bytes>,
    manifest: Manifest,
}

impl Images {
    /// Pulls `reference` for `platform` (the host's when absent). `all` is every tag of the repository, which registries tell only to
    /// clients that may list them.
    ///
    /// # Errors
    /// Before the first step: what the registry says of the name. Later ones end the stream.
    pub async fn pull(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        all: bool,
    ) -> Result<ProgressStream> {
        let wanted = platform.unwrap_or_else(Platform::host);
        if all {
            let tags = self
                .client
                .repository(&reference, credentials.clone(), Access::Pull)
                .tags()
                .await?;
            let references = tags
                .iter()
                .map(|tag| reference.with_tag(tag))
                .collect::<std::result::Result<Vec<_>, _>>();
            let references = references.map_err(|e| Error::invalid(e.to_string()))?;
            let images = self.clone();
            return Ok(progress_stream(move |steps| async move {
                for reference in references {
                    let found = images.find(reference, &wanted, credentials.clone()).await?;
                    images.fetch(found, &steps).await?;
                }
                Ok(())
            }));
        }
        let found = self.find(reference.tagged(), &wanted, credentials).await?;
        let images = self.clone();
        Ok(progress_stream(move |steps| async move {
            images.fetch(found, &steps).await
        }))
    }

    async fn find(&self, reference: Reference, wanted: &Platform, credentials: Credentials) -> Result<Found> {
        let repository = self.client.repository(&reference, credentials, Access::Pull);
        let which = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => ferry_oci::reference::DEFAULT_TAG.to_owned(),
        };
        let top = repository
            .manifest(&which)
            .await
            .map_err(|e| named(e, &reference))?;
        let parse = |bytes: &[u8], kind: &str| {
            Document::parse(bytes, kind).map_err(|e| Error::invalid(format!("{}: {e}", reference.familiar())))
        };
        let target = Descriptor {
            media_type: top.media_type.clone(),
            digest: top.digest.clone(),
            size: top.bytes.len() as u64,
            urls: Vec::new(),
            annotations: Default::default(),
            platform: None,
            artifact_type: None,
        };
        let mut documents = vec![top.bytes.clone()];
        let manifest = match parse(&top.bytes, &top.media_type)? {
            Document::Manifest(manifest) => *manifest,
            Document::Index(index) => {
                let chosen = choose(&index, wanted, &reference)?;
                let inner = repository
                    .manifest(&chosen.digest.to_string())
                    .await
                    .map_err(|e| named(e, &reference))?;
                let Document::Manifest(manifest) = parse(&inner.bytes, &inner.media_type)? else {
                    return Err(Error::invalid(format!(
                        "{}: an index in an index is not supported",
                        reference.familiar()
                    )));
                };
                documents.push(inner.bytes);
                *manifest
            }
        };
        check_layers(&manifest, &reference)?;
        Ok(Found {
            repository,
            reference,
            target,
            documents,
            manifest,
        })
    }

    async fn fetch(&self, found: Found, steps: &Steps) -> Result<()> {
        let Found {
            repository,
            reference,
            target,
            documents,
            manifest,
        } = found;
        let shown = reference
            .tag()
            .map_or_else(|| target.digest.to_string(), str::to_owned);
        steps
            .tell(Progress::of(
                shown,
                format!("Pulling from {}", familiar_path(&reference)),
            ))
            .await;
        let lease = self.store.leases().acquire();
        let store = self.store.clone();
        blocking::run("store manifests", move || {
            documents
                .iter()
                .try_for_each(|d| store.content().put(d).map(drop))
        })
        .await?;
        repository
            .fetch_blob(&self.store, &manifest.config, &|_| {})
            .await?;
        let config = self.read_config(&manifest.config).await?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::invalid(format!(
                "{}: its configuration has {} layers, its manifest {}",
                reference.familiar(),
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        self.layers(&repository, &manifest, &config, steps).await?;
        let before = self.target_of(&reference).await?;
        self.record(&reference, &target).await?;
        drop(lease);
        steps
            .tell(Progress::status(format!("Digest: {}", target.digest)))
            .await;
        let news = if before.as_ref() == Some(&target.digest) {
            "Image is up to date"
        } else {
            "Downloaded newer image"
        };
        steps
            .tell(Progress::status(format!(
                "Status: {news} for {}",
                reference.familiar()
            )))
            .await;
        self.happened(
            "pull",
            &reference.familiar(),
            &reference.familiar_name(),
            &config.config.labels,
        );
        Ok(())
    }

    async fn read_config(&self, descriptor: &Descriptor) -> Result<ImageConfig> {
        let (store, digest) = (self.store.clone(), descriptor.digest.clone());
        let bytes = blocking::run("read image configuration", move || {
            store.content().read(&digest, MAX_CONFIG)
        })
        .await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("image configuration {}: {e}", descriptor.digest)))
    }

    /// Fetches and unpacks every layer, a few at a time; the first failure ends it all.
    async fn layers(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        config: &ImageConfig,
        steps: &Steps,
    ) -> Result<()> {
        let gates = Arc::new((Semaphore::new(DOWNLOADS), Semaphore::new(UNPACKS)));
        let mut tasks = tokio::task::JoinSet::new();
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            steps
                .tell(Progress::of(layer.digest.short(), "Pulling fs layer"))
                .await;
            let work = Layer {
                images: self.clone(),
                repository: repository.clone(),
                blob: layer.clone(),
                diff_id: diff_id.clone(),
                steps: steps.clone(),
            };
            let gates = Arc::clone(&gates);
            tasks.spawn(async move { work.bring(&gates).await });
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|e| Error::internal("a layer's task", e))??;
        }
        Ok(())
    }
}

/// One layer on its way.
struct Layer {
    images: Images,
    repository: Repository,
    blob: Descriptor,
    diff_id: Digest,
    steps: Steps,
}

impl Layer {
    fn id(&self) -> &str {
        self.blob.digest.short()
    }

    async fn bring(&self, gates: &(Semaphore, Semaphore)) -> Result<()> {
        let closed = |e: tokio::sync::AcquireError| Error::internal("waiting for a turn", e);
        let outcome = {
            let _turn = gates.0.acquire().await.map_err(closed)?;
            self.download().await?
        };
        let unpacked = self.images.store.layers().has(&self.diff_id);
        if outcome == Pulled::AlreadyThere && unpacked {
            self.steps.tell(Progress::of(self.id(), "Already exists")).await;
            return Ok(());
        }
        if outcome == Pulled::Fetched {
            self.steps
                .tell(Progress::of(self.id(), "Download complete"))
                .await;
        }
        let _turn = gates.1.acquire().await.map_err(closed)?;
        self.steps
            .tell(Progress::of(self.id(), "Extracting").at(self.blob.size, self.blob.size))
            .await;
        self.images.unpack(&self.blob, &self.diff_id).await?;
        self.steps.tell(Progress::of(self.id(), "Pull complete")).await;
        Ok(())
    }

    async fn download(&self) -> Result<Pulled> {
        let last = std::sync::Mutex::new(None::<Instant>);
        let progress = |at: u64| {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.is_none_or(|l| l.elapsed() >= TICK) {
                *last = Some(Instant::now());
                self.steps
                    .try_tell(Progress::of(self.id(), "Downloading").at(at, self.blob.size));
            }
        };
        Ok(self
            .repository
            .fetch_blob(&self.images.store, &self.blob, &progress)
            .await?)
    }
}

impl Images {
    /// Unpacks a layer that is in the content store; nothing is done where it is unpacked already.
    pub(super) async fn unpack(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let (store, blob, diff_id) = (self.store.clone(), blob.clone(), diff_id.clone());
        blocking::run("unpack a layer", move || {
            let compression = media::layer_compression(&blob.media_type).unwrap_or(media::Compression::None);
            let mut file = store.content().open(&blob.digest)?;
            store
                .layers()
                .apply(&diff_id, compression, &mut file, &ferry_store::Limits::default())
                .map(drop)
        })
        .await
    }
}

/// `library/busybox` for the default registry, `app` for others.
fn familiar_path(reference: &Reference) -> String {
    reference.repository().to_owned()
}

fn named(error: ferry_registry::RegistryError, reference: &Reference) -> Error {
    use ferry_registry::RegistryError::{Denied, NotFound};
    match error {
        NotFound { .. } => {
            let text = format!("failed to resolve reference \"{reference}\": {reference}: not found");
            Error::new(Kind::NotFound, text).caused_by(error)
        }
        Denied { ref message, .. } => {
            let text = format!(
                "failed to resolve reference \"{reference}\": pull access denied, repository does not exist or may require authorization: {message}"
            );
            Error::new(Kind::NotFound, text).caused_by(error)
        }
        other => other.into(),
    }
}

fn choose<'i>(index: &'i Index, wanted: &Platform, reference: &Reference) -> Result<&'i Descriptor> {
    index.select(wanted).ok_or_else(|| {
        let offered: Vec<String> =
            index.manifests.iter().filter_map(|d| d.platform.as_ref()).filter(|p| p.os != "unknown").map(ToString::to_string).collect();
        Error::not_found(format!(
            "no matching manifest for {wanted} in the manifest list entries of {}: it offers {}; choose one with --platform",
            reference.familiar(),
            if offered.is_empty() { "no platform".to_owned() } else { offered.join(", ") }
        ))
    })
}

fn check_layers(manifest: &Manifest, reference: &Reference) -> Result<()> {
    for layer in &manifest.layers {
        if media::layer_compression(&layer.media_type).is_none() {
            return Err(Error::invalid(format!(
                "{} is no runnable image: layer {} is of type {:?}",
                reference.familiar(),
                layer.digest,
                layer.media_type
            )));
        }
    }
    Ok(())
}
