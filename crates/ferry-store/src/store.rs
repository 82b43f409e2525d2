//! The store as a whole: opening it, and the way to its parts.

use crate::content::Content;
use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use crate::image::Images;
use crate::layout::Layout;
use crate::lease::Leases;
use crate::meta::Meta;
use crate::snapshot::{Overlay, Snapshotter};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// An open store. Cheap to clone; all of it may be used from any thread.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Arc<Layout>,
    content: Content,
    layers: Layers,
    images: Images,
    meta: Meta,
    leases: Leases,
    warnings: Mutex<Vec<String>>,
    /// Keeps other engines out for as long as the store is open.
    _lock: File,
}

/// The snapshotter: layers and what is made of them. See [`Snapshotter`] for what it does.
#[derive(Clone)]
pub struct Layers {
    snapshotter: Arc<dyn Snapshotter>,
}

impl Deref for Layers {
    type Target = dyn Snapshotter;

    fn deref(&self) -> &Self::Target {
        &*self.snapshotter
    }
}

impl Store {
    /// Opens the store at `root`, making it where there is none. Whatever an earlier process left half-done is swept, damaged
    /// objects are set aside (see [`Store::warnings`]); one bad object never stops a start. `Locked` when another process has it.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Arc::new(Layout::create(root)?);
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(root, mode).map_err(|e| StoreError::io("chmod", root, e))?;
        let lock = take_lock(&layout)?;
        sweep(&layout)?;
        let mut warnings = Vec::new();
        let mut warn = |text| warnings.push(text);
        let leases = Leases::default();
        let content = Content::new(layout.clone(), leases.clone());
        content.quarantine_misfits()?;
        let overlay = Overlay::open(layout.clone(), leases.clone(), &mut warn)?;
        let layers = Layers {
            snapshotter: Arc::new(overlay),
        };
        let meta = Meta::open(&layout, &mut warn)?;
        let snapshotter = layers.snapshotter.clone();
        let images = Images::open(
            &layout,
            meta.clone(),
            (content.clone(), leases.clone()),
            snapshotter,
            &mut warn,
        )?;
        let warnings = Mutex::new(warnings);
        Ok(Self {
            inner: Arc::new(Inner {
                layout,
                content,
                layers,
                images,
                meta,
                leases,
                warnings,
                _lock: lock,
            }),
        })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Blobs.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// Unpacked layers and snapshots.
    pub fn layers(&self) -> &Layers {
        &self.inner.layers
    }

    /// Image names.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Records.
    pub fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    /// Protection of work in progress against gc.
    pub fn leases(&self) -> &Leases {
        &self.inner.leases
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// What was found damaged and what was done about it, for `info` to show.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = lock(&self.inner.warnings).clone();
        all.extend(self.inner.content.warnings());
        all
    }
}

fn take_lock(layout: &Layout) -> Result<File> {
    let path = layout.lock();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked {
            root: layout.root().to_path_buf(),
        }),
        Err(e) => Err(StoreError::io("lock", path, e)),
    }
}

/// Moves everything out of staging. The trash is emptied by whoever calls `empty_trash`, since that may take long.
fn sweep(layout: &Layout) -> Result<()> {
    let staging = layout.staging();
    for entry in fs::read_dir(&staging).map_err(|e| StoreError::io("list", &staging, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", &staging, e))?;
        disk::discard(layout, &entry.path())?;
    }
    Ok(())
}
