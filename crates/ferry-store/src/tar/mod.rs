//! Tar, read as strictly and with the same meaning as Go's `archive/tar`, which made nearly every layer there is.
//!
//! Two readers that disagree about where an entry begins are how a layer smuggles files past one of them, so there is one
//! parser for layers and archives, and where formats contradict each other it decides as Go does:
//! PAX over GNU long names over ustar; an empty PAX value keeps the header's; header-only types have no data whatever their
//! size says; a `g` header applies to nothing. Formats: POSIX.1-2017 pax, `tar(5)`, GNU tar's manual on sparse formats.

mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use writer::{Header, Writer};

/// The unit that everything is padded to.
pub(crate) const BLOCK: usize = 512;
/// The most bytes that a PAX header, a long name or a sparse map may have (Go's limit as well).
pub(crate) const MAX_SPECIAL: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A `g` header: applies to nothing.
    Global,
    /// Any other type byte.
    Unknown(u8),
}

/// One entry, with every extension applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Logical size: holes included.
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// `SCHILY.xattr.` records in the order of their names.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The name as people should see it.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Why a tar cannot be read on.
#[derive(Debug)]
pub(crate) enum TarError {
    /// It is malformed; the words say where and how.
    Malformed(String),
    /// It ends in the middle.
    Truncated,
    /// A budget is exceeded.
    TooLarge(String),
    /// The source failed.
    Io(std::io::Error),
}

impl std::fmt::Display for TarError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(text) | Self::TooLarge(text) => f.write_str(text),
            Self::Truncated => f.write_str("the tar ends in the middle of an entry"),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl From<std::io::Error> for TarError {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

pub(crate) fn malformed(text: impl Into<String>) -> TarError {
    TarError::Malformed(text.into())
}
