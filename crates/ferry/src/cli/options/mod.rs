//! What `run` and `create` understand: the flags, and how they become the body of a create request.

pub(crate) mod create;
pub(crate) mod environment;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod table;
pub(crate) mod values;
pub(crate) mod volume;
