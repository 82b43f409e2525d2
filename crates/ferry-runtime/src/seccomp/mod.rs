//! System call filters: the specification's seccomp model compiled to classic BPF.
//!
//! `profile` resolves Docker's profile format (and Docker's default profile) to the specification's; `compile` turns
//! that into a program. The shape of the program matters: the kernel runs a new filter once for every call number of every
//! architecture to build its cache of what is always allowed, so a list that is searched from its start costs a
//! millisecond at each container's start. Ours is a balanced search over call numbers.
//!
//! Pure: loading is `ferry_sys::seccomp`'s.

use std::fmt;

mod arch;
mod compile;
mod default_rows;
mod profile;
mod program;
mod syscalls;
mod words;

pub use arch::Architecture;
pub use compile::{Filter, Listener, compile, compile_for};
pub use profile::{Facts, default_profile, parse_docker_profile};

/// Why a profile is not a filter.
#[derive(Debug)]
pub enum SeccompError {
    /// The profile is no JSON of the right shape.
    Parse(serde_json::Error),
    /// A value that the model does not have, or that contradicts another.
    Value {
        /// The field of the specification.
        field: String,
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The program is longer than the kernel takes (`BPF_MAXINSNS`, 4096).
    TooLong {
        /// Instructions needed.
        length: usize,
    },
}

impl fmt::Display for SeccompError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeccompError::Parse(error) => write!(f, "decoding the seccomp profile failed: {error}"),
            SeccompError::Value { field, value, reason } => write!(f, "seccomp {field} {value:?}: {reason}"),
            SeccompError::TooLong { length } => write!(
                f,
                "the seccomp profile needs {length} instructions and the kernel takes 4096: use fewer rules with arguments"
            ),
        }
    }
}

impl std::error::Error for SeccompError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SeccompError::Parse(error) => Some(error),
            _ => None,
        }
    }
}

fn bad(field: impl Into<String>, value: impl fmt::Display, reason: &'static str) -> SeccompError {
    SeccompError::Value {
        field: field.into(),
        value: value.to_string(),
        reason,
    }
}
