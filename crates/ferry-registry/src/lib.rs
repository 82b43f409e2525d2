//! The registry client: pull and push over the OCI distribution protocol, against any registry.
pub mod proto;
#[path = "client/config.rs"]
mod config;
pub use config::{Credentials, Proxy, RegistryConfig};
/// How the registry took the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// They are good.
    Accepted,
    /// The registry asks nobody for credentials.
    NotAsked,
}
