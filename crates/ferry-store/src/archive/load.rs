//! Reading archives: OCI layouts (which newer `docker save` files are as well) and Docker's older form with `manifest.json`.
//!
//! Every file goes into content by its digest as it comes by, since what it is may be said only at the end. What turns out to
//! belong to no image is swept by the next gc.

use super::{DockerManifest, IMAGE_NAME, INDEX, LAYOUT, LAYOUT_VERSION, LayoutFile, MANIFEST, REF_NAME};
use crate::content::Content;
use crate::error::{Result, StoreError};
use crate::image::{self, document};
use crate::layer::Limits;
use crate::layer::decompress::{self, detect};
use crate::layer::path::InRoot;
use crate::lease::Lease;
use crate::store::Store;
use crate::tar::{Entry, Kind, Reader, TarError};
use ferry_oci::image::{Descriptor, Document, Index, MAX_MANIFEST, Manifest};
use ferry_oci::media::{self, Compression};
use ferry_oci::{Algorithm, Digest, Platform, Reference};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

/// The most files in an archive.
const MAX_FILES: usize = 100_000;

/// An image that came out of an archive. Its content is protected from gc until this is dropped: name it before.
pub struct LoadedImage {
    /// The names it had, in the order of the archive.
    pub references: Vec<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
    _lease: Arc<Lease>,
}

impl std::fmt::Debug for LoadedImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedImage")
            .field("references", &self.references)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Reads an archive, plain or compressed with gzip or zstd, into the store's content. Names nothing and unpacks nothing.
pub fn load(store: &Store, reader: &mut dyn Read, limits: &Limits) -> Result<Vec<LoadedImage>> {
    let lease = Arc::new(store.leases().acquire());
    let content = store.content();
    let mut decoder = decompress::decoder(reader, Compression::None, Arc::default()).map_err(as_archive)?;
    let mut found = Found::default();
    found.read(
        content,
        BufReader::with_capacity(256 << 10, &mut *decoder),
        limits,
    )?;
    let images = match (&found.layout, &found.index, &found.manifest) {
        (Some(layout), index, _) => from_layout(content, layout, index.as_deref())?,
        (None, _, Some(manifest)) => from_docker(content, &found, manifest)?,
        (None, _, None) => {
            return Err(invalid(
                "it is no image archive: it has neither oci-layout nor manifest.json",
            ));
        }
    };
    let with_lease = |(target, references)| LoadedImage {
        references,
        target,
        _lease: lease.clone(),
    };
    Ok(images.into_iter().map(with_lease).collect())
}

fn invalid(reason: impl std::fmt::Display) -> StoreError {
    StoreError::invalid("image archive", reason)
}

fn as_archive(e: StoreError) -> StoreError {
    match e {
        StoreError::Invalid { reason, .. } => invalid(reason),
        other => other,
    }
}

fn broken(e: TarError) -> StoreError {
    match e {
        TarError::Malformed(_) | TarError::Truncated => invalid(e),
        TarError::TooLarge(limit) => StoreError::TooLarge {
            what: "the image archive".into(),
            limit,
        },
        TarError::Io(e) => invalid(format!("it cannot be read to its end: {e}")),
    }
}

/// Either side's error while an entry streams into content.
enum Either {
    Tar(TarError),
    Store(StoreError),
}

impl From<TarError> for Either {
    fn from(e: TarError) -> Self {
        Self::Tar(e)
    }
}

/// What an archive has.
#[derive(Default)]
struct Found {
    layout: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
    /// Files by their cleaned name.
    blobs: BTreeMap<String, (Digest, u64)>,
    /// Links, which older archives use for layers that occur twice, to the cleaned name of their target.
    links: BTreeMap<String, String>,
}

