//! What cgroup hierarchies this machine has, where they are mounted, and where in them we are.
//!
//! Sources: `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup` (cgroups(7)). Each hierarchy's root
//! is held open, so that later work needs no path.

use super::{CgroupError, Controller, Version, tree};
use rustix::fs::{Mode as FileMode, OFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// How a machine's controllers are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every controller in a tree of its own.
    V1,
    /// As v1, with the unified tree beside it.
    Hybrid,
    /// The unified tree alone.
    V2,
}

/// One mounted tree.
#[derive(Debug)]
pub struct Hierarchy {
    version: Version,
    /// All controllers of a v1 tree, unknown ones and `name=…` included; empty for the unified tree.
    names: Vec<String>,
    controllers: Vec<Controller>,
    mount: String,
    own: String,
    root: OwnedFd,
}

impl Hierarchy {
    /// Which interface its files have.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its controllers; none for v1's named trees.
    pub fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// Where it is mounted, in the mount namespace of the process that detected it.
    pub fn mount_point(&self) -> &str {
        &self.mount
    }

    /// This process's own cgroup, beneath the mount point: `/` or `/a/b`.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The mounted tree's root, `O_PATH`.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where `relative` lies, for messages.
    pub(crate) fn shown(&self, relative: &str) -> String {
        format!("{}/{relative}", self.mount)
    }
}

/// Everything there is to know about this machine's cgroups.
#[derive(Clone, Debug)]
pub struct Layout {
    mode: Mode,
    hierarchies: Vec<Arc<Hierarchy>>,
}

/// Which limits this machine can do, as `info` tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // each field is the facility of its name
pub struct Support {
    pub memory: bool,
    pub swap: bool,
    pub memory_reservation: bool,
    pub swappiness: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub blkio_weight: bool,
    pub blkio_throttle: bool,
    pub devices: bool,
    pub freezer: bool,
    pub hugetlb: bool,
    pub rdma: bool,
}

impl Layout {
    /// Reads this process's view of the machine.
    pub fn detect() -> io::Result<Layout> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Layout::from_text(&mounts, &own)
    }

    /// The layout that these two files describe; the mount points must exist.
    pub fn from_text(mountinfo: &str, cgroup: &str) -> io::Result<Layout> {
        let places = own_places(cgroup);
        let mut hierarchies: Vec<Arc<Hierarchy>> = Vec::new();
        for mount in mountinfo.lines().filter_map(parse_mount) {
            let Some(hierarchy) = open_hierarchy(&mount, &places, &hierarchies)? else {
                continue;
            };
            hierarchies.push(Arc::new(hierarchy));
        }
        let has = |version| hierarchies.iter().any(|h| h.version == version);
        let controllers_in_v1 = hierarchies
            .iter()
            .any(|h| h.version == Version::V1 && !h.controllers.is_empty());
        let mode = match (controllers_in_v1, has(Version::V2)) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (false, false) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "no cgroup controller is mounted: mount cgroup2 on /sys/fs/cgroup",
                ));
            }
        };
        if mode == Mode::V2 {
            hierarchies.retain(|h| h.version == Version::V2);
        }
        Ok(Layout { mode, hierarchies })
    }

    /// How the controllers are mounted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Every mounted tree, the unified one included.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter().map(AsRef::as_ref)
    }

    /// Every controller that can be used, with the tree that has it.
    pub fn controllers(&self) -> impl Iterator<Item = (Controller, &Hierarchy)> {
        self.hierarchies()
            .flat_map(|h| h.controllers.iter().map(move |c| (*c, h)))
    }

    /// The tree of one controller.
    pub fn controller(&self, controller: Controller) -> Option<&Hierarchy> {
        self.controllers().find(|(c, _)| *c == controller).map(|(_, h)| h)
    }

    /// The unified tree, on hybrid and v2 machines.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies().find(|h| h.version == Version::V2)
    }

    /// The fds that this layout needs, for a process that closes all others.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hierarchies().map(Hierarchy::root)
    }

    pub(crate) fn shared(&self) -> &[Arc<Hierarchy>] {
        &self.hierarchies
    }

    /// Probes which limits there are, by the files of a cgroup below the root where there is one, or else by the root's.
    pub fn support(&self) -> Support {
        let file = |controller, name: &str| {
            self.controller(controller)
                .is_some_and(|h| hierarchy_has(h, name))
        };
        let either = |controller, v1: &str, v2: &str| file(controller, v1) || file(controller, v2);
        let v2 = |controller| {
            self.controller(controller)
                .is_some_and(|h| h.version == Version::V2)
        };
        let mounted = |controller| self.controller(controller).is_some();
        Support {
            memory: mounted(Controller::Memory),
            swap: either(
                Controller::Memory,
                "memory.memsw.limit_in_bytes",
                "memory.swap.max",
            ) || (v2(Controller::Memory) && std::path::Path::new("/proc/swaps").exists()),
            memory_reservation: mounted(Controller::Memory),
            swappiness: file(Controller::Memory, "memory.swappiness"),
            oom_kill_disable: file(Controller::Memory, "memory.oom_control"),
            cpu_shares: v2(Controller::Cpu) || file(Controller::Cpu, "cpu.shares"),
            cpu_quota: v2(Controller::Cpu) || file(Controller::Cpu, "cpu.cfs_quota_us"),
            cpu_realtime: file(Controller::Cpu, "cpu.rt_runtime_us"),
            cpuset: mounted(Controller::Cpuset),
            pids: mounted(Controller::Pids),
            // The root has no weight of its own, only the meters of the scheduler that knows weights.
            blkio_weight: v2(Controller::Blkio)
                || either(Controller::Blkio, "blkio.weight", "blkio.bfq.io_service_bytes"),
            blkio_throttle: v2(Controller::Blkio)
                || file(Controller::Blkio, "blkio.throttle.read_bps_device"),
            // v2 has devices as a BPF program and freezing in its core.
            devices: self.mode == Mode::V2 || mounted(Controller::Devices),
            freezer: self.mode == Mode::V2 || mounted(Controller::Freezer),
            hugetlb: mounted(Controller::Hugetlb),
            rdma: mounted(Controller::Rdma),
        }
    }
}

