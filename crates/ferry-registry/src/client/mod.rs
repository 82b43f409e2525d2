//! A client of many registries; a [`Repository`] is one of its repositories with somebody's credentials.

mod auth;
pub mod config;
pub mod login;
pub mod pull;
pub mod push;
mod resolve;
mod retry;
mod tls;
mod transport;

use crate::RegistryError;
use config::{Credentials, RegistryConfig};
use ferry_oci::Reference;
use ferry_oci::reference::DEFAULT_REGISTRY;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use transport::{Call, Transport, document, protocol};

/// Where the default registry really answers.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// The client; cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    tokens: auth::Tokens,
    /// `http://` or `https://` by authority, once it has answered.
    schemes: Mutex<HashMap<String, &'static str>>,
}

/// What will be done with a repository: what a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

impl Access {
    const fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

impl Client {
    /// A client with these settings; no connection is made yet.
    pub fn new(config: RegistryConfig) -> Self {
        Self(Arc::new(Inner {
            transport: Transport::new(config),
            tokens: auth::Tokens::default(),
            schemes: Mutex::default(),
        }))
    }

    /// The repository that `reference` names, its mirrors before it where it is read from the default registry.
    pub fn repository(&self, reference: &Reference, credentials: Credentials, access: Access) -> Repository {
        let mut bases = Vec::new();
        if reference.registry() == DEFAULT_REGISTRY {
            if access == Access::Pull {
                bases.extend(
                    self.0
                        .transport
                        .config()
                        .mirrors
                        .iter()
                        .map(|m| (m.trim_end_matches('/').to_owned(), true)),
                );
            }
            bases.push((format!("https://{DEFAULT_REGISTRY_HOST}"), false));
        } else {
            bases.push((reference.registry().to_owned(), false));
        }
        Repository {
            client: self.clone(),
            name: reference.repository().to_owned(),
            bases,
            credentials,
            access,
        }
    }

    /// The base address of `authority`, which may already have a scheme: https, or http where that is allowed and nothing else answers.
    async fn base(&self, authority: &str) -> Result<Uri, RegistryError> {
        let parse = |text: String| {
            text.parse::<Uri>()
                .map_err(|_| RegistryError::Config(format!("{text:?} is no registry address")))
        };
        if authority.contains("://") {
            return parse(authority.to_owned());
        }
        let known = self
            .0
            .schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(authority)
            .copied();
        if let Some(scheme) = known {
            return parse(format!("{scheme}://{authority}"));
        }
        let insecure = self.0.transport.config().is_insecure(authority);
        let mut first = None;
        for scheme in ["https", "http"] {
            if scheme == "http" && !insecure {
                break;
            }
            match self
                .0
                .transport
                .send(&Call::new(Method::GET, format!("{scheme}://{authority}/v2/")))
                .await
            {
                // A TLS server asked in plain text answers 400 and the like; a registry answers 200, 401 or 403 here.
                Ok(response) if scheme == "https" || response.status() != StatusCode::BAD_REQUEST => {
                    self.0
                        .schemes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(authority.to_owned(), scheme);
                    return parse(format!("{scheme}://{authority}"));
                }
                Ok(_) => {}
                Err(error) => first = Some(first.unwrap_or(error)),
            }
        }
        Err(first.unwrap_or_else(|| protocol(authority, "it is no registry".into())))
    }

    /// Sends `call` to `base`, answering one challenge for `scope`.
    async fn authorized(
        &self,
        base: &Uri,
        mut call: Call<'_>,
        scope: &str,
        credentials: &Credentials,
    ) -> Result<Response<Incoming>, RegistryError> {
        let first = self.0.transport.send(&call).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let headers = first.headers().clone();
        drop(first);
        let value = auth::answer(
            &self.0.transport,
            &self.0.tokens,
            (base, &headers),
            scope,
            credentials,
        )
        .await?;
        call.authorization = Some(&value);
        self.0.transport.send(&call).await
    }
}

/// One repository, and who asks.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    name: String,
    /// Authorities or base addresses in the order they are asked, and whether each is a mirror.
    bases: Vec<(String, bool)>,
    credentials: Credentials,
    access: Access,
}

impl Repository {
    fn scope(&self) -> String {
        format!("repository:{}:{}", self.name, self.access.actions())
    }

    fn url(&self, base: &Uri, rest: &str) -> String {
        format!(
            "{}/v2/{}/{rest}",
            base.to_string().trim_end_matches('/'),
            self.name
        )
    }

    /// Credentials are the registry's: a mirror gets none.
    fn credentials(&self, mirror: bool) -> Credentials {
        if mirror {
            Credentials::default()
        } else {
            self.credentials.clone()
        }
    }

    /// Asks every base in turn until one answers `rest` with success; a mirror's failure of any kind is no failure.
    async fn ask(
        &self,
        method: &Method,
        rest: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Answer, RegistryError> {
        let mut last = None;
        for (authority, mirror) in &self.bases {
            match self.ask_one((authority, *mirror), method, rest, headers).await {
                Ok(answer) => return Ok(answer),
                Err(error) if *mirror => {
                    tracing::debug!(mirror = authority, %error, "mirror did not serve {rest}");
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::Config("no registry to ask".into())))
    }

    async fn ask_one(
        &self,
        (authority, mirror): (&str, bool),
        method: &Method,
        rest: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Answer, RegistryError> {
        let base = self.client.base(authority).await?;
        let mut call = Call::new(method.clone(), self.url(&base, rest));
        for (name, value) in headers {
            call = call.header(name.clone(), value)?;
        }
        let response = self
            .client
            .authorized(&base, call, &self.scope(), &self.credentials(mirror))
            .await?;
        let what = format!("{authority}/{} {rest}", self.name);
        Ok(Answer {
            response: self.check(response, &what).await?,
            what,
        })
    }

    /// Turns an answer that is no success into an error.
    async fn check(
        &self,
        response: Response<Incoming>,
        what: &str,
    ) -> Result<Response<Incoming>, RegistryError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let registry = self.bases.last().map(|(b, _)| b.clone()).unwrap_or_default();
        let (status, _, body) = document(response, what).await?;
        let message = crate::proto::errors::sentence(&body);
        Err(match status {
            StatusCode::UNAUTHORIZED if self.credentials.is_anonymous() => RegistryError::Denied {
                what: self.name.clone(),
                message,
            },
            StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { registry, message },
            StatusCode::FORBIDDEN => RegistryError::Denied {
                what: self.name.clone(),
                message,
            },
            StatusCode::NOT_FOUND => RegistryError::NotFound {
                what: what.to_owned(),
            },
            _ => protocol(what, format!("{status}: {message}")),
        })
    }
}

struct Answer {
    response: Response<Incoming>,
    what: String,
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}
