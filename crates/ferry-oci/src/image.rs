//! Image documents: descriptors, indexes, manifests and configurations.
//!
//! These are *views* of stored bytes: the bytes themselves are what is kept, hashed and sent; nothing is ever serialised
//! back from a view of a document that came from outside.

use crate::{Digest, Platform, media};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most bytes that a manifest or index may have.
pub const MAX_MANIFEST: usize = 4 << 20;
/// The most bytes that an image configuration may have.
pub const MAX_CONFIG: usize = 8 << 20;

/// A reference to content by digest, type and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// Where else a foreign layer is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: which platform the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// An image index or Docker manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; older OCI indexes leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// One entry a platform.
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The entry for `wanted`: the first that matches exactly, else for amd64 variants the first of the architecture.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|d| d.platform.as_ref().is_some_and(|p| wanted.accepts(p)))
    }
}

/// An image manifest, OCI's or Docker schema 2's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; older OCI manifests leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index, told apart by its own fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several, by platform.
    Index(Index),
}

/// Why bytes are no manifest or index.
#[derive(Debug)]
pub struct InvalidDocument(pub String);

impl std::fmt::Display for InvalidDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid image manifest: {}", self.0)
    }
}

impl std::error::Error for InvalidDocument {}

impl Document {
    /// Parses bytes that were served with `media_type` (empty where nobody said). Refuses a document that could be read
    /// two ways (both `layers` and `manifests`), one whose own `mediaType` contradicts the served one, and schema 1.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, InvalidDocument> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            media_type: Option<String>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let bad = |text: String| InvalidDocument(text);
        if bytes.len() > MAX_MANIFEST {
            return Err(bad(format!(
                "{} bytes exceed the limit of {MAX_MANIFEST}",
                bytes.len()
            )));
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if probe.schema_version != 2 {
            return Err(bad(format!(
                "schema version {} is not supported, only 2; push the image again with a current tool",
                probe.schema_version
            )));
        }
        let own = probe.media_type.as_deref().unwrap_or("");
        if !own.is_empty() && !media_type.is_empty() && own != media_type {
            return Err(bad(format!(
                "it calls itself {own:?} but was served as {media_type:?}"
            )));
        }
        let kind = if own.is_empty() { media_type } else { own };
        match (probe.layers.is_some(), probe.manifests.is_some()) {
            (true, true) => Err(bad("it has both \"layers\" and \"manifests\"".into())),
            (_, true) if media::is_manifest(kind) => Err(bad(format!("an index that calls itself {kind:?}"))),
            (true, _) if media::is_index(kind) => Err(bad(format!("a manifest that calls itself {kind:?}"))),
            (false, true) => serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(|e| bad(e.to_string())),
            (true, false) => serde_json::from_slice(bytes)
                .map(Self::Manifest)
                .map_err(|e| bad(e.to_string())),
            (false, false) => Err(bad("it has neither \"layers\" nor \"manifests\"".into())),
        }
    }
}

/// An image configuration: the view that running a container needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// RFC 3339, when the image was made.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// The architecture's variant.
    pub variant: Option<String>,
    /// `os.version`, Windows only.
    #[serde(rename = "os.version")]
    pub os_version: Option<String>,
    /// What containers start with.
    #[serde(deserialize_with = "null_default")]
    pub config: ContainerDefaults,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(deserialize_with = "null_default")]
    pub history: Vec<History>,
    /// Docker's free text of a commit.
    pub comment: Option<String>,
    /// Which Docker built it.
    pub docker_version: Option<String>,
    /// Which container it was committed from.
    pub container: Option<String>,
}

impl ImageConfig {
    /// The platform the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: Vec::new(),
            variant: self.variant.clone().filter(|v| !v.is_empty()),
        }
    }
}

/// The `config` object of an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerDefaults {
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// `80/tcp` and the like.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, or the program.
    pub cmd: Option<Vec<String>>,
    /// Paths that become anonymous volumes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory.
    pub working_dir: String,
    /// Labels, never control input.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks for an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Triggers for a child build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Windows only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
}

/// A health check; all durations in nanoseconds, 0 meaning "inherit or default".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures do not count after a start.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Go's `struct{}`: an object without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The `rootfs` object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// One entry of `history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// `null` where Go would write it for an empty slice or map.
fn null_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_be_read_two_ways() {
        let both = br#"{"schemaVersion":2,"layers":[],"manifests":[]}"#;
        assert!(
            Document::parse(both, "")
                .unwrap_err()
                .to_string()
                .contains("both")
        );
        let lie = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media::OCI_MANIFEST
        );
        assert!(Document::parse(lie.as_bytes(), media::OCI_MANIFEST).is_err());
        let other = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media::OCI_INDEX
        );
        assert!(Document::parse(other.as_bytes(), media::DOCKER_INDEX).is_err());
        assert!(Document::parse(other.as_bytes(), media::OCI_INDEX).is_ok());
        assert!(Document::parse(br#"{"schemaVersion":1}"#, "").is_err());
    }

    #[test]
    fn nulls_in_a_config_are_empty() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["a"],"Volumes":null},"rootfs":{"type":"layers","diff_ids":[]},"history":null}"#;
        let config: ImageConfig = serde_json::from_slice(text).unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["a".to_owned()][..]));
        assert!(config.config.env.is_empty() && config.history.is_empty());
    }
}
