//! Snapshots as overlayfs stacks.
//!
//! A layer is a directory in overlayfs's own form (whiteouts are 0/0 devices, opaque directories have their xattr), so stacking
//! costs nothing. A layer counts once its `layer.json` is there; that is written after the `syncfs` that made the files durable,
//! so a layer torn by a crash has none and is swept at the next start. Until then it is known in memory only.
//!
//! Never mounts anything. Needs Linux 5.6 (`openat2`) and, for overlay inside a user namespace, 5.11.

use super::{Change, Mounts, Snapshotter, fix};
use crate::disk::{self, Stage, lock};
use crate::error::{Result, StoreError};
use crate::ingest::Turns;
use crate::layer::{LayerInfo, Limits, changes, export, unpack};
use crate::layout::{self, Layout};
use crate::lease::Leases;
use ferry_oci::Digest;
use ferry_oci::media::Compression;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The format of `layer.json`.
const VERSION: u32 = 1;
/// The most layers of one image, as Docker's.
const MAX_LAYERS: usize = 500;

/// The `overlay` snapshotter.
pub(crate) struct Overlay {
    layout: Arc<Layout>,
    leases: Leases,
    turns: Arc<Turns>,
    layers: Mutex<HashMap<Digest, State>>,
    /// For each stack that has implied directories, the lower that puts them right, if any needs it.
    fixes: Mutex<HashMap<Vec<Digest>, Option<PathBuf>>>,
}

#[derive(Clone)]
struct State {
    record: Arc<Record>,
    durable: bool,
}

/// `layer.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    #[serde(flatten)]
    info: LayerInfo,
    /// Whether the root itself hides everything below, which overlayfs does not look for.
    #[serde(default)]
    opaque_root: bool,
    /// Directories that no entry named: their attributes are those of the layers below. Bytes, since paths need not be UTF-8.
    #[serde(default)]
    pub(super) implied: Vec<Vec<u8>>,
}

impl Overlay {
    /// Looks through what is on disk, sweeps torn layers and sets damaged ones aside; `warn` hears about those.
    pub(crate) fn open(layout: Arc<Layout>, leases: Leases, warn: &mut dyn FnMut(String)) -> Result<Self> {
        let mut layers = HashMap::new();
        let dir = layout.layers();
        for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
            let path = entry.map_err(|e| StoreError::io("list", &dir, e))?.path();
            match load(&path) {
                Ok(Some(record)) => {
                    let state = State {
                        record: Arc::new(record),
                        durable: true,
                    };
                    layers.insert(state.record.info.diff_id.clone(), state);
                }
                Ok(None) => disk::discard(&layout, &path)?,
                Err(reason) => {
                    let name = path.file_name().unwrap_or_default();
                    disk::rename(&path, &layout.new_quarantine(name))?;
                    warn(format!(
                        "layer {} is damaged and was moved to quarantine/: {reason}; it is unpacked again when needed",
                        name.to_string_lossy()
                    ));
                }
            }
        }
        Ok(Self {
            layout,
            leases,
            turns: Arc::default(),
            layers: Mutex::new(layers),
            fixes: Mutex::default(),
        })
    }

    fn state(&self, diff_id: &Digest) -> Option<State> {
        self.leases.touch(diff_id);
        lock(&self.layers).get(diff_id).cloned()
    }

    fn record(&self, diff_id: &Digest) -> Result<Arc<Record>> {
        self.state(diff_id)
            .map(|s| s.record)
            .ok_or_else(|| StoreError::not_found("layer", diff_id))
    }

    fn snapshot(&self, id: &str) -> Result<PathBuf> {
        if !layout::plain_name(id) {
            return Err(StoreError::invalid(
                format!("snapshot id {id:?}"),
                "it is no plain file name",
            ));
        }
        Ok(self.layout.snapshot(id))
    }

    fn existing(&self, id: &str) -> Result<PathBuf> {
        let path = self.snapshot(id)?;
        if layout::snapshot::fs(&path).is_dir() {
            Ok(path)
        } else {
            Err(StoreError::not_found("snapshot", id))
        }
    }

    /// The stack of these layers, newest first, cut where a layer's root hides what is below, with the attributes of implied
    /// directories put right by a small layer on top.
    fn lowers(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        if layers.len() > MAX_LAYERS {
            return Err(StoreError::TooLarge {
                what: "the image".into(),
                limit: format!("it has {} layers, and {MAX_LAYERS} are the most", layers.len()),
            });
        }
        let records: Vec<Arc<Record>> = layers.iter().map(|l| self.record(l)).collect::<Result<_>>()?;
        let bottom = records.iter().rposition(|r| r.opaque_root).unwrap_or(0);
        let mut lowers: Vec<PathBuf> = layers[bottom.min(layers.len())..]
            .iter()
            .rev()
            .map(|l| layout::layer::fs(&self.layout.layer(l)))
            .collect();
        if records.iter().any(|r| !r.implied.is_empty()) {
            let implied: Vec<&[Vec<u8>]> = records[bottom..]
                .iter()
                .rev()
                .map(|r| r.implied.as_slice())
                .collect();
            if let Some(fixed) = self.fix(layers, &lowers, &implied)? {
                lowers.insert(0, fixed);
            }
        }
        if lowers.is_empty() {
            lowers.push(self.layout.empty());
        }
        Ok(lowers)
    }

    fn fix(&self, layers: &[Digest], lowers: &[PathBuf], implied: &[&[Vec<u8>]]) -> Result<Option<PathBuf>> {
        let Some(top) = layers.last() else { return Ok(None) };
        let mut fixes = lock(&self.fixes);
        if let Some(known) = fixes.get(layers) {
            return Ok(known.clone());
        }
        let fixed = fix::layer(&self.layout, &self.layout.layer(top), layers, lowers, implied)?;
        fixes.insert(layers.to_vec(), fixed.clone());
        Ok(fixed)
    }

    fn mounts_of(&self, snapshot: &Path, layers: &[Digest]) -> Result<Mounts> {
        Ok(Mounts {
            lowers: self.lowers(layers)?,
            upper: layout::snapshot::fs(snapshot),
            work: layout::snapshot::work(snapshot),
        })
    }
}

