//! The steps of a plan: what the new process does to itself, in order. Strings are ready for the kernel.

use crate::capability::Sets;
use ferry_oci::runtime::NamespaceKind;
use ferry_sys::mount::MountAttr;
use ferry_sys::process::SchedAttr;
use std::ffi::CString;

/// One thing that the new process does before it stands at the gate.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write `0` to every cgroup that the launch names.
    JoinCgroups,
    /// A cgroup namespace, made only when its cgroups have been joined.
    UnshareCgroup,
    /// Enter an existing namespace.
    Join(NamespaceKind),
    /// Wait until the id maps are written, then become their user 0.
    BecomeMapped,
    /// Change the propagation of every mount of the copied namespace (`MS_…` with `MS_REC`).
    Propagate(u64),
    /// Mount or bind the root file system where it can be pivoted to.
    AttachRoot {
        /// The mount that holds it is made private first, where the tree's propagation is shared.
        private_parent: bool,
    },
    /// A new time namespace, with what is written to `timens_offsets`.
    TimeNamespace(Option<CString>),
    /// A private procfs instance, before anything of the container's is mounted.
    OpenProc,
    /// A file system of its own.
    FileSystem(FileSystem),
    /// A part of an existing tree.
    Bind(Bind),
    /// The container's own cgroups.
    Cgroups(CgroupMount),
    /// A device node.
    Device(Device),
    /// A symbolic link; one that exists stays.
    Link {
        /// Where, relative to the root.
        path: CString,
        /// What it says.
        target: CString,
    },
    /// The container's pseudo-terminal, its master to the launch's console socket, its slave as the controlling one.
    Terminal(Terminal),
    /// Bring the loopback interface up.
    Loopback,
    /// The host name.
    Hostname(CString),
    /// The NIS domain.
    Domainname(CString),
    /// A kernel parameter: the path beneath `/proc/sys`, and the value.
    Sysctl(CString, CString),
    /// Wait while the caller runs hooks.
    Hooks(HookPoint),
    /// Hide a path.
    Mask(CString),
    /// Make a path read-only.
    ReadOnly(CString),
    /// Make the root's mount read-only.
    RootReadOnly,
    /// Set the root's propagation (`MS_…`).
    RootPropagation(u64),
    /// Make the root file system `/` and let go of the old one.
    Pivot,
    /// As `Pivot`, by moving the mount and chroot, for initramfs; weaker.
    MoveRoot,
    /// A resource limit.
    Limit(Limit),
    /// `oom_score_adj`.
    OomScore {
        /// The value, as written.
        value: CString,
        /// Whether a refusal is a warning.
        lenient: bool,
    },
    /// The execution domain.
    Personality(u64),
    /// The scheduling policy.
    Scheduler(SchedAttr),
    /// The I/O class and level.
    IoPriority(u32, u32),
    /// The NUMA policy: mode with flags, nodes.
    MemoryPolicy(u32, Vec<u64>),
    /// The security module's label for the next exec: the file beneath `/proc/self/attr`, and what is written.
    Label(CString, CString),
    /// Read the image's passwd and group files: a user by name, `$HOME`.
    Identity,
    /// Go to the working directory, made where it is missing, as user 0.
    WorkDir(CString),
    /// Standard streams and kept descriptors in their places, all others closed.
    Descriptors,
    /// Find the program.
    FindProgram,
    /// Load the system call filter, before or after capabilities are given up.
    Filter,
    /// Drop from the bounding set, change ids, and set the other sets.
    Credentials(Option<Sets>),
    /// Go to the working directory as the user, when user 0 was not let in.
    WorkDirAsUser(CString),
    /// No more privileges by exec.
    NoNewPrivileges,
    /// The file mode mask.
    Umask(u32),
}

/// When hooks run while the new process waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// `prestart` and `createRuntime`, in the runtime's namespaces, then `createContainer`, in the container's.
    BeforePivot,
}

/// A new instance of a file system.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSystem {
    /// Its index in the specification's mounts.
    pub index: usize,
    /// `tmpfs`.
    pub kind: CString,
    /// What mountinfo shows as source; a device for some.
    pub source: CString,
    /// fsconfig(2): flags and strings.
    pub parameters: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_…`.
    pub attributes: u64,
    /// Propagation, `MS_…` with `MS_REC`, or 0.
    pub propagation: u64,
    /// Relative to the root.
    pub destination: CString,
    /// What lay beneath is copied into it.
    pub copy_up: bool,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq)]
pub struct Bind {
    /// Its index in the specification's mounts.
    pub index: usize,
    /// A path in the caller's mount namespace, unless the launch brings the tree.
    pub source: CString,
    /// Whether mounts below come along.
    pub recursive: bool,
    /// Attributes of the top mount.
    pub attributes: MountAttr,
    /// Attributes of every mount of the tree.
    pub recursive_attributes: MountAttr,
    /// Propagation, `MS_…` with or without `MS_REC`, or 0.
    pub propagation: u64,
    /// Relative to the root.
    pub destination: CString,
    /// Whether this destination may lie in procfs.
    pub in_proc: bool,
}

/// The container's cgroups, mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupMount {
    /// Relative to the root.
    pub destination: CString,
    /// `MOUNT_ATTR_…`.
    pub attributes: u64,
    /// Whether the layout is v1's, one directory a controller.
    pub v1: bool,
    /// Whether the container has a cgroup namespace of its own.
    pub private: bool,
}

/// A device node.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Relative to the root.
    pub path: CString,
    /// `S_IF…` with permissions.
    pub mode: u32,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Owner and group.
    pub owner: (u32, u32),
    /// The host's node is bound, where nodes cannot be made.
    pub bind: Option<CString>,
}

/// How the pseudo-terminal is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    /// Whether it is bound to `/dev/console` (a container's first process).
    pub console: bool,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_…` by number.
    pub resource: u32,
    /// Soft and hard.
    pub values: [u64; 2],
    /// Whether it is lowered to what is allowed, with a warning, when raising it is refused.
    pub lenient: bool,
}