fn hierarchy_has(hierarchy: &Hierarchy, file: &str) -> bool {
    rustix::fs::statat(hierarchy.root(), file, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

struct MountLine<'a> {
    /// Which directory of the tree is mounted.
    root: String,
    point: String,
    version: Version,
    options: Vec<&'a str>,
}

/// A line of mountinfo, when it is a cgroup's.
fn parse_mount(line: &str) -> Option<MountLine<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let version = match back.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = back.nth(1).unwrap_or_default().split(',').collect();
    let mut front = front.split(' ').skip(3);
    Some(MountLine {
        root: unescape(front.next()?),
        point: unescape(front.next()?),
        version,
        options,
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(value) if byte == b'\\' => {
                plain.push(value);
                rest = &tail[3..];
            }
            _ => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// `/proc/self/cgroup` as (names of the tree's controllers, own path); the unified tree has no name.
fn own_places(text: &str) -> Vec<(Vec<&str>, &str)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let names = parts.next()?.split(',').filter(|n| !n.is_empty()).collect();
            Some((names, parts.next()?))
        })
        .collect()
}

/// Opens the tree of one mount; `None` when it is a second mount of a known one or holds nothing of ours.
fn open_hierarchy(
    mount: &MountLine<'_>,
    places: &[(Vec<&str>, &str)],
    known: &[Arc<Hierarchy>],
) -> io::Result<Option<Hierarchy>> {
    let names: &[&str] = if mount.version == Version::V2 {
        &[]
    } else {
        &mount.options
    };
    let place = places.iter().find(|(place, _)| match mount.version {
        Version::V2 => place.is_empty(),
        Version::V1 => !place.is_empty() && place.iter().all(|name| names.contains(name)),
    });
    let Some((place, own)) = place else {
        return Ok(None);
    };
    if known
        .iter()
        .any(|h| h.version == mount.version && h.names == *place)
    {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::open(&mount.point, flags, FileMode::empty()) {
        Ok(root) => root,
        // Covered by a later mount, or out of reach for this user: another mount of the same tree may do.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let controllers = match mount.version {
        Version::V1 => place
            .iter()
            .filter_map(|n| Controller::parse(n, Version::V1))
            .collect(),
        Version::V2 => unified_controllers(root.as_fd(), &mount.point)?,
    };
    let mount_point = mount.point.trim_end_matches('/').to_owned();
    let own = beneath(own, &mount.root).to_owned();
    let names = place.iter().map(|name| (*name).to_owned()).collect();
    Ok(Some(Hierarchy {
        version: mount.version,
        names,
        controllers,
        mount: mount_point,
        own,
        root,
    }))
}

fn unified_controllers(root: BorrowedFd<'_>, point: &str) -> io::Result<Vec<Controller>> {
    let dir = tree::Dir::open(root, "", point.to_owned()).map_err(io::Error::other)?;
    let text = dir
        .read("cgroup.controllers")
        .map_err(io::Error::other)?
        .unwrap_or_default();
    Ok(text
        .split_ascii_whitespace()
        .filter_map(|name| Controller::parse(name, Version::V2))
        .collect())
}

/// `own` as seen from a mount whose root is the tree's directory `root` (not `/` in a nested container).
fn beneath<'a>(own: &'a str, root: &str) -> &'a str {
    if root == "/" {
        return own;
    }
    match own.strip_prefix(root) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => own,
    }
}

/// Where a cgroup shall be: the specification's `cgroupsPath`, checked.
///
/// An absolute path starts at each tree's mount point, a relative one at this process's own cgroup.
#[derive(Debug)]
pub(crate) struct Location<'a> {
    absolute: bool,
    components: Vec<&'a str>,
}

