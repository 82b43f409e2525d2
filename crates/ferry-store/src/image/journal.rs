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
use std::path::PathBuf;
use std::sync::Mutex;

pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Begins the journal anew with what is known to be true.
    pub(super) fn start(layout: &Layout, records: &[(String, ImageRecord)]) -> Result<Self> {
        let mut text = String::new();
        for (_, record) in records {
            text.push_str(&set_line(record)?);
        }
        let path = layout.names();
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            disk::write_file(layout, &path, text.as_bytes())?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| StoreError::io("open", &path, e))?;
        Ok(Self {
            path,
            file: Mutex::new(file),
        })
    }

    pub(super) fn set(&self, record: &ImageRecord) -> Result<()> {
        self.append(&set_line(record)?)
    }

    pub(super) fn remove(&self, key: &str) -> Result<()> {
        self.append(&line(&format!("remove {key}")))
    }

    fn append(&self, line: &str) -> Result<()> {
        lock(&self.file)
            .write_all(line.as_bytes())
            .map_err(|e| StoreError::io("write", &self.path, e))
    }
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
