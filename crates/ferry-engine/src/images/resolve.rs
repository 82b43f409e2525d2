//! From a name to what a container is made from.

use super::{ImageUse, Images, looked_up};
use crate::containers::spec::ImageIdentity;
use crate::{Error, Result, blocking};
use ferry_oci::image::Descriptor;
use ferry_oci::{Digest, Platform, Reference};
use ferry_store::{Limits, Store, StoreError};

impl Images {
    /// The image of this name or id for this platform (the host's when absent), its layers unpacked.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]: `No such image: name`, or the image has no such platform.
    pub async fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<ImageUse> {
        let (store, key) = (self.store.clone(), name.to_owned());
        let asked = platform.cloned();
        blocking::run("resolve an image", move || {
            let record = store.images().find(&key).map_err(looked_up(&key))?;
            let wanted = asked.clone().unwrap_or_else(Platform::host);
            let image = match store.images().resolve(&record.target.digest, &wanted) {
                Err(StoreError::NoPlatform { .. }) if asked.is_some() => {
                    return Err(Error::not_found(format!(
                        "image with reference {key} was found but does not provide the specified platform ({wanted})"
                    )));
                }
                other => other?,
            };
            let offered = image.config.platform();
            if asked.is_some() && !offered.architecture.is_empty() && !wanted.accepts(&offered) {
                return Err(Error::not_found(format!(
                    "image with reference {key} was found but does not provide the specified platform ({wanted})"
                )));
            }
            if !store.images().is_unpacked(&image) {
                store.images().unpack(&image, &Limits::default())?;
                store.layers().sync_image(&image.diff_ids())?;
            }
            Ok(ImageUse {
                identity: ImageIdentity {
                    id: record.target.digest,
                    manifest: image.manifest_digest.clone(),
                    layers: image.diff_ids(),
                    platform: offered.to_string(),
                },
                config: image.config,
            })
        })
        .await
    }

    /// What a name points to, if it is here.
    pub(super) async fn target_descriptor(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let reference = reference.clone();
        self.with_store("look up an image", move |store| {
            match store.images().get(&reference) {
                Ok(record) => Ok(Some(record.target)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The digest of that.
    pub(super) async fn target_of(&self, reference: &Reference) -> Result<Option<Digest>> {
        Ok(self.target_descriptor(reference).await?.map(|d| d.digest))
    }

    /// Points a name to a target, durably.
    pub(super) async fn record(&self, reference: &Reference, target: &Descriptor) -> Result<()> {
        let (reference, target) = (reference.clone(), target.clone());
        self.with_store("record an image", move |store| {
            store.images().set(&reference, &target).map(drop)
        })
        .await
    }

    /// Names of repositories of the same registry that share the image's content here: where a push may mount blobs from.
    pub(super) async fn sisters(&self, reference: &Reference) -> Result<Vec<String>> {
        let registry = reference.registry().to_owned();
        let own = reference.repository().to_owned();
        self.with_store("list images", move |store| {
            let mut names: Vec<String> = store
                .images()
                .list()?
                .into_iter()
                .filter_map(|record| record.reference)
                .filter(|r| r.registry() == registry && r.repository() != own)
                .map(|r| r.repository().to_owned())
                .collect();
            names.sort();
            names.dedup();
            names.truncate(3);
            Ok(names)
        })
        .await
    }

    /// Runs `work` with the store, on the blocking pool.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Store) -> ferry_store::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        blocking::run(name, move || work(&store)).await
    }
}
