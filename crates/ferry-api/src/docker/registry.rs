//! Credentials and what is told of registries.

use ferry_oci::Platform;
use ferry_oci::image::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Credentials, as `X-Registry-Auth` (base64url of this as JSON) and `POST /auth` carry them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// base64 of `user:password`, as config files have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// The registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// A refresh token instead of a password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token, sent as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthResponse {
    /// A refresh token to use from now on.
    #[serde(rename = "IdentityToken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// `Login Succeeded`.
    #[serde(rename = "Status")]
    pub status: String,
}

/// `GET /distribution/{name}/json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// For which platforms.
    pub platforms: Vec<Platform>,
}

/// One index in [`ServiceConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Its host.
    pub name: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// Whether TLS is asked of it.
    pub secure: bool,
    /// Whether it is the default registry.
    pub official: bool,
}

/// `RegistryConfig` of `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceConfig {
    /// Networks whose registries need no TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// By host.
    #[serde(rename = "IndexConfigs")]
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of the default registry.
    #[serde(rename = "Mirrors")]
    pub mirrors: Vec<String>,
}

/// One row of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Stars.
    pub star_count: i64,
    /// Whether it is official.
    pub is_official: bool,
    /// The repository.
    pub name: String,
    /// Always false.
    pub is_automated: bool,
    /// A sentence.
    pub description: String,
}
