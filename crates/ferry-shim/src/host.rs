//! What the launcher finds out once, for all its children: they inherit it with the fork.

use crate::filters::Filters;
use ferry_runtime::HostFacts;
use ferry_runtime::cgroup::{Group, Layout};
use ferry_runtime::sealed;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Facts and compiled filters.
#[derive(Debug)]
pub struct Host {
    /// What this kernel and our privileges offer.
    pub facts: HostFacts,
    /// The cgroup trees; `None` where there are none.
    pub layout: Option<Layout>,
    /// System call filters, compiled.
    pub filters: Filters,
    /// The binary, where nobody can write to it: process 1 of containers that ask for an init.
    pub init: io::Result<OwnedFd>,
}

impl Host {
    /// Asks the kernel, and compiles the filters. The second part are sentences about what is missing.
    /// Comes before the mount namespace is changed: the binary is found in it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn probe() -> io::Result<(Host, Vec<String>)> {
        let facts = HostFacts::probe()?;
        let mut warnings = Vec::new();
        if !facts.can_raise_limits() {
            warnings.push("CAP_SYS_RESOURCE is missing: hard resource limits cannot be raised".to_owned());
        }
        let layout = match Layout::detect() {
            Ok(layout) => Some(layout),
            Err(error) => {
                warnings.push(format!(
                    "no cgroups: {error}; containers run without limits and meters"
                ));
                None
            }
        };
        let filters = Filters::compile_aside()?;
        Ok((
            Host {
                facts,
                layout,
                filters,
                init: sealed::open(),
            },
            warnings,
        ))
    }

    /// The cgroup of that path, when there is one.
    pub fn group(&self, path: &str) -> Option<Group> {
        if path.is_empty() {
            return None;
        }
        self.layout
            .as_ref()
            .and_then(|layout| Group::open(layout, path).ok())
    }

    /// The descriptors that every child has to keep.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.layout
            .iter()
            .flat_map(Layout::fds)
            .chain(self.init.iter().map(AsFd::as_fd))
    }
}
