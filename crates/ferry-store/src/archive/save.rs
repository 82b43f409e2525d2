//! Writing archives: an OCI layout with Docker's `manifest.json` beside it, as the newest `docker save` writes it.

use super::{DockerManifest, IMAGE_NAME, INDEX, LAYOUT, LAYOUT_VERSION, LayoutFile, MANIFEST, REF_NAME};
use crate::content::Content;
use crate::error::{Result, StoreError};
use crate::hash::Hasher;
use crate::image::{self, document};
use crate::store::Store;
use crate::tar::{Header, Kind, Writer};
use ferry_oci::image::{Descriptor, Document, Index};
use ferry_oci::{Digest, Platform, Reference, media};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

/// One image to write: its target and the name under which to write it, if any.
pub type ImageToSave = (Option<Reference>, Descriptor);

/// Writes images to `writer`. Of an index all platforms whose content is complete are written; `manifest.json`, which knows no
/// platforms, gets the one for `platform`.
pub fn save(
    store: &Store,
    images: &[ImageToSave],
    platform: &Platform,
    writer: &mut dyn Write,
) -> Result<()> {
    let _lease = store.leases().acquire();
    let content = store.content();
    let mut plan = Plan::default();
    for (reference, target) in images {
        plan.add(content, reference.as_ref(), target, platform)?;
    }
    plan.write(content, writer)
}

#[derive(Default)]
struct Plan {
    index: Vec<Descriptor>,
    blobs: BTreeSet<Digest>,
    /// By the digest of the image's manifest, in the order in which they were asked for.
    docker: Vec<(Digest, DockerManifest)>,
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Plan {
    fn add(
        &mut self,
        content: &Content,
        reference: Option<&Reference>,
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<()> {
        let image = image::resolve(content, &target.digest, platform)?;
        if let Some(layer) = image
            .layers
            .iter()
            .find(|l| !content.contains(&l.descriptor.digest))
        {
            return Err(StoreError::not_found("content", &layer.descriptor.digest));
        }
        self.collect(content, &target.digest, 0)?;
        let mut entry = target.clone();
        entry
            .annotations
            .retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
        let name = reference.map(|r| r.clone().tagged());
        if let Some(name) = &name {
            entry.annotations.insert(IMAGE_NAME.into(), name.to_string());
            let short = name.tag().map_or_else(|| name.to_string(), str::to_owned);
            entry.annotations.insert(REF_NAME.into(), short);
        }
        self.index.push(entry);
        let names = name.map(|n| n.familiar());
        match self
            .docker
            .iter_mut()
            .find(|(digest, _)| *digest == image.manifest_digest)
        {
            Some((_, known)) => known.repo_tags.get_or_insert_default().extend(names),
            None => {
                let layers = image
                    .layers
                    .iter()
                    .map(|l| blob_path(&l.descriptor.digest))
                    .collect();
                let config = blob_path(&image.config_digest);
                let manifest = DockerManifest {
                    config,
                    repo_tags: names.map(|n| vec![n]),
                    layers: Some(layers),
                };
                self.docker.push((image.manifest_digest, manifest));
            }
        }
        Ok(())
    }

    /// A manifest with all its blobs, without them where some are not here; an index with what is here of its entries.
    fn collect(&mut self, content: &Content, digest: &Digest, depth: usize) -> Result<()> {
        if depth > 4 {
            return Err(StoreError::invalid(
                format!("image {digest}"),
                "its indexes are nested too deep",
            ));
        }
        let document = match document(content, digest, "") {
            Err(e) if depth > 0 && e.is_not_found() => return Ok(()),
            document => document?,
        };
        self.blobs.insert(digest.clone());
        match document {
            Document::Index(list) => {
                for entry in list.manifests {
                    self.collect(content, &entry.digest, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                let mut blobs: Vec<Digest> = manifest.layers.into_iter().map(|d| d.digest).collect();
                blobs.push(manifest.config.digest);
                if blobs.iter().all(|digest| content.contains(digest)) {
                    self.blobs.extend(blobs);
                }
            }
        }
        Ok(())
    }

    fn write(self, content: &Content, writer: &mut dyn Write) -> Result<()> {
        let failed = |e| StoreError::io("write", "image archive", e);
        let json = |e: serde_json::Error| StoreError::invalid("image archive", e);
        let mut tar = Writer::new(writer);
        let mut files: BTreeMap<&str, (u32, Vec<u8>)> = BTreeMap::new();
        let layout = LayoutFile {
            version: LAYOUT_VERSION.into(),
        };
        files.insert(LAYOUT, (0o444, serde_json::to_vec(&layout).map_err(json)?));
        let index = Index {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.into()),
            manifests: self.index,
            annotations: BTreeMap::new(),
        };
        files.insert(INDEX, (0o644, serde_json::to_vec(&index).map_err(json)?));
        let docker: Vec<DockerManifest> = self.docker.into_iter().map(|(_, manifest)| manifest).collect();
        files.insert(MANIFEST, (0o644, serde_json::to_vec(&docker).map_err(json)?));
        tar.directory("blobs/", 0o755).map_err(failed)?;
        let mut algorithm = "";
        for digest in &self.blobs {
            if digest.algorithm().name() != algorithm {
                algorithm = digest.algorithm().name();
                tar.directory(&format!("blobs/{algorithm}/"), 0o755)
                    .map_err(failed)?;
            }
            blob(content, digest, &mut tar)?;
        }
        for (name, (mode, bytes)) in files {
            tar.file(name, mode, &bytes).map_err(failed)?;
        }
        tar.finish().map_err(failed)?;
        Ok(())
    }
}

/// One blob, verified as it goes: an archive with a damaged one is never completed.
fn blob<W: Write>(content: &Content, digest: &Digest, tar: &mut Writer<W>) -> Result<()> {
    let failed = |e| StoreError::io("write", "image archive", e);
    let size = content.size(digest)?;
    let mut file = content.open(digest)?.take(size);
    tar.header(&Header::new(Kind::File, blob_path(digest), 0o444, size))
        .map_err(failed)?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|e| StoreError::io("read", digest.to_string(), e))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        tar.data(&buffer[..n]).map_err(failed)?;
    }
    let actual = hasher.finish();
    if actual != *digest {
        return Err(StoreError::corrupt(
            format!("blob {digest}"),
            format!("its content has the digest {actual}; pull its image again"),
        ));
    }
    tar.pad(size).map_err(failed)
}
