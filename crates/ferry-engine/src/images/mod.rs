//! Images.

use crate::containers::spec::ImageIdentity;
use crate::{Error, Result};
use ferry_oci::Platform;
use ferry_oci::image::ImageConfig;

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Images {}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct ImageUse {
    /// Fixed in the container's record.
    pub identity: ImageIdentity,
    /// The image's configuration.
    pub config: ImageConfig,
}

impl Images {
    /// The image of this name or id for this platform (the host's when absent), its layers applied.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]: `No such image: name`.
    #[allow(clippy::unused_async)]
    pub async fn resolve(&self, name: &str, _platform: Option<&Platform>) -> Result<ImageUse> {
        Err(Error::not_found(format!("No such image: {name}")))
    }
}
