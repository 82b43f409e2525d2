//! How a command ends when it does not succeed: a message for people, a status for scripts.

use ferry_api::client;

/// A failed command. An empty message prints nothing (a container's own exit status).
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit status.
    pub(crate) status: i32,
    /// What standard error gets.
    pub(crate) message: String,
    /// Whether this is the engine's 404.
    pub(crate) not_found: bool,
}

impl Failure {
    /// A failure with this status and message.
    pub(crate) fn new(status: i32, message: impl Into<String>) -> Self {
        Failure {
            status,
            message: message.into(),
            not_found: false,
        }
    }

    /// Status 1.
    pub(crate) fn text(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// Only a status.
    pub(crate) fn status(status: i32) -> Self {
        Self::new(status, "")
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let not_found = error.status() == Some(404);
        Failure {
            status: 1,
            message: error.to_string(),
            not_found,
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::text(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Failure::text(message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::text(error.to_string())
    }
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
