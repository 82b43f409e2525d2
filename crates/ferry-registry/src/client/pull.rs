//! Reading: manifests with their digest checked, blobs streamed into the content store, resumed where they broke.

use super::retry::{TRIES, pause, retry, worth};
use super::transport::{document, protocol};
use super::{Repository, text};
use crate::RegistryError;
use crate::proto::range::parse_content_range;
use bytes::Bytes;
use ferry_oci::image::{Descriptor, MAX_MANIFEST};
use ferry_oci::{Digest, media};
use ferry_store::Store;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256, Sha512};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a body may bring nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Frames on their way to the disk.
const IN_FLIGHT: usize = 64;
/// The most tags of a repository that are taken.
const MAX_TAGS: usize = 10_000;

/// A manifest or index as served.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The exact bytes.
    pub bytes: Bytes,
    /// As the registry called it, or as it calls itself.
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
}

/// What a blob's fetch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// It was in the store.
    AlreadyThere,
    /// It arrived.
    Fetched,
}

impl Repository {
    /// The manifest that a tag or digest names.
    ///
    /// # Errors
    /// [`RegistryError::Mismatch`] where a digest was asked for and other bytes came.
    pub async fn manifest(&self, which: &str) -> Result<Manifest, RegistryError> {
        let accept = [
            media::OCI_INDEX,
            media::OCI_MANIFEST,
            media::DOCKER_INDEX,
            media::DOCKER_MANIFEST,
        ]
        .join(", ");
        let rest = format!("manifests/{which}");
        let headers = [(header::ACCEPT, accept)];
        let (what, (_, headers, bytes)) = retry(|| async {
            let answer = self.ask(&Method::GET, &rest, &headers).await?;
            Ok((
                answer.what.clone(),
                document(answer.response, &answer.what).await?,
            ))
        })
        .await?;
        if bytes.len() > MAX_MANIFEST {
            return Err(protocol(
                &what,
                format!(
                    "a manifest of {} bytes; at most {MAX_MANIFEST} are taken",
                    bytes.len()
                ),
            ));
        }
        let asked: Option<Digest> = which.parse().ok();
        let digest = hash(&bytes, asked.as_ref());
        if let Some(expected) = asked.filter(|expected| *expected != digest) {
            return Err(RegistryError::Mismatch {
                what,
                expected,
                actual: Some(digest),
            });
        }
        if let Some(told) = text(&headers, "docker-content-digest").and_then(|t| t.parse::<Digest>().ok())
            && told.algorithm() == digest.algorithm()
            && told != digest
        {
            return Err(RegistryError::Mismatch {
                what,
                expected: told,
                actual: Some(digest),
            });
        }
        let served = text(&headers, "content-type")
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        Ok(Manifest {
            media_type: media_type(&bytes, served),
            bytes,
            digest,
        })
    }

    /// The digest that a tag names now, without its manifest.
    pub async fn digest_of(&self, which: &str) -> Result<Option<Digest>, RegistryError> {
        let accept = [
            media::OCI_INDEX,
            media::OCI_MANIFEST,
            media::DOCKER_INDEX,
            media::DOCKER_MANIFEST,
        ]
        .join(", ");
        match self
            .ask(
                &Method::HEAD,
                &format!("manifests/{which}"),
                &[(header::ACCEPT, accept)],
            )
            .await
        {
            Ok(answer) => {
                Ok(text(answer.response.headers(), "docker-content-digest").and_then(|t| t.parse().ok()))
            }
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every tag of the repository, at most 10,000 of them.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags: Vec<String> = Vec::new();
        loop {
            let rest = match tags.last() {
                None => "tags/list?n=1000".to_owned(),
                Some(last) => format!("tags/list?n=1000&last={last}"),
            };
            let answer = self.ask(&Method::GET, &rest, &[]).await?;
            let more = answer.response.headers().contains_key(header::LINK);
            let what = answer.what.clone();
            let (_, _, body) = document(answer.response, &what).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|e| protocol(&what, e.to_string()))?;
            let page = page.tags.unwrap_or_default();
            let done = page.is_empty() || !more || tags.len() + page.len() >= MAX_TAGS;
            tags.extend(page);
            if done {
                return Ok(tags);
            }
        }
    }

