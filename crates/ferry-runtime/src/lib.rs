//! Ferry's OCI runtime: a plan compiled from a specification, then applied with clone3 and the fd-based mount API.
//!
//! Synchronous and single-threaded by design: a caller must have exactly one thread when it calls [`launch::create`] or [`exec::exec`].
//! Reads nothing but the bundle, its own state and the kernel's files. Never prints.

mod apply;
pub mod capability;
pub mod cgroup;
pub mod cli;
pub mod exec;
pub mod hooks;
pub mod host;
pub mod init;
pub mod launch;
pub mod plan;
pub mod sealed;
pub mod seccomp;
pub mod user;

pub use host::HostFacts;
