//! What can go wrong between here and a registry.

use ferry_oci::Digest;
use std::fmt;

/// A failure of the client. A variant exists where a caller branches on it.
#[derive(Debug)]
pub enum RegistryError {
    /// The registry wants (other) credentials.
    Unauthorized {
        /// Its host.
        registry: String,
        /// Its words.
        message: String,
    },
    /// The credentials do not suffice, or the repository is hidden from them.
    Denied {
        /// What was asked for.
        what: String,
        /// The registry's words.
        message: String,
    },
    /// Repository, tag or digest is not there.
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// What arrived is not what was promised.
    Mismatch {
        /// What was asked for.
        what: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what arrived; `None` where the size already differed.
        actual: Option<Digest>,
    },
    /// The registry answered with something that no registry answers.
    Protocol {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// No connection, a broken one, or a time-out.
    Network {
        /// The host.
        registry: String,
        /// The cause.
        message: String,
    },
    /// The local store.
    Store(ferry_store::StoreError),
    /// The client's own configuration.
    Config(String),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized { registry, message } => {
                write!(f, "unauthorized: {message} (log in with 'login {registry}')")
            }
            Self::Denied { what, message } => write!(
                f,
                "pull access denied for {what}, repository does not exist or may require 'docker login': denied: {message}"
            ),
            Self::NotFound { what } => write!(f, "{what}: not found"),
            Self::Mismatch {
                what,
                expected,
                actual: Some(actual),
            } => {
                write!(
                    f,
                    "{what}: the registry sent other content than asked for: expected digest {expected}, got {actual}; nothing was kept"
                )
            }
            Self::Mismatch {
                what,
                expected,
                actual: None,
            } => {
                write!(
                    f,
                    "{what}: the registry sent another number of bytes than {expected} has; nothing was kept"
                )
            }
            Self::Protocol { what, message } => {
                write!(f, "{what}: unexpected answer from the registry: {message}")
            }
            Self::Network { registry, message } => write!(f, "cannot reach registry {registry}: {message}"),
            Self::Store(error) => error.fmt(f),
            Self::Config(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ferry_store::StoreError> for RegistryError {
    fn from(error: ferry_store::StoreError) -> Self {
        Self::Store(error)
    }
}
