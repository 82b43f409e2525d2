//! `load` and `save`: archives in and out, streamed through the blocking pool.

use super::view::{Progress, ProgressStream};
use super::{Images, looked_up, progress_stream};
use crate::{Error, Result, blocking};
use ferry_oci::Platform;
use ferry_store::Limits;
use ferry_store::archive::{self, ImageToSave};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio_util::io::SyncIoBridge;

/// Bytes between the two sides of a stream.
const PIPE: usize = 256 << 10;

impl Images {
    /// Loads an archive (tar, plain or compressed) to its end, names what has a name and unpacks all of it.
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        _quiet: bool,
    ) -> Result<ProgressStream> {
        let images = self.clone();
        Ok(progress_stream(move |steps| async move {
            let store = images.store.clone();
            let mut reader = SyncIoBridge::new(archive);
            let loaded = blocking::run("load an archive", move || {
                let loaded = archive::load(&store, &mut reader, &Limits::default())?;
                for image in &loaded {
                    if let Ok(resolved) = store.images().resolve(&image.target.digest, &Platform::host()) {
                        store.images().unpack(&resolved, &Limits::default())?;
                    }
                    if image.references.is_empty() {
                        store.images().set_unnamed(&image.target)?;
                    }
                    for reference in &image.references {
                        store.images().set(reference, &image.target)?;
                    }
                }
                Ok::<_, Error>(loaded)
            })
            .await?;
            for image in &loaded {
                let id = image.target.digest.to_string();
                if image.references.is_empty() {
                    steps
                        .tell(Progress {
                            stream: Some(format!("Loaded image ID: {id}\n")),
                            ..Progress::default()
                        })
                        .await;
                    images.happened("load", &id, &id, &Default::default());
                }
                for reference in &image.references {
                    steps
                        .tell(Progress {
                            stream: Some(format!("Loaded image: {}\n", reference.familiar())),
                            ..Progress::default()
                        })
                        .await;
                    images.happened("load", &id, &reference.familiar(), &Default::default());
                }
            }
            Ok(())
        }))
    }

    /// A tar of these names and ids. What is not here is an error before the first byte.
    pub async fn save(
        &self,
        keys: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let store = self.store.clone();
        let chosen = blocking::run("look up images", move || {
            let mut chosen: Vec<ImageToSave> = Vec::new();
            for key in &keys {
                let record = store.images().find(key).map_err(looked_up(key))?;
                chosen.push((record.reference, record.target));
            }
            Ok::<_, Error>(chosen)
        })
        .await?;
        let (reader, writer) = tokio::io::duplex(PIPE);
        let store = self.store.clone();
        let mut writer = SyncIoBridge::new(writer);
        tokio::spawn(async move {
            let written = blocking::run("save images", move || {
                archive::save(
                    &store,
                    &chosen,
                    &platform.unwrap_or_else(Platform::host),
                    &mut writer,
                )?;
                Ok::<_, Error>(writer)
            })
            .await;
            match written {
                Ok(writer) => {
                    if let Err(error) = writer.into_inner().shutdown().await {
                        tracing::debug!(%error, "the reader of an archive is gone");
                    }
                }
                Err(error) => tracing::warn!(%error, "an archive was cut short"),
            }
        });
        Ok(Box::new(reader))
    }
}
