//! Images: names for content, and what is done with them.
//!
//! An image's id is the digest of its target, an index or a manifest. Names live in the store's records; the bytes are the truth.
//! A target that lost its last name while something still used it stays as a dangling image until it is pruned.

mod archive;
mod list;
mod pull;
mod push;
mod remove;
mod resolve;
mod tag;
pub mod view;

use crate::containers::spec::ImageIdentity;
use crate::events::Events;
use crate::{Error, Result};
use ferry_oci::image::ImageConfig;
use ferry_oci::{Digest, Reference};
use ferry_registry::{Client, Credentials, LoginOutcome, RegistryError};
use ferry_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use view::ProgressStream;

pub use list::ImageListOptions;
pub use remove::ImageRemoveOptions;

/// Which containers use which image: told by the container service.
pub type InUse = Arc<dyn Fn() -> Vec<UsedBy> + Send + Sync>;

/// A container's use of an image.
#[derive(Clone, Debug)]
pub struct UsedBy {
    /// The container's id.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
    /// The image.
    pub image: ImageIdentity,
}

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Images {
    store: Store,
    client: Client,
    events: Events,
    in_use: Arc<RwLock<InUse>>,
}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct ImageUse {
    /// Fixed in the container's record.
    pub identity: ImageIdentity,
    /// The image's configuration.
    pub config: ImageConfig,
}

/// `images` filters by key: before dangling label label! reference since until.
pub type ImageFilters = BTreeMap<String, Vec<String>>;

impl Images {
    /// The service over `store`, with `client` for registries.
    pub fn new(store: Store, client: Client, events: Events) -> Self {
        let nobody: InUse = Arc::new(Vec::new);
        Self {
            store,
            client,
            events,
            in_use: Arc::new(RwLock::new(nobody)),
        }
    }

    /// Tells how to learn which containers use images; set once, when the container service stands.
    pub fn set_in_use(&self, in_use: InUse) {
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = in_use;
    }

    /// An image event, with the attributes that Docker gives: its name and its labels.
    fn happened(&self, action: &str, id: &str, name: &str, labels: &BTreeMap<String, String>) {
        let mut attributes = labels.clone();
        if !name.is_empty() {
            attributes.insert("name".into(), name.to_owned());
        }
        self.events.publish("image", action, id, attributes);
    }

    fn users(&self) -> Vec<UsedBy> {
        let in_use = Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner));
        in_use()
    }

    /// Tries credentials at a registry.
    ///
    /// # Errors
    /// [`crate::Kind::Unauthenticated`] where they are refused.
    pub async fn auth(&self, server: &str, credentials: &Credentials) -> Result<LoginOutcome> {
        self.client.login(server, credentials).await.map_err(Into::into)
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        use crate::Kind;
        let kind = match &error {
            RegistryError::Unauthorized { .. } => Kind::Unauthenticated,
            RegistryError::Denied { .. } | RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Config(_) => Kind::Invalid,
            RegistryError::Store(
                StoreError::InvalidEntry { .. } | StoreError::TooLarge { .. } | StoreError::Invalid { .. },
            ) => Kind::Invalid,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}

/// The error of a name that is not here, in Docker's words.
fn no_such_image(key: &str) -> Error {
    let shown = match key.parse::<Reference>() {
        Ok(reference) if !key.starts_with("sha256:") => reference.tagged().familiar(),
        _ => key.to_owned(),
    };
    Error::not_found(format!("No such image: {shown}"))
}

/// Turns the store's `NotFound` for `key` into Docker's.
fn looked_up(key: &str) -> impl Fn(StoreError) -> Error + '_ {
    move |error| match error {
        StoreError::NotFound { .. } => no_such_image(key),
        StoreError::Ambiguous { .. } => {
            Error::invalid(format!("image ID prefix {key:?} is ambiguous: give more digits"))
        }
        other => other.into(),
    }
}

/// The first twelve digits of a digest, as conflicts show them.
fn short(digest: &Digest) -> &str {
    digest.short()
}

/// Steps from an owned task: dropping the stream cancels it.
fn progress_stream<F, W>(work: W) -> ProgressStream
where
    W: FnOnce(Steps) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(256);
    let steps = Steps(sender.clone());
    let task = tokio::spawn({
        let work = work(steps);
        async move {
            if let Err(error) = work.await {
                // A receiver that is gone has cancelled: there is nobody to tell.
                drop(sender.send(Err(error)).await);
            }
        }
    });
    let guard = AbortOnDrop(task);
    Box::pin(futures_util::stream::unfold(
        (receiver, guard),
        |(mut receiver, guard)| async move { receiver.recv().await.map(|item| (item, (receiver, guard))) },
    ))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where steps are told.
#[derive(Clone)]
struct Steps(tokio::sync::mpsc::Sender<Result<view::Progress>>);

impl Steps {
    /// Waits while the listener is behind; a listener that is gone is not told.
    async fn tell(&self, step: view::Progress) {
        drop(self.0.send(Ok(step)).await);
    }

    /// Drops the step when the listener is behind: for byte counts.
    fn try_tell(&self, step: view::Progress) {
        drop(self.0.try_send(Ok(step)));
    }
}
