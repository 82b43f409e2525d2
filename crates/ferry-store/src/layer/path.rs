//! Names of tar entries as paths that cannot leave the layer.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A path relative to a layer's root: no `..`, no empty or `.` component. The root itself has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InRoot {
    /// The components joined by `/`.
    joined: Vec<u8>,
}

/// The kernel's limits on one name and one path.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

impl InRoot {
    /// Cleans a name as Go's `filepath.Clean` does, by words alone. A leading `/` means the layer's root, as it does to Docker
    /// (build packs write such layers). A `..` that would leave the root is refused.
    pub(crate) fn parse(name: &[u8], max_depth: usize) -> Result<Self, String> {
        if name.contains(&0) {
            return Err("its name has a NUL".into());
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." if parts.pop().is_none() => {
                    return Err("it leaves the layer's root by \"..\"".into());
                }
                b".." => {}
                _ if part.len() > NAME_MAX => return Err(format!("a name is longer than {NAME_MAX} bytes")),
                _ => parts.push(part),
            }
        }
        if parts.len() > max_depth {
            return Err(format!("it is nested deeper than {max_depth} directories"));
        }
        let joined = parts.join(&b'/');
        if joined.len() > PATH_MAX {
            return Err(format!("its path is longer than {PATH_MAX} bytes"));
        }
        Ok(Self { joined })
    }

    pub(crate) fn is_root(&self) -> bool {
        self.joined.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.joined
    }

    /// The parent's path and the last name; the root has none.
    pub(crate) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.joined.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some((&self.joined[..slash], &self.joined[slash + 1..])),
            None => Some((&[], &self.joined)),
        }
    }
}

/// Bytes as a file name.
pub(crate) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A path grown by one name.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, b"/", name].concat()
    }
}

/// A path for a record.
pub(crate) fn owned(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cleans_and_refuses() {
        let ok = |s: &str| InRoot::parse(s.as_bytes(), 10).unwrap().joined;
        assert_eq!(ok("./a//b/"), b"a/b");
        assert_eq!(ok("/etc/passwd"), b"etc/passwd");
        assert_eq!(ok("a/../b"), b"b");
        assert!(InRoot::parse(b"./", 10).unwrap().is_root());
        for bad in ["..", "../a", "a/../../b", "/../x", "a/b/c/d/e/f/g/h/i/j/k"] {
            assert!(InRoot::parse(bad.as_bytes(), 10).is_err(), "{bad}");
        }
        assert!(InRoot::parse(&[b'x'; 256], 10).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_inside(name in "[a./]{0,40}") {
            if let Ok(path) = InRoot::parse(name.as_bytes(), 100) {
                let mut parts = path.as_bytes().split(|&b| b == b'/');
                prop_assert!(path.is_root() || parts.all(|c| c != b".." && c != b"." && !c.is_empty()));
                prop_assert!(!path.as_bytes().starts_with(b"/"));
            }
        }
    }
}