    /// Brings a blob into `store`; `progress` is told how many bytes are there.
    pub async fn fetch_blob(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Pulled, RegistryError> {
        if store.content().contains(&blob.digest) {
            return Ok(Pulled::AlreadyThere);
        }
        let mut n = 1;
        loop {
            match self.attempt(store, blob, progress).await {
                Ok(()) => return Ok(Pulled::Fetched),
                Err(error) if n < TRIES && worth(&error) => {
                    tracing::debug!(%error, blob = %blob.digest, "resuming");
                    tokio::time::sleep(pause(n)).await;
                    n += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let (chunks, received) = mpsc::channel::<Bytes>(IN_FLIGHT);
        let (start, started) = tokio::sync::oneshot::channel();
        let writer = {
            let (store, blob) = (store.clone(), blob.clone());
            tokio::task::spawn_blocking(move || write(&store, &blob, start, received))
        };
        let joined = |e: tokio::task::JoinError| protocol("writing a blob", e.to_string());
        let Ok(offset) = started.await else {
            writer.await.map_err(joined)??;
            return Ok(());
        };
        let outcome = self.stream(blob, offset, &chunks, progress).await;
        drop(chunks);
        let written = writer.await.map_err(joined)?;
        match (outcome, written) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
            (Ok(()), Err(ferry_store::StoreError::DigestMismatch { expected, actual })) => {
                Err(RegistryError::Mismatch {
                    what: format!("blob of {}", self.name),
                    expected,
                    actual: Some(actual),
                })
            }
            (Ok(()), Err(error)) => Err(error.into()),
        }
    }

    /// Streams the blob from `offset` on into `chunks`.
    async fn stream(
        &self,
        blob: &Descriptor,
        offset: u64,
        chunks: &mpsc::Sender<Bytes>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        if offset == blob.size && offset > 0 {
            return Ok(());
        }
        let headers: Vec<_> = (offset > 0)
            .then(|| (header::RANGE, format!("bytes={offset}-")))
            .into_iter()
            .collect();
        let answer = self
            .ask(&Method::GET, &format!("blobs/{}", blob.digest), &headers)
            .await?;
        let mut skip = skipped(&answer.response, offset, &answer.what)?;
        let mut at = offset;
        let registry = answer.what.split('/').next().unwrap_or_default().to_owned();
        let network = |message: String| RegistryError::Network {
            registry: registry.clone(),
            message,
        };
        let mut body = answer.response.into_body();
        while let Some(mut bytes) = next(&mut body).await.map_err(&network)? {
            let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= cut as u64;
            let _ = bytes.split_to(cut);
            at += bytes.len() as u64;
            if at > blob.size {
                return Err(RegistryError::Mismatch {
                    what: answer.what,
                    expected: blob.digest.clone(),
                    actual: None,
                });
            }
            if !bytes.is_empty() && chunks.send(bytes).await.is_err() {
                return Ok(());
            }
            progress(at);
        }
        if at < blob.size {
            return Err(network(format!(
                "blob {} ended after {at} of {} bytes",
                blob.digest, blob.size
            )));
        }
        Ok(())
    }
}

/// How many bytes of the body come before `offset`.
fn skipped(response: &http::Response<Incoming>, offset: u64, what: &str) -> Result<u64, RegistryError> {
    if offset == 0 || response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(offset);
    }
    match text(response.headers(), "content-range").and_then(parse_content_range) {
        Some((first, _, _)) if first <= offset => Ok(offset - first),
        _ => Err(protocol(
            what,
            format!("206 for another range than bytes={offset}-"),
        )),
    }
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Err(_) => return Err(format!("nothing arrived for {} s", SILENCE.as_secs())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Writes what arrives; commits when everything is there, keeps the part for the next attempt otherwise.
fn write(
    store: &Store,
    blob: &Descriptor,
    start: tokio::sync::oneshot::Sender<u64>,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<(), ferry_store::StoreError> {
    let mut ingest = store.content().ingest(&blob.digest.to_string(), blob)?;
    let mut at = ingest.offset();
    if start.send(at).is_err() {
        return Ok(());
    }
    while let Some(bytes) = chunks.blocking_recv() {
        ingest.write(&bytes)?;
        at += bytes.len() as u64;
    }
    if at == blob.size {
        ingest.commit().map(drop)
    } else {
        Ok(())
    }
}

/// SHA-256 of a document.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

fn hash(bytes: &[u8], like: Option<&Digest>) -> Digest {
    match like.map(Digest::algorithm) {
        Some(ferry_oci::Algorithm::Sha512) => Digest::from_sha512(&Sha512::digest(bytes).into()),
        _ => sha256(bytes),
    }
}

/// The served type where it is one of a manifest; some registries say `application/json`.
fn media_type(bytes: &[u8], served: String) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    if media::is_manifest(&served) || media::is_index(&served) {
        return served;
    }
    serde_json::from_slice::<Own>(bytes)
        .ok()
        .and_then(|own| own.media_type)
        .unwrap_or_default()
}
