//! The journal of image names, `names`: one line a change, from which the names are rebuilt should the database be lost.
//!
//! `<crc32 of the rest, 8 hex digits> set <JSON of the record>` or `<crc> remove <key>`. Written after the database, without fsync:
//! it is read only after a disaster, and a name that it missed is a pull away.

use super::names::ImageRecord;
use crate::disk::{self, lock};
use crate::error::{Result, StoreError};
use crate::layout::Layout;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(super) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Whether a line could not be written (a full disk): then the next change begins the journal anew.
    behind: bool,
}

impl Journal {
    /// Begins the journal anew with what is known to be true.
    pub(super) fn start(layout: &Layout, records: &[(String, ImageRecord)]) -> Result<Self> {
        let path = layout.names();
        let text = whole(records)?;
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            disk::write_file(layout, &path, text.as_bytes())?;
        }
        let file = append(&path)?;
        Ok(Self {
            path,
            state: Mutex::new(State { file, behind: false }),
        })
    }

    /// Notes changes. `now` is asked for everything where the journal has fallen behind.
    pub(super) fn note(
        &self,
        set: &[ImageRecord],
        removed: &[String],
        now: impl FnOnce() -> Result<Vec<(String, ImageRecord)>>,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        if state.behind {
            let text = whole(&now()?)?;
            state.behind = std::fs::write(&self.path, text).is_err();
            return Ok(());
        }
        let mut lines = set.iter().map(set_line).collect::<Result<String>>()?;
        lines.extend(removed.iter().map(|key| line(&format!("remove {key}"))));
        // The change itself is durable already; a journal that misses it is mended with the next one.
        state.behind = state.file.write_all(lines.as_bytes()).is_err();
        Ok(())
    }
}

fn append(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map_err(|e| StoreError::io("open", path, e))
}

fn whole(records: &[(String, ImageRecord)]) -> Result<String> {
    records.iter().map(|(_, record)| set_line(record)).collect()
}

fn set_line(record: &ImageRecord) -> Result<String> {
    let json = serde_json::to_string(record).map_err(|e| StoreError::invalid("image record", e))?;
    Ok(line(&format!("set {json}")))
}

fn line(rest: &str) -> String {
    format!("{:08x} {rest}\n", crc32(rest.as_bytes()))
}

/// What the journal says, damaged lines left out.
pub(super) fn replay(layout: &Layout) -> BTreeMap<String, ImageRecord> {
    let bytes = std::fs::read(layout.names()).unwrap_or_default();
    let mut records = BTreeMap::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let Some((crc, rest)) = line.split_once(' ') else {
            continue;
        };
        if u32::from_str_radix(crc, 16) != Ok(crc32(rest.as_bytes())) {
            continue;
        }
        match rest.split_once(' ') {
            Some(("set", json)) => {
                if let Ok(record) = serde_json::from_str::<ImageRecord>(json) {
                    records.insert(record.key(), record);
                }
            }
            Some(("remove", key)) => {
                records.remove(key);
            }
            _ => {}
        }
    }
    records
}

/// CRC-32 as in IEEE 802.3, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
