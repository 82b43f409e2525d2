//! The error body.

use serde::{Deserialize, Serialize};

/// `{"message": …}`, the body of every status from 400 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// The sentence.
    pub message: String,
}
