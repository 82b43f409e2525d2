//! Execs.

use serde::{Deserialize, Serialize};

/// `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecCreateRequest {
    /// `user[:group]`.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Attached streams.
    pub attach_stdin: bool,
    /// Attached streams.
    pub attach_stderr: bool,
    /// Attached streams.
    pub attach_stdout: bool,
    /// The detach sequence.
    pub detach_keys: String,
    /// Added to the container's.
    pub env: Option<Vec<String>>,
    /// Working directory.
    pub working_dir: String,
    /// The program and its arguments.
    #[serde(deserialize_with = "super::decode::words")]
    pub cmd: Option<Vec<String>>,
}

/// `POST /exec/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecStartRequest {
    /// Do not attach.
    pub detach: bool,
    /// Whether the caller takes it for a terminal.
    pub tty: bool,
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// The program of an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcessConfig {
    /// A pseudo-terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// As whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// `GET /exec/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecInspect {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it runs.
    #[serde(rename = "Running")]
    pub running: bool,
    /// Once it ended.
    #[serde(rename = "ExitCode")]
    pub exit_code: Option<i32>,
    /// Its program.
    #[serde(rename = "ProcessConfig")]
    pub process_config: ExecProcessConfig,
    /// Streams.
    #[serde(rename = "OpenStdin")]
    pub open_stdin: bool,
    /// Streams.
    #[serde(rename = "OpenStderr")]
    pub open_stderr: bool,
    /// Streams.
    #[serde(rename = "OpenStdout")]
    pub open_stdout: bool,
    /// Always false here.
    #[serde(rename = "CanRemove")]
    pub can_remove: bool,
    /// Of which container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// base64 of the detach sequence's bytes.
    #[serde(rename = "DetachKeys")]
    pub detach_keys: String,
    /// As the host sees it.
    #[serde(rename = "Pid")]
    pub pid: i32,
}
