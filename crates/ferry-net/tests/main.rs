//! Tests against the kernel. Each one runs in network and mount namespaces that it makes for itself; as another user than
//! root it is skipped, and says so.

mod bridge;
mod harness;
mod rules;
