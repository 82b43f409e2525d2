//! Launcher, shims and exec monitors: the processes that hold containers, so that the engine can be replaced under them.
//!
//! [`launcher::main`] forks, for each request, a monitor ([`monitor::Monitor`]) that lives as long as its container, and the
//! monitor a set-up process that makes the container and ends. Neither knows images or the engine's records, and nothing
//! here starts a thread, prints or reads the environment.

pub mod clients;
pub mod confine;
mod exec;
pub mod filters;
mod heap;
pub mod host;
pub mod jsonlog;
pub mod launcher;
pub mod lines;
pub mod link;
pub mod logfile;
pub mod monitor;
pub mod mounts;
pub mod netd;
mod process;
pub mod record;
pub mod report;
mod setup;
mod shim;
pub mod stdcopy;
pub mod stdio;
mod streams;
