//! The frames between the engine, the launcher, shims and exec monitors. Sans-I/O: types and their encoding.
//!
//! Every link is a unix SEQPACKET socket; one packet is one frame: JSON, at most [`MAX_FRAME`] bytes, file descriptors beside it as
//! SCM_RIGHTS. What can be larger (an OCI spec) travels in a sealed memfd as the first descriptor.
//!
//! Links:
//! * control: engine ↔ launcher, made before the launcher is executed. When it hangs up the launcher ends; shims do not notice.
//! * shim link: engine ↔ shim. The first is a socket pair made by the engine and sent with the launch; later engines connect to
//!   `shim.sock` in the container's runtime directory. The newest link gets every frame; a shim keeps what was not acknowledged.
//! * exec link: engine ↔ exec monitor, the same way, without a listening socket: an exec of a dead engine is ended by
//!   its monitor's end of input only where its client was attached, and its exit is recorded in the runtime directory.
//! * stream: a SOCK_STREAM pair, one an attached client. Engine → shim: bytes for standard input, shut down for its end. Shim → engine: raw bytes of the
//!   terminal, or stdcopy frames (1 byte stream, 3 zero bytes, 4 bytes big-endian length).
//!
//! Runtime directory of a container, on tmpfs, 0700: `<exec-root>/containers/<id>/`
//! `shim.sock`, `exit.json` (an [`ExitRecord`], written whole by rename before the frame is sent), `shim.json` (a [`ShimRecord`]), `execs/<exec-id>.json`.

pub mod netd;
pub mod transport;

use ferry_oci::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The protocol's version; both sides state it first and the newer one adapts.
pub const VERSION: u32 = 1;
/// The most bytes of one frame.
pub const MAX_FRAME: usize = 128 * 1024;
/// The most descriptors beside one frame (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 250;

/// Engine → launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// Descriptors: memfd of a [`LaunchRequest`], the shim link, the first attached stream when `attached`, the bind trees in the request's order.
    Launch {
        /// Echoed in the answer.
        token: u64,
        /// Whether a stream is among the descriptors.
        attached: bool,
    },
    /// Descriptors: memfd of an [`ExecRequest`], the exec link, the stream when `attached`.
    Exec {
        /// Echoed in the answer.
        token: u64,
        /// Whether a stream is among the descriptors.
        attached: bool,
    },
    /// Descriptor: the control socket of a new netd, which listens at `socket` too.
    Netd {
        /// Echoed in the answer.
        token: u64,
        /// Where later engines connect.
        socket: PathBuf,
    },
}

/// Launcher → engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    /// The launcher is up.
    Ready {
        /// [`VERSION`].
        version: u32,
        /// Its pid.
        pid: i32,
        /// Sentences to be said once (a privilege that is missing, say).
        warnings: Vec<String>,
    },
    /// Forked; what follows comes over the link.
    Forked {
        /// Of the request.
        token: u64,
        /// The shim's, monitor's or netd's pid.
        pid: i32,
    },
    /// Not forked.
    Failed {
        /// Of the request.
        token: u64,
        /// Why, a sentence.
        message: String,
    },
}

/// Everything a shim needs; generic over the endpoint plan, which the network crate owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchRequest<E> {
    /// The container's id.
    pub id: String,
    /// The runtime directory (tmpfs).
    pub runtime_dir: PathBuf,
    /// What to run. Mount sources with a tree in `binds` are told by descriptor.
    pub spec: Spec,
    /// `user[:group]` to be looked up in the container's files; empty means `spec.process.user` as it is.
    pub user: String,
    /// Supplementary groups by name or number, looked up likewise.
    pub groups: Vec<String>,
    /// Root file system.
    pub rootfs: Rootfs,
    /// For each bind tree among the descriptors, the index in `spec.mounts`.
    pub binds: Vec<usize>,
    /// Which filter.
    pub seccomp: SeccompChoice,
    /// The log; `None` for driver `none`.
    pub log: Option<LogTarget>,
    /// Whether standard input stays open for attached clients, or is `/dev/null`.
    pub open_stdin: bool,
    /// Whether standard input ends with the first client that had it.
    pub stdin_once: bool,
    /// Whether an init reaps in the container.
    pub init: bool,
    /// Links to make in the container's network namespace; empty for host, none (loopback only) and joined namespaces.
    pub endpoints: Vec<E>,
    /// Whether the loopback is brought up (a namespace of its own).
    pub loopback: bool,
}

/// The root file system.
#[derive(Debug, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay, lowers newest first.
    Overlay {
        /// Read-only directories, newest first.
        lowers: Vec<PathBuf>,
        /// Writable.
        upper: PathBuf,
        /// Beside it.
        work: PathBuf,
        /// Whether it may be lost with the machine, so that unmounting need not wait for the disk.
        volatile: bool,
    },
    /// A directory.
    Directory(PathBuf),
}

/// Which system-call filter.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// Docker's default, compiled once by the launcher for the capabilities of the spec.
    Default,
    /// None.
    Unconfined,
    /// `spec.linux.seccomp`.
    Spec,
}

