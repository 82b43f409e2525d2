//! Images as one file: what `docker save` writes and `docker load` reads.

mod load;
mod save;

pub use load::{LoadedImage, load};
pub use save::{ImageToSave, save};

use serde::{Deserialize, Serialize};

/// The file that says which OCI layout this is.
const LAYOUT: &str = "oci-layout";
const LAYOUT_VERSION: &str = "1.0.0";
const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";
/// The whole image name on an entry of `index.json`, as containerd writes it.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The OCI's annotation, often the tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One entry of `manifest.json`, Docker's own list of what is in the archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}
