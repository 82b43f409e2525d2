//! The engine's one error: a kind for code, words for people.

use std::error::Error as StdError;
use std::fmt;

/// What sort of failure, for front-ends to turn into their protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What was named does not exist.
    NotFound,
    /// The object's state, or another object, forbids it.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// A registry wants other credentials.
    Unauthenticated,
    /// Not allowed.
    Denied,
    /// Already so: nothing was done.
    Unchanged,
    /// Cannot be had now; may be later.
    Unavailable,
    /// This engine, kernel or host cannot do it.
    Unsupported,
    /// Anything else.
    Internal,
}

/// An error of the engine. `Display` is the whole sentence for the user, cause included.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// The exit code that a failed start leaves (126, 127, 128), where there is one.
    exit_code: Option<u8>,
}

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind with this sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            exit_code: None,
        }
    }

    /// The same with a cause, which `source` tells; the message must already name it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, with the exit code that the container is left with.
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// What sort.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code that a failed start leaves.
    pub fn exit_code(&self) -> Option<u8> {
        self.exit_code
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Unchanged`].
    pub fn unchanged() -> Self {
        Self::new(Kind::Unchanged, "")
    }

    /// [`Kind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// [`Kind::Internal`]: `what` failed because of `source`.
    pub fn internal(what: impl fmt::Display, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        Self {
            kind: Kind::Internal,
            message: format!("{what}: {source}"),
            source: Some(source),
            exit_code: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<ferry_store::StoreError> for Error {
    fn from(error: ferry_store::StoreError) -> Self {
        use ferry_store::StoreError as E;
        let kind = match &error {
            E::NotFound { .. } | E::NoPlatform { .. } => Kind::NotFound,
            E::Ambiguous { .. }
            | E::DigestMismatch { .. }
            | E::Truncated { .. }
            | E::TooLarge { .. }
            | E::InvalidEntry { .. }
            | E::Invalid { .. } => Kind::Invalid,
            E::NoSpace { .. } | E::Locked { .. } => Kind::Unavailable,
            E::Corrupt { .. } | E::Io { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}

impl From<ferry_net::NetError> for Error {
    fn from(error: ferry_net::NetError) -> Self {
        use ferry_net::NetError as E;
        let kind = match &error {
            E::Invalid(_) | E::AddressOutside { .. } | E::SubnetOverlaps { .. } => Kind::Invalid,
            E::Unsupported(_) => Kind::Unsupported,
            E::AddressInUse(_) => Kind::Conflict,
            E::NoFreeAddress { .. } | E::NoFreeSubnet | E::Io { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}
