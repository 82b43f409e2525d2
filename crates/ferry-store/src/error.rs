//! The one error of the store: kinds that callers branch on, and words for people.

use ferry_oci::Digest;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// Nothing of that name is here.
    NotFound {
        /// What kind of thing: `image`, `content`, `layer`, `snapshot`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// An image is here, but not for the platform that was asked for.
    NoPlatform {
        /// The image's digest.
        image: Digest,
        /// What was asked for.
        wanted: String,
        /// What the index offers.
        offered: Vec<String>,
    },
    /// An id prefix fits several things.
    Ambiguous {
        /// The prefix.
        name: String,
    },
    /// Bytes do not have the digest that they were promised to have. Nothing of them was kept.
    DigestMismatch {
        /// The promise.
        expected: Digest,
        /// The truth.
        actual: Digest,
    },
    /// A blob has fewer bytes than its descriptor says. What is there stays for a resumed ingest.
    Truncated {
        /// The blob.
        digest: Digest,
        /// How many bytes the descriptor promises.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// A budget is exceeded: a document, a layer or an archive is bigger than allowed, or a decompression bomb.
    TooLarge {
        /// What is too large.
        what: String,
        /// The budget, in words.
        limit: String,
    },
    /// The file system is full, or would be.
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What would help to know: bytes free and wanted, or the kernel's error.
        detail: String,
    },
    /// A layer has an entry that may not be unpacked.
    InvalidEntry {
        /// The entry's name in the tar.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// A document, tar or archive that came from outside is malformed.
    Invalid {
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something of the store's own is damaged; it has been set aside where that was possible.
    Corrupt {
        /// What is damaged.
        what: String,
        /// How that was noticed.
        reason: String,
    },
    /// Another process has this store open.
    Locked {
        /// The store's root.
        root: PathBuf,
    },
    /// Anything else that the system answered.
    Io {
        /// What was being done: `open`, `rename`, …
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// What every call of the store returns.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// An error of the system while doing `op` to `path`; a full disk or quota becomes `NoSpace`.
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_path_buf(), source.into());
        match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Self::NoSpace {
                path,
                detail: source.to_string(),
            },
            _ => Self::Io { op, path, source },
        }
    }

    pub(crate) fn not_found(what: &'static str, name: impl fmt::Display) -> Self {
        Self::NotFound {
            what,
            name: name.to_string(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// Whether this is `NotFound`.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { what, name } => write!(f, "no such {what}: {name}"),
            Self::NoPlatform {
                image,
                wanted,
                offered,
            } => {
                write!(f, "image {image} has no manifest for {wanted}; it offers ")?;
                if offered.is_empty() {
                    f.write_str("none")
                } else {
                    f.write_str(&offered.join(", "))
                }
            }
            Self::Ambiguous { name } => write!(f, "{name} fits several images: give more of the id"),
            Self::DigestMismatch { expected, actual } => {
                write!(
                    f,
                    "verification failed: {expected} was promised, but the content has the digest {actual}; nothing of it was kept"
                )
            }
            Self::Truncated {
                digest,
                expected,
                actual,
            } => {
                write!(
                    f,
                    "blob {digest} is incomplete: {actual} of {expected} bytes arrived; try again to resume it"
                )
            }
            Self::TooLarge { what, limit } => write!(f, "{what} is refused: {limit}"),
            Self::NoSpace { path, detail } => {
                write!(
                    f,
                    "no space left for {}: {detail}; remove unused images or grow the file system",
                    path.display()
                )
            }
            Self::InvalidEntry { entry, reason } => write!(f, "layer entry {entry:?} is refused: {reason}"),
            Self::Invalid { what, reason } => write!(f, "invalid {what}: {reason}"),
            Self::Corrupt { what, reason } => write!(f, "{what} is damaged: {reason}"),
            Self::Locked { root } => {
                write!(
                    f,
                    "{} is in use by another engine: stop it first or choose another root",
                    root.display()
                )
            }
            Self::Io { op, path, source } => write!(f, "{op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
