//! Trying credentials: what `login` does.

use super::auth;
use super::config::Credentials;
use super::transport::{Call, document, protocol};
use super::{Client, DEFAULT_REGISTRY_HOST};
use crate::RegistryError;
use http::{Method, StatusCode};

/// How the registry took the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// They are good.
    Accepted,
    /// The registry asks nobody for credentials.
    NotAsked,
}

impl Client {
    /// Tries `credentials` at `server` (`host[:port]`, an address, or empty for the default registry).
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] where they are refused.
    pub async fn login(
        &self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<LoginOutcome, RegistryError> {
        let authority = match server
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default()
        {
            "" | "docker.io" | "index.docker.io" => DEFAULT_REGISTRY_HOST,
            other => other,
        };
        let base = self.base(authority).await?;
        let url = format!("{}/v2/", base.to_string().trim_end_matches('/'));
        let first = self
            .0
            .transport
            .send(&Call::new(Method::GET, url.clone()))
            .await?;
        if first.status().is_success() {
            return Ok(LoginOutcome::NotAsked);
        }
        if first.status() != StatusCode::UNAUTHORIZED {
            return Err(protocol(authority, format!("{} to {url}", first.status())));
        }
        let headers = first.headers().clone();
        drop(first);
        let value = auth::answer(
            &self.0.transport,
            &self.0.tokens,
            (&base, &headers),
            "",
            credentials,
        )
        .await?;
        let second = self
            .0
            .transport
            .send(&Call::new(Method::GET, url).authorized(Some(&value)))
            .await?;
        let (status, _, body) = document(second, authority).await?;
        match status {
            s if s.is_success() => Ok(LoginOutcome::Accepted),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Unauthorized {
                registry: authority.to_owned(),
                message: crate::proto::errors::sentence(&body),
            }),
            other => Err(protocol(authority, other.to_string())),
        }
    }
}
