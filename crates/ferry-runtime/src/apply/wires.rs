//! What the new process finds ready: numbers of descriptors, strings, buffers. Made before the clone, because the process itself may
//! not allocate.

use crate::plan::Plan;
use crate::user::{Buffers, Identity, Request};
use ferry_oci::runtime::NamespaceKind;
use ferry_sys::exec::Strings;
use ferry_sys::seccomp::Instruction;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicI32;

/// Everything that the steps of one plan need beside the plan.
pub(crate) struct Wires<'a> {
    pub plan: &'a Plan,
    /// Where reports go; none for an exec, whose words are shared instead.
    pub report: Option<RawFd>,
    /// Where single bytes say "go on".
    pub gate: Option<RawFd>,
    /// Where the terminal's master is sent.
    pub console: Option<RawFd>,
    /// Files that `0` is written to.
    pub joins: Vec<RawFd>,
    pub namespaces: Vec<(NamespaceKind, RawFd)>,
    pub binds: Vec<(usize, RawFd)>,
    pub root: Root,
    pub cgroups: Vec<CgroupTree>,
    pub stdio: [Option<RawFd>; 3],
    /// Become 3, 4, … in this order.
    pub keep: Vec<RawFd>,
    /// What is closed first.
    pub gaps: Vec<(u32, u32)>,
    /// Whether id maps are about to be written.
    pub await_maps: bool,
    pub filter: Option<(Vec<Instruction>, u32)>,
    pub arguments: Strings,
    pub environment: Strings,
    pub request: Option<Request>,
    pub identity: Identity,
    pub files: Buffers,
    /// The sealed binary that becomes process 1, see [`crate::plan::Options::init`].
    pub init: Option<RawFd>,
    pub sibling: Option<Sibling<'a>>,
}

/// The last clone, by a process outside the pid namespace that it enters.
pub(crate) struct Sibling<'a> {
    /// The pid namespace to enter; the others have been entered.
    pub pid_ns: Option<RawFd>,
    /// A pidfd whose namespaces are all entered first, with their flags.
    pub target: Option<(RawFd, u64)>,
    /// Where the kernel stores the pid.
    pub pid: &'a AtomicI32,
    /// Step, detail and error of the process that failed, for an exec.
    pub fault: Option<[&'a AtomicI32; 3]>,
}

/// The root file system.
pub(crate) enum Root {
    /// An existing directory, bound to itself.
    Directory(CString),
    /// A detached tree, and where it is attached.
    Tree(RawFd, CString),
    /// An overlay, and where it is attached.
    Overlay {
        options: Vec<(CString, Option<CString>)>,
        legacy: Option<CString>,
        at: CString,
    },
    /// The process is in the container already.
    Entered,
}

/// One hierarchy of cgroup v1 as the container sees it.
pub(crate) struct CgroupTree {
    /// The directory's name.
    pub name: CString,
    /// Further names, for controllers that share a tree.
    pub links: Vec<CString>,
    /// The container's cgroup in the caller's mount namespace.
    pub source: CString,
    /// fsconfig(2) parameters of a new mount, for a private cgroup namespace.
    pub parameters: Vec<(CString, Option<CString>)>,
}