/// A json-file log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogTarget {
    /// `<id>-json.log`; rotated files have `.1`, `.2`, … behind.
    pub path: PathBuf,
    /// Bytes of one file; 0 is unbounded.
    pub max_size: u64,
    /// How many files, 1 or more.
    pub max_file: u32,
    /// Extra attributes of every line (`labels`, `env`, `tag`), sorted.
    pub attrs: Vec<(String, String)>,
    /// Whether a full disk or slow log drops lines (`mode=non-blocking`) instead of holding the container back.
    pub non_blocking: bool,
    /// Bytes kept in memory when non-blocking.
    pub max_buffer: u64,
}

/// Engine → shim, and engine → exec monitor where it makes sense.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToShim {
    /// Opens the gate: executes the program. Sent once, after everything that has to precede it; may follow the launch at
    /// once, without waiting for [`FromShim::Created`]. An exec has no gate and needs none.
    Start,
    /// Gives up before the start.
    Abort,
    /// A further client. Descriptor: the stream. Sent before [`ToShim::Start`], it sees everything. The stream that comes
    /// with a launch is attached with all three (input only when `open_stdin`); an exec's as its request says.
    ///
    /// A client's shut-down of its writing side ends standard input when `stdin_once` and there is no terminal; else it
    /// ends the client, as Docker's attach does. A client that is closed without one while the engine lives counts as shut
    /// down after a second; when the engine died with it, standard input stays open.
    Attach {
        /// Wants to write.
        stdin: bool,
        /// Wants to read.
        stdout: bool,
        /// Wants to read.
        stderr: bool,
    },
    /// A new terminal size.
    Resize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Opens the log file anew (after it was truncated or moved by the engine).
    ReopenLog,
    /// Ends standard input, as the shut-down of a client's stream does.
    CloseStdin,
    /// The exit was taken into the engine's records: the shim may go. The link's hang-up after it says that the cgroup
    /// and the namespaces are let go and every client has had the output.
    Acknowledge,
}

/// Shim → engine, and exec monitor → engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    /// First frame on every link.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Where it stands.
        state: ShimState,
    },
    /// The child stands at the gate: namespaces, mounts, limits and network are made.
    Created {
        /// The first process, as the host sees it.
        pid: i32,
        /// Field 22 of its stat.
        start_time: u64,
    },
    /// The program runs.
    Started {
        /// The first process.
        pid: i32,
        /// Nanoseconds since the epoch.
        at: u128,
    },
    /// It could not be started; the shim goes.
    Failed(Failure),
    /// The kernel killed a process of the container for memory.
    Oom,
    /// It ended.
    Exited(ExitRecord),
    /// Something worth a line in the engine's log.
    Warning(String),
}

/// Where a shim stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShimState {
    /// Setting up.
    Creating,
    /// At the gate.
    Created {
        /// The first process.
        pid: i32,
    },
    /// Running since.
    Running {
        /// The first process.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at: u128,
    },
    /// Over.
    Exited(ExitRecord),
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// 125 for the engine's own reasons, 126 not executable, 127 not found, 128 else.
    pub code: u8,
    /// The whole sentence.
    pub message: String,
}

/// How a container or an exec ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 0 to 255; 128 + n for signal n.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub at: u128,
    /// Whether the kernel killed a process of it for memory.
    pub oom_killed: bool,
}

/// What a shim writes once about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The shim.
    pub shim_pid: i32,
    /// Field 22 of its stat.
    pub shim_start_time: u64,
    /// The container's first process.
    pub pid: i32,
    /// Field 22 of its stat.
    pub start_time: u64,
    /// Nanoseconds since the epoch.
    pub started_at: u128,
}

/// An exec.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Its id.
    pub id: String,
    /// Of which container.
    pub container_id: String,
    /// The container's runtime directory.
    pub runtime_dir: PathBuf,
    /// The container's first process: whose namespaces are joined.
    pub pid: i32,
    /// Field 22 of its stat, so that a recycled pid is noticed.
    pub start_time: u64,
    /// What to run; capabilities, limits, environment and directory are complete.
    pub process: Process,
    /// `user[:group]` to be looked up in the container's files; empty means `process.user` as it is.
    pub user: String,
    /// Supplementary groups by name or number.
    pub groups: Vec<String>,
    /// The container's cgroup.
    pub cgroup: String,
    /// Which filter; `Spec` takes `profile`.
    pub seccomp: SeccompChoice,
    /// For `SeccompChoice::Spec`.
    pub profile: Option<ferry_oci::runtime::Seccomp>,
    /// Which streams the client has.
    pub stdin: bool,
    /// Which streams the client has.
    pub stdout: bool,
    /// Which streams the client has.
    pub stderr: bool,
    /// Whether PATH lookups and ids happen in a container that has a user namespace of its own.
    pub user_namespace: bool,
}

/// Encodes one frame.
///
/// # Errors
/// When it is larger than [`MAX_FRAME`].
pub fn encode<T: Serialize>(frame: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = serde_json::to_vec(frame).map_err(|e| FrameError(e.to_string()))?;
    if bytes.len() > MAX_FRAME {
        Err(FrameError(format!("{} bytes exceed {MAX_FRAME}", bytes.len())))
    } else {
        Ok(bytes)
    }
}

/// Decodes one frame.
///
/// # Errors
/// When it is no frame of this type.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(bytes).map_err(|e| FrameError(e.to_string()))
}

/// A frame that cannot be sent or understood.
#[derive(Debug)]
pub struct FrameError(String);

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid shim frame: {}", self.0)
    }
}

impl std::error::Error for FrameError {}
