//! Writing: blobs that are missing, mounted from a sister repository where the registry has them, then the manifest.

use super::retry::retry;
use super::transport::{Body, BoxError, Call, absolute, document, empty, protocol};
use super::{Repository, auth, text};
use crate::RegistryError;
use bytes::Bytes;
use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use ferry_store::Store;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What an upload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The repository had it.
    AlreadyThere,
    /// Linked from this repository of the same registry.
    Mounted(String),
    /// Sent.
    Sent,
}

/// Where an upload may be continued, and as whom.
struct Upload {
    location: String,
    authorization: Option<String>,
}

impl Repository {
    fn base_authority(&self) -> Result<&str, RegistryError> {
        self.bases
            .last()
            .map(|(b, _)| b.as_str())
            .ok_or_else(|| RegistryError::Config("no registry to push to".into()))
    }

    /// Sends a blob of `store`, unless it is there or can be mounted from one of `sisters` (repository names).
    pub async fn send_blob(
        &self,
        store: &Store,
        blob: &Descriptor,
        sisters: &[String],
        progress: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Uploaded, RegistryError> {
        let head = retry(|| async {
            match self
                .ask(&Method::HEAD, &format!("blobs/{}", blob.digest), &[])
                .await
            {
                Ok(_) => Ok(true),
                Err(RegistryError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        });
        if head.await? {
            return Ok(Uploaded::AlreadyThere);
        }
        for sister in sisters.iter().filter(|s| **s != self.name) {
            let (_, response) = self
                .begin(&format!("?mount={}&from={sister}", blob.digest), Some(sister))
                .await?;
            if response.status() == StatusCode::CREATED {
                return Ok(Uploaded::Mounted(sister.clone()));
            }
        }
        retry(|| self.upload(store, blob, Arc::clone(&progress))).await?;
        Ok(Uploaded::Sent)
    }

    /// `POST …/blobs/uploads/<query>`; the scope includes reading `sister`.
    async fn begin(
        &self,
        query: &str,
        sister: Option<&str>,
    ) -> Result<(Upload, Response<Incoming>), RegistryError> {
        let base = self.client.base(self.base_authority()?).await?;
        let url = self.url(&base, &format!("blobs/uploads/{query}"));
        let scope = match sister {
            Some(sister) => format!("{} repository:{sister}:pull", self.scope()),
            None => self.scope(),
        };
        let transport = &self.client.0.transport;
        let mut response = transport.send(&Call::new(Method::POST, url.clone())).await?;
        let mut authorization = None;
        if response.status() == StatusCode::UNAUTHORIZED {
            let headers = response.headers().clone();
            let value = auth::answer(
                transport,
                &self.client.0.tokens,
                (&base, &headers),
                &scope,
                &self.credentials,
            )
            .await?;
            response = transport
                .send(&Call::new(Method::POST, url.clone()).authorized(Some(&value)))
                .await?;
            authorization = Some(value);
        }
        let what = format!("upload to {}", self.name);
        let response = self.check(response, &what).await?;
        let location = match (response.status(), text(response.headers(), "location")) {
            (StatusCode::CREATED, _) => String::new(),
            (_, Some(location)) => absolute(&base, location),
            (_, None) => return Err(protocol(&what, "no Location".into())),
        };
        Ok((
            Upload {
                location,
                authorization,
            },
            response,
        ))
    }

    async fn upload(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<(), RegistryError> {
        let (upload, _) = self.begin("", None).await?;
        let what = format!("upload of {} to {}", blob.digest, self.name);
        let joint = if upload.location.contains('?') { '&' } else { '?' };
        let url = format!("{}{joint}digest={}", upload.location, blob.digest);
        let uri: Uri = url
            .parse()
            .map_err(|_| protocol(&what, format!("the Location {url:?} is no address")))?;
        let base: Uri = self.client.base(self.base_authority()?).await?;
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(uri.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size);
        if let Some(value) = upload
            .authorization
            .filter(|_| uri.authority() == base.authority() && uri.scheme() == base.scheme())
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = if blob.size == 0 {
            empty()
        } else {
            file_body(store, &blob.digest, progress)?
        };
        let request = request
            .body(body)
            .map_err(|e| RegistryError::Config(e.to_string()))?;
        let response = self
            .check(self.client.0.transport.once(request).await?, &what)
            .await?;
        if response.status() == StatusCode::CREATED {
            Ok(())
        } else {
            Err(protocol(&what, response.status().to_string()))
        }
    }

    /// Puts a manifest or index under a tag or its digest.
    pub async fn send_manifest(
        &self,
        which: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        let base = self.client.base(self.base_authority()?).await?;
        let url = self.url(&base, &format!("manifests/{which}"));
        let what = format!("manifest {which} of {}", self.name);
        let response = retry(|| async {
            let mut call = Call::new(Method::PUT, url.clone()).header(header::CONTENT_TYPE, media_type)?;
            call.body = bytes.clone();
            let response = self
                .client
                .authorized(&base, call, &self.scope(), &self.credentials)
                .await?;
            self.check(response, &what).await
        })
        .await?;
        let (_, headers, _) = document(response, &what).await?;
        let told = headers.get("docker-content-digest").map(HeaderValue::to_str);
        let digest = super::pull::sha256(&bytes);
        match told {
            Some(Ok(text)) if text.starts_with("sha256:") && text != digest.to_string() => Err(protocol(
                &what,
                format!("the registry stored {text} instead of {digest}"),
            )),
            _ => Ok(digest),
        }
    }
}

/// A blob's file as a body; `progress` is told how many bytes have been taken.
fn file_body(
    store: &Store,
    digest: &Digest,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<Body, RegistryError> {
    let mut file = store.content().open(digest)?;
    let (chunks, received) = mpsc::channel::<Result<Bytes, BoxError>>(8);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut buffer = vec![0; 256 << 10];
            let read = match file.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    buffer.truncate(n);
                    Ok(Bytes::from(buffer))
                }
                Err(error) => Err(error.into()),
            };
            if chunks.blocking_send(read).is_err() {
                return;
            }
        }
    });
    let mut sent = 0;
    let frames =
        futures_util::stream::unfold(
            received,
            |mut r| async move { r.recv().await.map(|item| (item, r)) },
        )
        .map(move |item| {
            item.map(|bytes| {
                sent += bytes.len() as u64;
                progress(sent);
                Frame::data(bytes)
            })
        });
    Ok(StreamBody::new(frames).boxed_unsync())
}
