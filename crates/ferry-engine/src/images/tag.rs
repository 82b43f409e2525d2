//! Giving an image another name.

use super::{Images, looked_up};
use crate::{Error, Result};
use ferry_oci::Reference;

impl Images {
    /// Names the image of `key` `target` too; its default tag is `latest`. What had the name before stays without it.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Invalid`] for a name with a digest.
    pub async fn tag(&self, key: &str, target: &Reference) -> Result<()> {
        if target.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let target = target.clone().tagged();
        let (key, name) = (key.to_owned(), target.clone());
        let store = self.store.clone();
        let image = crate::blocking::run("tag an image", move || {
            let record = store.images().find(&key).map_err(looked_up(&key))?;
            store.images().set(&name, &record.target)?;
            Ok::<_, Error>(record.target)
        })
        .await?;
        self.happened(
            "tag",
            &image.digest.to_string(),
            &target.familiar(),
            &Default::default(),
        );
        Ok(())
    }
}
