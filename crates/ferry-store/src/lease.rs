//! Leases: the barrier between work in progress and gc.
//!
//! While any lease lives, every object that is made *or looked at* through the store is protected until that lease ends, so a
//! pull that skips a blob because it is already here cannot lose it before its image is recorded. Nothing is on disk: work in
//! progress does not outlive the process.

use crate::disk::lock;
use ferry_oci::Digest;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// Gives out leases. Cheap to clone.
#[derive(Clone, Default)]
pub struct Leases {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    clock: u64,
    /// When each live lease began.
    live: BTreeMap<u64, ()>,
    /// When each object was last made or looked at; kept only as far back as the oldest live lease.
    touched: HashMap<Digest, u64>,
}

/// Protects what is touched until it is dropped.
#[must_use = "a lease protects only while it lives"]
pub struct Lease {
    leases: Leases,
    start: u64,
}

impl Leases {
    /// Begins a lease. Hold it from before the first look at content until the image is recorded.
    pub fn acquire(&self) -> Lease {
        let mut state = lock(&self.state);
        state.clock += 1;
        let start = state.clock;
        state.live.insert(start, ());
        Lease {
            leases: self.clone(),
            start,
        }
    }

    /// How many leases live.
    pub fn count(&self) -> usize {
        lock(&self.state).live.len()
    }

    /// Notes that somebody relies on this object now.
    pub(crate) fn touch(&self, digest: &Digest) {
        let mut state = lock(&self.state);
        if !state.live.is_empty() {
            let now = state.clock;
            state.touched.insert(digest.clone(), now);
        }
    }

    /// Runs `remove` unless the object was touched under a live lease; nobody can touch it meanwhile.
    pub(crate) fn sweep<T>(&self, digest: &Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let state = lock(&self.state);
        if state.touched.contains_key(digest) {
            None
        } else {
            Some(remove())
        }
    }
}

impl Lease {
    /// Protects an object explicitly.
    pub fn protect(&self, digest: &Digest) {
        self.leases.touch(digest);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.leases.state);
        state.live.remove(&self.start);
        match state.live.keys().next().copied() {
            Some(oldest) => state.touched.retain(|_, at| *at >= oldest),
            None => state.touched = HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_objects_outlive_a_sweep_as_long_as_the_lease() {
        let leases = Leases::default();
        let digest = crate::hash::digest(ferry_oci::Algorithm::Sha256, b"x");
        leases.touch(&digest);
        assert_eq!(leases.sweep(&digest, || 1), Some(1));
        let first = leases.acquire();
        leases.touch(&digest);
        let second = leases.acquire();
        assert_eq!(leases.sweep(&digest, || 1), None);
        drop(first);
        assert_eq!(
            leases.sweep(&digest, || 1),
            Some(1),
            "touched before the second lease began"
        );
        second.protect(&digest);
        assert_eq!(leases.sweep(&digest, || 1), None);
        drop(second);
        assert_eq!(leases.count(), 0);
    }
}
