//! Container networking: bridges, endpoints, addresses, packet rules and the files a resolver reads.
//!
//! The crate knows networks and endpoints, never containers. Decisions are pure (`ipam`, `plan`, `rules`, `files`); the
//! interpreters (`apply`, `rules::Firewall`) are synchronous and speak netlink in process. They act in the network
//! namespace of the calling thread. Nothing here reads configuration, the environment or a path that it was not given,
//! apart from `/proc/sys/net` and `/proc/thread-self/ns/net`.

pub mod apply;
pub mod conntrack;
pub mod error;
pub mod files;
pub mod ipam;
pub mod model;
mod netlink;
pub mod plan;
mod rtnl;
pub mod rules;

pub use error::NetError;
pub use model::{
    Driver, Endpoint, EndpointPlan, Ipam, MacAddr, NetworkConfig, Proto, Published, Route, Sysctl,
};
pub use plan::plan_endpoint;
