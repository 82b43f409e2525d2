//! Kernel tests of the runtime: each needs root and says so when it is skipped.

mod cgroup;
mod runtime;
mod seccomp;
