//! Why a container did not start.

use std::fmt;
use std::io;

/// What callers branch on: Docker's exit codes and the clients that match on words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchErrorKind {
    /// The program does not exist: 127.
    NotFound,
    /// The program may not be executed, or is a directory: 126.
    PermissionDenied,
    /// The program is not in a format that the kernel executes.
    ExecFormat,
    /// Anything else.
    Other,
}

/// Why a container or an exec did not start, in a sentence with runc's well-known words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchError {
    kind: LaunchErrorKind,
    message: String,
}

impl LaunchError {
    pub(crate) fn new(kind: LaunchErrorKind, message: impl Into<String>) -> LaunchError {
        LaunchError {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn other(message: impl Into<String>) -> LaunchError {
        LaunchError::new(LaunchErrorKind::Other, message)
    }

    pub(crate) fn io(what: &str, error: io::Error) -> LaunchError {
        LaunchError::other(format!("cannot {what}: {error}"))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> LaunchErrorKind {
        self.kind
    }

    /// The exit code that Docker gives a container whose program could not be started.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            LaunchErrorKind::NotFound => 127,
            LaunchErrorKind::PermissionDenied => 126,
            LaunchErrorKind::ExecFormat => 255,
            LaunchErrorKind::Other => 128,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LaunchError {}