impl<'a> Location<'a> {
    pub fn parse(path: &'a str) -> Result<Location<'a>, CgroupError> {
        let refuse = |reason| {
            Err(CgroupError::Path {
                path: path.to_owned(),
                reason,
            })
        };
        let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty() && *c != ".").collect();
        if components.is_empty() {
            return refuse("it must name a cgroup below the root");
        }
        if path.contains('\0') || path.contains('\n') {
            return refuse("a NUL or a line break cannot be part of it");
        }
        if !path.starts_with('/') && path.split(':').count() == 3 {
            return refuse("slice:prefix:name needs the systemd driver, which is not supported: give a path");
        }
        for component in &components {
            match *component {
                ".." => return refuse("`..` would leave the tree"),
                name if name.len() > 255 => return refuse("a component is longer than 255 bytes"),
                name if name.starts_with("cgroup.") => return refuse("`cgroup.` is reserved for the kernel"),
                _ => {}
            }
        }
        Ok(Location {
            absolute: path.starts_with('/'),
            components,
        })
    }

    /// The path beneath the mount point, without a leading slash.
    pub fn beneath(&self, hierarchy: &Hierarchy) -> String {
        let own = if self.absolute {
            ""
        } else {
            hierarchy.own.trim_matches('/')
        };
        let own = own.split('/').filter(|c| !c.is_empty());
        own.chain(self.components.iter().copied())
            .collect::<Vec<_>>()
            .join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / DIR rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / DIR/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / DIR/systemd rw,nosuid - cgroup cgroup rw,name=systemd
33 30 0:29 / DIR/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 /outer DIR/memory rw - cgroup cgroup rw,memory
35 30 0:30 / DIR/memory rw - cgroup cgroup rw,memory
36 30 0:31 / DIR/nothere rw - cgroup cgroup rw,pids
";
    const OWN: &str = "5:pids:/\n4:memory:/outer/inner\n3:cpu,cpuacct:/\n1:name=systemd:/init\n0::/x\n";

    fn machine(dirs: &[&str], mountinfo: &str, own: &str) -> (tempfile::TempDir, Layout) {
        let temp = tempfile::tempdir().unwrap();
        for dir in dirs {
            std::fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        let mountinfo = mountinfo.replace("DIR", temp.path().to_str().unwrap());
        let layout = Layout::from_text(&mountinfo, own).unwrap();
        (temp, layout)
    }

    #[test]
    fn a_hybrid_machine() {
        let (_temp, layout) = machine(&["unified", "systemd", "cpu,cpuacct", "memory"], HYBRID, OWN);
        assert_eq!(layout.mode(), Mode::Hybrid);
        assert_eq!(layout.hierarchies().count(), 4);
        assert_eq!(layout.fds().count(), 4);
        let memory = layout.controller(Controller::Memory).unwrap();
        assert_eq!(memory.own(), "/inner", "the mount shows a part of the tree only");
        assert!(layout.controller(Controller::Pids).is_none());
        let cpu = layout.controller(Controller::Cpuacct).unwrap();
        assert_eq!(cpu.controllers(), [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(layout.unified().unwrap().own(), "/x");
    }

    #[test]
    fn a_unified_machine_ignores_named_trees() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(
            temp.path().join("cgroup.controllers"),
            "cpuset cpu io memory pids misc new\n",
        )
        .unwrap();
        let mounts = format!(
            "31 30 0:27 / {0} rw - cgroup2 cgroup2 rw\n32 30 0:28 / {0} rw - cgroup cgroup rw,name=systemd\n",
            temp.path().display()
        );
        let layout =
            Layout::from_text(&mounts, "1:name=systemd:/\n0::/system.slice/ferry.service\n").unwrap();
        assert_eq!(layout.mode(), Mode::V2);
        assert_eq!(layout.hierarchies().count(), 1);
        let io = layout.controller(Controller::Blkio).unwrap();
        assert_eq!(
            (io.version(), io.own()),
            (Version::V2, "/system.slice/ferry.service")
        );
    }

    #[test]
    fn nothing_mounted_is_an_error() {
        let error = Layout::from_text("", "0::/\n").unwrap_err();
        assert!(
            error.to_string().contains("no cgroup controller is mounted"),
            "{error}"
        );
    }

    #[test]
    fn paths_are_checked() {
        for bad in [
            "",
            "/",
            "//./",
            "/a/../b",
            "system.slice:ferry:abc",
            "/a/cgroup.procs",
            "a\nb",
        ] {
            assert!(
                matches!(Location::parse(bad), Err(CgroupError::Path { .. })),
                "{bad:?}"
            );
        }
        let (_temp, layout) = machine(&["unified", "systemd", "cpu,cpuacct", "memory"], HYBRID, OWN);
        let memory = layout.controller(Controller::Memory).unwrap();
        assert_eq!(
            Location::parse("/docker/abc").unwrap().beneath(memory),
            "docker/abc"
        );
        assert_eq!(
            Location::parse("docker//abc").unwrap().beneath(memory),
            "inner/docker/abc"
        );
    }

    #[test]
    fn mountinfo_escapes() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\04"), r"/a\04");
    }
}
