//! The registry client: pull and push over the OCI distribution protocol, against any registry.
//!
//! `proto` is sans-I/O (challenges, error bodies, ranges) and is shared with a server; `client` owns sockets and time.
//! What is fetched goes straight into the content store, which verifies it; nothing here decides what an image is.

pub mod client;
mod error;
pub mod proto;

pub use client::config::{Credentials, Proxy, RegistryConfig};
pub use client::login::LoginOutcome;
pub use client::pull::{Manifest, Pulled};
pub use client::push::Uploaded;
pub use client::{Access, Client, Repository};
pub use error::RegistryError;
