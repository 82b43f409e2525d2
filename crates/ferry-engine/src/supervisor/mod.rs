//! The processes that hold containers: the launcher, shims, exec monitors and netd, as the engine sees them.
//!
//! The launcher forks them on request and answers with a pid; all else comes over each one's own link. When the launcher dies, what it
//! forked goes on, and a new one is started at the next request.

mod launcher;
mod link;
pub(crate) mod netd;

pub(crate) use launcher::{Supervisor, launch_memfd};

use ferry_shim_proto::{FromShim, ToShim};

/// The engine's end of a shim's or exec monitor's link.
pub(crate) type ShimLink = link::Link<ToShim, FromShim>;
