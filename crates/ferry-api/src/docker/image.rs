//! Images.

use super::Empty;
use super::config::HealthConfig;
use super::container::DriverData;
use ferry_oci::Platform;
use ferry_oci::image::Descriptor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// diffIDs, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// Local notes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    /// When a tag was last put on it.
    pub last_tag_time: super::time::Time,
}

/// The `config` object of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "super::is_false")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// Bytes of one manifest's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Of the blobs.
    pub content: i64,
    /// In all.
    pub total: i64,
}

/// Bytes of one image's unpacked content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// Of the layers.
    pub unpacked: i64,
}

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageData {
    /// For which platform.
    pub platform: Platform,
    /// Bytes.
    pub size: UnpackedSize,
    /// Ids of containers made from it.
    pub containers: Vec<String>,
}

/// One manifest of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// Descriptor.
    pub descriptor: Descriptor,
    /// Whether all of it is here.
    pub available: bool,
    /// Bytes.
    pub size: ManifestSize,
    /// `image`, `attestation`, `unknown`.
    pub kind: String,
    /// Of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
}

/// `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Target digest.
    pub id: String,
    /// Tags.
    pub repo_tags: Vec<String>,
    /// Digests.
    pub repo_digests: Vec<String>,
    /// Comment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Author.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What containers start with.
    pub config: Option<ImageConfig>,
    /// GOARCH.
    pub architecture: String,
    /// Variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// GOOS.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// Storage of versions before 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Local notes.
    pub metadata: Metadata,
    /// What the name points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// One row of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// How many containers use it; -1 when not asked for.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    /// Target digest.
    pub id: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Always empty.
    pub parent_id: String,
    /// What the name points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Manifests of an index, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
    /// Digests.
    pub repo_digests: Vec<String>,
    /// Tags.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 when not asked for.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
}

/// One row of `GET /images/{name}/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    /// Comment.
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Command.
    pub created_by: String,
    /// Image id, or `<missing>`.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// Tags.
    pub tags: Option<Vec<String>>,
}

/// One row of `DELETE /images/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeleteItem {
    /// A name that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
    /// An image that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
}

/// `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneResponse {
    /// What went; `null` when nothing did.
    pub images_deleted: Option<Vec<DeleteItem>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