/// Reads a layer's record: `None` when it was never finished, an error in words when it is damaged.
fn load(layer: &Path) -> std::result::Result<Option<Record>, String> {
    let bytes = match fs::read(layout::layer::record(layer)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|e| format!("its layer.json: {e}"))?;
    if record.version != VERSION {
        return Err(format!(
            "its format is {} where {VERSION} is known",
            record.version
        ));
    }
    if Some(record.info.diff_id.hex().as_ref()) != layer.file_name() {
        return Err("it has another layer's record".into());
    }
    if !layout::layer::fs(layer).is_dir() {
        return Err("its files are gone".into());
    }
    Ok(Some(record))
}

impl Snapshotter for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn apply(
        &self,
        expected: &Digest,
        promised: Compression,
        reader: &mut dyn Read,
        limits: &Limits,
    ) -> Result<LayerInfo> {
        let _turn = self.turns.enter(expected.hex());
        if let Some(state) = self.state(expected) {
            return Ok(state.record.info.clone());
        }
        let stage = Stage::new(&self.layout)?;
        let files = layout::layer::fs(stage.path());
        make_dir(&files, 0o755)?;
        let made = unpack::unpack(&self.layout, &files, expected, (promised, reader), limits)?;
        let target = self.layout.layer(expected);
        disk::discard(&self.layout, &target)?;
        stage.rename(&target)?;
        let record = Record {
            version: VERSION,
            info: made.info.clone(),
            opaque_root: made.opaque_root,
            implied: made.implied,
        };
        let state = State {
            record: Arc::new(record),
            durable: false,
        };
        lock(&self.layers).insert(expected.clone(), state);
        Ok(made.info)
    }

    fn sync_image(&self, layers: &[Digest]) -> Result<()> {
        let _lease = self.leases.acquire();
        layers.iter().for_each(|layer| self.leases.touch(layer));
        let pending: Vec<Arc<Record>> = {
            let known = lock(&self.layers);
            let states = layers.iter().filter_map(|l| known.get(l));
            states.filter(|s| !s.durable).map(|s| s.record.clone()).collect()
        };
        if pending.is_empty() {
            return Ok(());
        }
        let dir = self.layout.layers();
        disk::sync_fs(&dir)?;
        for record in &pending {
            let bytes = serde_json::to_vec(&**record).map_err(|e| StoreError::corrupt("layer record", e))?;
            let path = layout::layer::record(&self.layout.layer(&record.info.diff_id));
            disk::write_file(&self.layout, &path, &bytes)?;
        }
        disk::sync_dir(&dir)?;
        let mut known = lock(&self.layers);
        for record in pending {
            if let Some(state) = known.get_mut(&record.info.diff_id) {
                state.durable = true;
            }
        }
        Ok(())
    }

    fn has(&self, diff_id: &Digest) -> bool {
        self.state(diff_id).is_some()
    }

    fn layer(&self, diff_id: &Digest) -> Result<LayerInfo> {
        Ok(self.record(diff_id)?.info.clone())
    }

    fn list_layers(&self) -> Result<Vec<LayerInfo>> {
        Ok(lock(&self.layers)
            .values()
            .map(|s| s.record.info.clone())
            .collect())
    }

    fn remove_layer(&self, diff_id: &Digest) -> Result<()> {
        // Nobody may be told that it is here while it goes.
        let mut layers = lock(&self.layers);
        disk::discard(&self.layout, &self.layout.layer(diff_id))?;
        layers.remove(diff_id);
        lock(&self.fixes).retain(|stack, _| !stack.contains(diff_id));
        Ok(())
    }

    fn prepare(&self, id: &str, layers: &[Digest]) -> Result<Mounts> {
        let path = self.snapshot(id)?;
        // From the first look at the layers until they are written down, no gc may take them.
        let _lease = self.leases.acquire();
        let mounts = self.mounts_of(&path, layers)?;
        make_dir(&path, 0o700)?;
        let list: String = layers.iter().map(|l| format!("{l}\n")).collect();
        let file = layout::snapshot::layers(&path);
        fs::write(&file, list).map_err(|e| StoreError::io("write", &file, e))?;
        make_dir(&mounts.work, 0o700)?;
        // Last, since a snapshot is there when this is.
        make_dir(&mounts.upper, 0o755)?;
        Ok(mounts)
    }

    fn mounts(&self, id: &str) -> Result<Mounts> {
        let path = self.existing(id)?;
        self.mounts_of(&path, &self.parents(id)?)
    }

    fn parents(&self, id: &str) -> Result<Vec<Digest>> {
        let file = layout::snapshot::layers(&self.existing(id)?);
        let damaged = |reason: String| {
            StoreError::corrupt(format!("snapshot {id}"), format!("{reason}; prepare it again"))
        };
        let text = fs::read_to_string(&file).map_err(|e| damaged(format!("its list of layers: {e}")))?;
        text.lines()
            .map(|line| {
                line.parse()
                    .map_err(|e| damaged(format!("its list of layers: {e}")))
            })
            .collect()
    }

    fn list(&self) -> Result<Vec<String>> {
        let dir = self.layout.snapshots();
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| StoreError::io("list", &dir, e))? {
            let entry = entry.map_err(|e| StoreError::io("list", &dir, e))?;
            ids.extend(String::from_utf8(entry.file_name().into_vec()).ok());
        }
        Ok(ids)
    }

    fn remove(&self, id: &str) -> Result<()> {
        disk::discard(&self.layout, &self.snapshot(id)?)
    }

    fn empty_trash(&self) -> Result<()> {
        disk::empty_trash(&self.layout)
    }

    fn usage(&self, id: &str) -> Result<u64> {
        changes::usage(&layout::snapshot::fs(&self.existing(id)?))
    }

    fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let mounts = self.mounts(id)?;
        changes::changes(&mounts.upper, &mounts.lowers)
    }

    fn diff(&self, id: &str, writer: &mut dyn Write) -> Result<()> {
        let path = self.existing(id)?;
        export::tar(&layout::snapshot::fs(&path), writer)
    }
}

/// A directory of exactly this mode; one that is there already is left as it is.
fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(|e| StoreError::io("create directory", path, e))?,
    }
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // The umask may have taken bits from group and others; no sane one takes the owner's, and this is the start path.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| StoreError::io("chmod", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_suite() {
        if !ferry_testkit::is_root("the overlay snapshotter's suite") {
            return;
        }
        crate::suite::conforms(&|dir| {
            let layout = Arc::new(Layout::create(&dir.join("store")).unwrap());
            let warn = &mut |text: String| panic!("unexpected: {text}");
            Box::new(Overlay::open(layout, Leases::default(), warn).unwrap())
        });
    }
}
