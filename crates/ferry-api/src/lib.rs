//! The Docker Engine API: wire types, and a thin synchronous client. No engine behind it.

pub mod client;
pub mod docker;
