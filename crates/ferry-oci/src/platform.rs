//! Platforms: operating system, architecture and variant, as image indexes name them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An `os/architecture[/variant]` triple in Go's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH: `amd64`, `arm64`, …
    pub architecture: String,
    /// GOOS: `linux` for everything that Ferry runs.
    pub os: String,
    /// `os.version`, used by Windows images only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// `os.features`, used by Windows images only.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this binary was compiled for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.map(Into::into),
            ..Self::default()
        }
    }

    /// Whether an image for `offered` runs where `self` is asked for; a missing variant on either side of arm64 means v8.
    pub fn accepts(&self, offered: &Self) -> bool {
        fn variant(p: &Platform) -> Option<&str> {
            match (p.architecture.as_str(), p.variant.as_deref()) {
                ("arm64", None) => Some("v8"),
                ("arm", None) => Some("v7"),
                ("amd64", None) => Some("v1"),
                (_, v) => v,
            }
        }
        self.os == offered.os
            && self.architecture == offered.architecture
            && variant(self) == variant(offered)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPlatform(String);

impl fmt::Display for InvalidPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid platform {:?}: want os/architecture or os/architecture/variant, such as linux/amd64",
            self.0
        )
    }
}

impl std::error::Error for InvalidPlatform {}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.chars().take(80).collect());
        let legal = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.')
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|p| legal(p)) {
            return Err(invalid());
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => (*os, Self::host().architecture, None),
            [architecture] => ("linux", normal(architecture), None),
            [os, architecture] => (*os, normal(architecture), None),
            [os, architecture, variant] => (*os, normal(architecture), Some((*variant).to_owned())),
            _ => return Err(invalid()),
        };
        Ok(Self {
            architecture,
            os: os.to_ascii_lowercase(),
            variant,
            ..Self::default()
        })
    }
}

fn normal(architecture: &str) -> String {
    match architecture.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        "i386" | "i686" => "386".into(),
        "armhf" => "arm".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches() {
        let p: Platform = "linux/x86_64".parse().unwrap();
        assert_eq!(p.to_string(), "linux/amd64");
        assert!(
            "linux/arm64"
                .parse::<Platform>()
                .unwrap()
                .accepts(&"linux/arm64/v8".parse().unwrap())
        );
        assert!(!p.accepts(&"linux/arm64".parse().unwrap()));
        for bad in ["", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
