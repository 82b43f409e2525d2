//! Image references, `registry/repository:tag@digest`, with Docker's familiar short forms.

use crate::{Digest, digest::InvalidDigest};
use std::fmt;
use std::str::FromStr;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";

/// A parsed image reference; always has a registry and a repository, and a tag, a digest or both once `tagged`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: Box<str>,
    repository: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port; `docker.io` for short names.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The full repository path; official images have their `library/`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with `latest` where neither a tag nor a digest was given.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same name with this tag and no digest. Fails where the tag is not legal.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        check_tag(tag)?;
        Ok(Self {
            tag: Some(tag.into()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same name by digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The name without tag and digest, as Docker's lists show it: `busybox`, `host:5000/team/app`.
    pub fn familiar_name(&self) -> String {
        if &*self.registry == DEFAULT_REGISTRY {
            self.repository
                .strip_prefix("library/")
                .unwrap_or(&self.repository)
                .to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        }
    }

    /// The whole reference in its short form: `busybox:latest`, `host:5000/app@sha256:…`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.write_suffix(&mut text).expect("writing to a string");
        text
    }

    fn write_suffix(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |d| write!(out, "@{d}"))
    }
}

impl fmt::Display for Reference {
    /// The canonical long form: `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.write_suffix(f)
    }
}

/// Why a text is no reference. The words are Docker's where clients match on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidReference {
    /// Not of the grammar.
    Format,
    /// The repository has upper-case letters.
    Uppercase,
    /// The name alone is longer than 255 bytes.
    TooLong,
    /// Sixty-four hex digits, which would be taken for an id.
    LooksLikeId(String),
    /// The tag is not legal.
    Tag,
    /// The digest is not legal.
    Digest(InvalidDigest),
}

impl fmt::Display for InvalidReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("invalid reference format"),
            Self::Uppercase => f.write_str("invalid reference format: repository name must be lowercase"),
            Self::TooLong => f.write_str("repository name must not be more than 255 characters"),
            Self::LooksLikeId(id) => write!(
                f,
                "invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"
            ),
            Self::Tag => f.write_str("invalid tag format"),
            Self::Digest(_) => f.write_str("invalid reference format"),
        }
    }
}

impl std::error::Error for InvalidReference {}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::LooksLikeId(text.into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(InvalidReference::Digest)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(|_| InvalidReference::Format)?;
        }
        let (registry, repository) = split_registry(name);
        check_registry(registry)?;
        let repository = match (registry, repository.contains('/')) {
            (DEFAULT_REGISTRY, false) => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        check_repository(&repository)?;
        if registry.len() + 1 + repository.len() > 255 {
            return Err(InvalidReference::TooLong);
        }
        Ok(Self {
            registry: registry.into(),
            repository: repository.into(),
            tag: tag.map(Into::into),
            digest,
        })
    }
}

/// The first segment is a registry when it has a dot or a colon, is `localhost`, or has an upper-case letter.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let legal = (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if legal { Ok(()) } else { Err(InvalidReference::Tag) }
}

fn check_registry(host: &str) -> Result<(), InvalidReference> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok());
    let name_ok = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    if port_ok && name_ok {
        Ok(())
    } else {
        Err(InvalidReference::Format)
    }
}

fn check_repository(repository: &str) -> Result<(), InvalidReference> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(InvalidReference::Uppercase);
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err(InvalidReference::Format)
    }
}

/// `[a-z0-9]+` runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let word = rest
            .iter()
            .take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            .count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let Some(&first) = rest.first() else { return true };
        let run = rest.iter().take_while(|&&b| b == first).count();
        let legal = match first {
            b'.' => run == 1,
            b'_' => run <= 2,
            b'-' => true,
            _ => false,
        };
        if !legal {
            return false;
        }
        rest = &rest[run..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<String, InvalidReference> {
        text.parse::<Reference>().map(|r| r.to_string())
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(parse("busybox").unwrap(), "docker.io/library/busybox");
        assert_eq!(parse("team/app:1").unwrap(), "docker.io/team/app:1");
        assert_eq!(parse("127.0.0.1:5000/app").unwrap(), "127.0.0.1:5000/app");
        assert_eq!(parse("localhost/app").unwrap(), "localhost/app");
        assert_eq!(parse("[::1]:5000/a/b:t").unwrap(), "[::1]:5000/a/b:t");
        assert_eq!(
            "busybox".parse::<Reference>().unwrap().tagged().familiar(),
            "busybox:latest"
        );
    }

    #[test]
    fn illegal_names_are_refused() {
        use InvalidReference::*;
        assert_eq!(parse("Busybox"), Err(Uppercase));
        assert_eq!(parse(""), Err(Format));
        assert_eq!(parse("a:"), Err(Format));
        assert_eq!(parse("a//b"), Err(Format));
        assert_eq!(parse("a/../b"), Err(Format));
        assert_eq!(parse("a___b"), Err(Format));
        assert!(matches!(parse(&"a".repeat(64)), Err(LooksLikeId(_))));
        assert_eq!(parse(&format!("x{}", "y".repeat(300))), Err(TooLong));
    }

    proptest! {
        #[test]
        fn canonical_and_familiar_forms_parse_back(text in "[a-zA-Z0-9.:/@_-]{0,60}") {
            if let Ok(r) = text.parse::<Reference>() {
                prop_assert_eq!(&r.to_string().parse::<Reference>().unwrap(), &r);
                prop_assert_eq!(&r.familiar().parse::<Reference>().unwrap(), &r);
            }
        }
    }
}
