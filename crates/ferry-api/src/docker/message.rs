//! The progress stream of pull, push, load and save: JSON documents, each ended by `\r\n`.

use super::is_zero;
use serde::{Deserialize, Serialize};

/// How far one item is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// Bytes in all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
}

/// Why it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// An exit code or HTTP status, 0 when there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// The sentence.
    pub message: String,
}

/// One document of the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    /// Text that is shown as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is being done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is; absent where it has no progress.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The item, most often a layer's short digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Why it ended.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as plain text, for older clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}