impl Found {
    fn read(&mut self, content: &Content, source: impl BufRead, limits: &Limits) -> Result<()> {
        let mut tar = Reader::new(source);
        let (mut files, mut bytes) = (0, 0u64);
        while let Some(entry) = tar.next().map_err(broken)? {
            files += 1;
            bytes = bytes.saturating_add(entry.size);
            if files > MAX_FILES || bytes > limits.max_bytes {
                return Err(StoreError::TooLarge {
                    what: "the image archive".into(),
                    limit: format!("it has more than {MAX_FILES} files or {} bytes", limits.max_bytes),
                });
            }
            self.entry(content, &entry, &mut tar)?;
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, content: &Content, entry: &Entry, tar: &mut Reader<R>) -> Result<()> {
        let name = clean(&entry.path)?;
        match entry.kind {
            Kind::File => {}
            Kind::Symlink => {
                let dir = entry
                    .path
                    .iter()
                    .rposition(|&b| b == b'/')
                    .map_or(&[][..], |i| &entry.path[..=i]);
                self.links
                    .insert(name, clean(&[dir, entry.link.as_slice()].concat())?);
                return Ok(());
            }
            Kind::HardLink => {
                self.links.insert(name, clean(&entry.link)?);
                return Ok(());
            }
            Kind::Directory | Kind::Global => return Ok(()),
            _ => return Err(invalid(format!("{name:?} is neither a file nor a directory"))),
        }
        let slot = match name.as_str() {
            LAYOUT => &mut self.layout,
            INDEX => &mut self.index,
            MANIFEST => &mut self.manifest,
            _ => {
                let blob = blob(content, &name, tar)?;
                self.blobs.insert(name, blob);
                return Ok(());
            }
        };
        *slot = Some(tar.read_all(entry, MAX_MANIFEST as u64).map_err(broken)?);
        Ok(())
    }

    fn get(&self, name: &str) -> Result<(Digest, u64)> {
        let mut name = clean(name.as_bytes())?;
        for _ in 0..8 {
            if let Some(blob) = self.blobs.get(&name) {
                return Ok(blob.clone());
            }
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => break,
            }
        }
        Err(invalid(format!("{name:?}, which it refers to, is not in it")))
    }
}

fn clean(name: &[u8]) -> Result<String> {
    let path = InRoot::parse(name, 64)
        .map_err(|reason| invalid(format!("{:?}: {reason}", String::from_utf8_lossy(name))))?;
    String::from_utf8(path.as_bytes().to_vec()).map_err(|_| invalid("a file name is not UTF-8"))
}

/// Streams one file into content. A file under `blobs/` must have the digest that it is named by.
fn blob<R: BufRead>(content: &Content, name: &str, tar: &mut Reader<R>) -> Result<(Digest, u64)> {
    let named = name
        .strip_prefix("blobs/")
        .and_then(|rest| rest.replacen('/', ":", 1).parse::<Digest>().ok());
    let algorithm = named.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let mut staged = content.stage(algorithm)?;
    tar.data(|_, chunk| staged.write(chunk).map_err(Either::Store))
        .map_err(|e| match e {
            Either::Tar(e) => broken(e),
            Either::Store(e) => e,
        })?;
    content.publish(staged, named.as_ref())
}

type Images = Vec<(Descriptor, Vec<Reference>)>;

fn add(images: &mut Images, target: Descriptor, reference: Option<Reference>) {
    let at = images
        .iter()
        .position(|(known, _)| known.digest == target.digest)
        .unwrap_or_else(|| {
            images.push((target, Vec::new()));
            images.len() - 1
        });
    images[at].1.extend(reference);
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| invalid(format!("{name}: {e}")))
}

