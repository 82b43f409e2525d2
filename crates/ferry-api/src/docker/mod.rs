//! The shapes of Docker's Engine API, in Go's field order and with Go's habits: `null` or `[]`, omitted or zero.
//!
//! These shapes are those of the newest version; older ones are made from them by adapters in the front-end.

pub mod config;
pub mod container;
pub mod decode;
pub mod error;
pub mod events;
pub mod exec;
pub mod hostconfig;
pub mod image;
pub mod message;
pub mod mount;
pub mod network;
pub mod registry;
pub mod stats;
pub mod system;
pub mod time;
pub mod volume;

use serde::{Deserialize, Serialize};

/// `{}`: the value of Go's `map[string]struct{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Empty {}

/// `{"Id": …}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdResponse {
    /// The id of what was made.
    #[serde(rename = "Id")]
    pub id: String,
}

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
