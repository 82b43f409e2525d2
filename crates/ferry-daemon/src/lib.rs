//! The daemon: Docker's API in front of the engine, its listeners, its configuration and its main loop.
//!
//! [`serve`] puts a front-end before an engine that is open already; [`command`] is the program around it: arguments, `daemon.json`,
//! pid file, signals. Nothing here decides about containers.

pub mod command;
pub mod config;
pub mod docker;
mod pidfile;
pub mod server;
pub mod tls;

pub use server::{Listen, ServeError, ServeOptions, Server, serve};

/// Which build this is, as `version` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `0.1.0`.
    pub version: String,
    /// The commit it was built from, or `unknown`.
    pub commit: String,
    /// When it was built, or `unknown`.
    pub built: String,
    /// The toolchain that built it.
    pub toolchain: String,
}

impl Default for Release {
    /// What the build's own environment says.
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("FERRY_COMMIT").unwrap_or("unknown").into(),
            built: option_env!("FERRY_BUILD_TIME").unwrap_or("unknown").into(),
            toolchain: concat!("rust", env!("CARGO_PKG_RUST_VERSION")).into(),
        }
    }
}
