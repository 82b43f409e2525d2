//! From a target digest to what runs: index, manifest, configuration, layers.

use crate::content::Content;
use crate::error::{Result, StoreError};
use crate::layer::Limits;
use crate::snapshot::Snapshotter;
use ferry_oci::image::{Descriptor, Document, ImageConfig, Index, MAX_CONFIG, MAX_MANIFEST, Manifest};
use ferry_oci::media::{self, Compression};
use ferry_oci::{Algorithm, Digest, Platform};
use std::collections::BTreeSet;

/// How deep indexes may point to indexes.
const MAX_NESTING: usize = 4;

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// The blob as it is pulled.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What the media type promises.
    pub compression: Compression,
}

/// An image on one platform, whose documents agree with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The index that led here, if any.
    pub index: Option<Digest>,
    /// The manifest.
    pub manifest_digest: Digest,
    /// Its document.
    pub manifest: Manifest,
    /// The configuration's digest, the image id of older engines.
    pub config_digest: Digest,
    /// Its document.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

impl ResolvedImage {
    /// The layers' diffIDs, lowest first: what `prepare` wants.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    /// The digest of the whole stack, as the image specification computes it; `None` for an image without layers.
    pub fn chain_id(&self) -> Option<Digest> {
        let mut layers = self.layers.iter().map(|layer| layer.diff_id.clone());
        let first = layers.next()?;
        let chain = |below: Digest, top: Digest| {
            crate::hash::digest(Algorithm::Sha256, format!("{below} {top}").as_bytes())
        };
        Some(layers.fold(first, chain))
    }

    /// Bytes of the compressed layers.
    pub fn compressed_size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }
}

pub(crate) fn document(content: &Content, digest: &Digest, media_type: &str) -> Result<Document> {
    let bytes = content.read(digest, MAX_MANIFEST)?;
    Document::parse(&bytes, media_type).map_err(|e| StoreError::invalid(format!("image {digest}"), e.0))
}

pub(crate) fn resolve(content: &Content, target: &Digest, platform: &Platform) -> Result<ResolvedImage> {
    let mut index = None;
    let mut digest = target.clone();
    let mut media_type = String::new();
    for _ in 0..=MAX_NESTING {
        match document(content, &digest, &media_type)? {
            Document::Manifest(manifest) => return image(content, index, digest, *manifest),
            Document::Index(list) => {
                let next = choose(&list, platform).ok_or_else(|| no_platform(target, platform, &list))?;
                index.get_or_insert(digest);
                (digest, media_type) = (next.digest.clone(), next.media_type.clone());
            }
        }
    }
    Err(StoreError::invalid(
        format!("image {target}"),
        "its indexes are nested too deep",
    ))
}

/// The entry for the platform; in an index whose entries name none, the only one there is.
fn choose<'a>(list: &'a Index, platform: &Platform) -> Option<&'a Descriptor> {
    list.select(platform).or_else(|| match list.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    })
}

fn no_platform(target: &Digest, platform: &Platform, list: &Index) -> StoreError {
    let offered = list.manifests.iter().filter_map(|d| d.platform.as_ref());
    StoreError::NoPlatform {
        image: target.clone(),
        wanted: platform.to_string(),
        offered: offered
            .filter(|p| p.os != "unknown")
            .map(Platform::to_string)
            .collect(),
    }
}

fn image(
    content: &Content,
    index: Option<Digest>,
    digest: Digest,
    manifest: Manifest,
) -> Result<ResolvedImage> {
    let config = config(content, &manifest)?;
    let what = || format!("image {digest}");
    let (blobs, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if blobs.len() != diff_ids.len() {
        return Err(StoreError::invalid(
            what(),
            format!(
                "its manifest has {} layers, its configuration {}",
                blobs.len(),
                diff_ids.len()
            ),
        ));
    }
    let layers = blobs.iter().zip(diff_ids).map(|(descriptor, diff_id)| {
        let compression = media::layer_compression(&descriptor.media_type).ok_or_else(|| {
            StoreError::invalid(
                what(),
                format!("{:?} is no type of a layer", descriptor.media_type),
            )
        })?;
        Ok(ImageLayer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            compression,
        })
    });
    let layers = layers.collect::<Result<_>>()?;
    Ok(ResolvedImage {
        index,
        manifest_digest: digest,
        config_digest: manifest.config.digest.clone(),
        manifest,
        config,
        layers,
    })
}

fn config(content: &Content, manifest: &Manifest) -> Result<ImageConfig> {
    let digest = &manifest.config.digest;
    let bytes = content.read(digest, MAX_CONFIG)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| StoreError::invalid(format!("image configuration {digest}"), e))
}

/// Everything that some targets refer to, as far as their documents are here.
#[derive(Default)]
pub(crate) struct Closure {
    /// Indexes, manifests, configurations and layers, by digest.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Layers by diffID.
    pub(crate) layers: BTreeSet<Digest>,
}

impl Closure {
    /// Adds a target with all below it. Fails when the target itself cannot be read; below it, an entry of an index may be
    /// absent (another platform's) or no image at all.
    pub(crate) fn add(&mut self, content: &Content, target: &Digest) -> Result<()> {
        let mut todo = vec![(target.clone(), 0)];
        while let Some((digest, depth)) = todo.pop() {
            self.blobs.insert(digest.clone());
            match document(content, &digest, "") {
                Ok(Document::Index(list)) if depth < MAX_NESTING => {
                    todo.extend(list.manifests.into_iter().map(|d| (d.digest, depth + 1)));
                }
                Ok(Document::Index(_)) => {}
                Ok(Document::Manifest(manifest)) => {
                    if let Ok(config) = config(content, &manifest) {
                        self.layers.extend(config.rootfs.diff_ids);
                    }
                    self.blobs.insert(manifest.config.digest);
                    self.blobs.extend(manifest.layers.into_iter().map(|d| d.digest));
                }
                Err(StoreError::Io { op, path, source }) => return Err(StoreError::Io { op, path, source }),
                Err(_) if depth > 0 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

pub(super) fn unpack_layer(
    content: &Content,
    snapshotter: &dyn Snapshotter,
    layer: &ImageLayer,
    limits: &Limits,
) -> Result<()> {
    if snapshotter.has(&layer.diff_id) {
        return Ok(());
    }
    let mut blob = content.open(&layer.descriptor.digest)?;
    snapshotter
        .apply(&layer.diff_id, layer.compression, &mut blob, limits)
        .map(|_| ())
}