fn from_layout(content: &Content, layout: &[u8], index: Option<&[u8]>) -> Result<Images> {
    let layout: LayoutFile = parse(LAYOUT, layout)?;
    if layout.version != LAYOUT_VERSION {
        return Err(invalid(format!(
            "its OCI layout has version {:?}, only {LAYOUT_VERSION} is known",
            layout.version
        )));
    }
    let index = index.ok_or_else(|| invalid("it has no index.json"))?;
    let Document::Index(index) =
        Document::parse(index, "").map_err(|e| invalid(format!("{INDEX}: {}", e.0)))?
    else {
        return Err(invalid("index.json is no index"));
    };
    let mut images = Images::new();
    for entry in index.manifests {
        let size = content.size(&entry.digest).map_err(|_| missing(&entry.digest))?;
        if size != entry.size {
            return Err(invalid(format!(
                "{} has {size} bytes where index.json says {}",
                entry.digest, entry.size
            )));
        }
        check(content, &entry)?;
        let name = entry
            .annotations
            .get(IMAGE_NAME)
            .or_else(|| entry.annotations.get(REF_NAME));
        let reference = name.map(|name| reference(name)).transpose()?;
        let target = Descriptor {
            annotations: BTreeMap::new(),
            platform: None,
            ..entry
        };
        add(&mut images, target, reference);
    }
    Ok(images)
}

fn missing(digest: &Digest) -> StoreError {
    invalid(format!("the blob {digest}, which it refers to, is not in it"))
}

fn reference(name: &str) -> Result<Reference> {
    let reference: Reference = name
        .parse()
        .map_err(|e| invalid(format!("the image name {name:?}: {e}")))?;
    Ok(reference.tagged())
}

/// The document must be one that can be understood; an image's configuration and layers must fit together.
fn check(content: &Content, target: &Descriptor) -> Result<()> {
    match document(content, &target.digest, &target.media_type)? {
        Document::Index(Index { .. }) => Ok(()),
        Document::Manifest(_) => {
            let image = image::resolve(content, &target.digest, &Platform::host()).map_err(|e| match e {
                StoreError::NotFound { name, .. } => {
                    invalid(format!("the blob {name}, which it refers to, is not in it"))
                }
                other => other,
            })?;
            let lost = image
                .layers
                .iter()
                .find(|layer| !content.contains(&layer.descriptor.digest));
            lost.map_or(Ok(()), |layer| Err(missing(&layer.descriptor.digest)))
        }
    }
}

fn from_docker(content: &Content, found: &Found, manifest: &[u8]) -> Result<Images> {
    let mut images = Images::new();
    for entry in parse::<Vec<DockerManifest>>(MANIFEST, manifest)? {
        let (digest, size) = found.get(&entry.config)?;
        let config = descriptor(media::DOCKER_CONFIG, digest, size);
        let mut layers = Vec::new();
        for name in entry.layers.unwrap_or_default() {
            let (digest, size) = found.get(&name)?;
            layers.push(descriptor(layer_type(content, &digest)?, digest, size));
        }
        let document = Manifest {
            schema_version: 2,
            media_type: Some(media::DOCKER_MANIFEST.into()),
            config,
            layers,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&document).map_err(invalid)?;
        let digest = content.put(&bytes)?;
        let target = descriptor(media::DOCKER_MANIFEST, digest, bytes.len() as u64);
        check(content, &target)?;
        let names = entry.repo_tags.unwrap_or_default();
        let names = names
            .iter()
            .map(|name| reference(name))
            .collect::<Result<Vec<_>>>()?;
        add(&mut images, target.clone(), None);
        names
            .into_iter()
            .for_each(|name| add(&mut images, target.clone(), Some(name)));
    }
    Ok(images)
}

fn layer_type(content: &Content, digest: &Digest) -> Result<&'static str> {
    let mut magic = Vec::new();
    let file = content.open(digest)?;
    file.take(6)
        .read_to_end(&mut magic)
        .map_err(|e| StoreError::io("read", digest.to_string(), e))?;
    match detect(&magic) {
        Ok(Compression::None) => Ok(media::DOCKER_LAYER),
        Ok(Compression::Gzip) => Ok(media::DOCKER_LAYER_GZIP),
        Ok(Compression::Zstd) => Ok("application/vnd.docker.image.rootfs.diff.tar.zstd"),
        Err(name) => Err(invalid(format!(
            "a layer is compressed with {name}; repack it with gzip or zstd"
        ))),
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: None,
    }
}
