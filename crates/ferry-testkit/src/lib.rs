//! What tests need to touch the kernel without touching the machine: a dev-dependency only.
//!
//! A [`World`] is a pair of mount and network namespaces of its own. Work done inside, and every process started from there, sees
//! private mounts, an empty `/run` and a network with nothing but its loopback; the machine sees none of it.

mod leak;
mod world;

pub use leak::Census;
pub use world::World;

/// Whether the test may touch the kernel at all; prints why not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: needs root");
    }
    root
}
