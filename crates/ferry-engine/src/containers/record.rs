//! A container's record: what outlives the engine.
//!
//! JSON below the key `id` of the table `containers`. Written durably at create, rename and removal, lazily at starts and ends. What
//! the kernel can tell (addresses, ports, processes) is not in it. Every field is named both ways, so that a new one does not compile
//! until its place in the record is decided; the record's own `version` is for changes of meaning.

use super::spec::{ContainerSpec, ImageIdentity};
use super::state::State;
use super::view::MountPoint;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;

/// The version that is written.
const VERSION: u32 = 1;

/// What is known of a container beside its state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// Sixty-four hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// What was asked, image defaults merged.
    pub spec: Arc<ContainerSpec>,
    /// From which image.
    pub image: ImageIdentity,
    /// What is mounted, volumes resolved.
    pub mounts: Vec<MountPoint>,
    /// Names of the volumes made for it alone.
    pub anonymous: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    id: String,
    name: String,
    created: SystemTime,
    spec: ContainerSpec,
    image: ImageIdentity,
    #[serde(default)]
    mounts: Vec<MountPoint>,
    #[serde(default)]
    anonymous: Vec<String>,
    #[serde(default)]
    state: State,
}

/// The record as it is stored.
pub(crate) fn encode(record: &Record, state: &State) -> Result<Value> {
    let Record {
        id,
        name,
        created,
        spec,
        image,
        mounts,
        anonymous,
    } = record.clone();
    let stored = Stored {
        version: VERSION,
        id,
        name,
        created,
        spec: ContainerSpec::clone(&spec),
        image,
        mounts,
        anonymous,
        state: state.clone(),
    };
    serde_json::to_value(&stored)
        .map_err(|e| Error::internal(format!("encoding the record of container {}", record.id), e))
}

/// The record that was stored.
///
/// # Errors
/// A sentence, when it is none or of a newer version: it is then left alone and the engine goes on.
pub(crate) fn decode(value: Value) -> std::result::Result<(Record, State), String> {
    let stored: Stored = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let Stored {
        version,
        id,
        name,
        created,
        spec,
        image,
        mounts,
        anonymous,
        state,
    } = stored;
    if version > VERSION {
        return Err(format!("version {version} is newer than this engine's {VERSION}"));
    }
    let spec = Arc::new(spec);
    Ok((
        Record {
            id,
            name,
            created,
            spec,
            image,
            mounts,
            anonymous,
        },
        state,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::state::Phase;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let digest: ferry_oci::Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let record = Record {
            id: "f".repeat(64),
            name: "web".into(),
            created: SystemTime::UNIX_EPOCH,
            spec: Arc::new(ContainerSpec {
                image: "busybox".into(),
                ..ContainerSpec::default()
            }),
            image: ImageIdentity {
                id: digest.clone(),
                manifest: digest,
                layers: Vec::new(),
                platform: "linux/amd64".into(),
            },
            mounts: Vec::new(),
            anonymous: vec!["v".into()],
        };
        let state = State {
            phase: Phase::Exited,
            exit_code: 3,
            manually_stopped: true,
            ..State::default()
        };
        let mut value = encode(&record, &state).unwrap();
        assert_eq!(decode(value.clone()).unwrap(), (record, state));
        assert!(decode(serde_json::json!({})).is_err());
        value["version"] = 2.into();
        assert!(decode(value).unwrap_err().contains("newer"));
    }
}
