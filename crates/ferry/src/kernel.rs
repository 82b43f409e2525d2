//! The engine's `Kernel`, filled in from the system-call and runtime crates: the one place where threaded code meets them.
//!
//! Nothing here forks without exec, changes namespaces or keeps state but what was probed once.

use ferry_engine::kernel::{CgroupStats, HostInfo, Kernel, Overlay};
use ferry_oci::runtime::{Resources, Seccomp};
use ferry_runtime::cgroup::{Group, Layout, Mode};
use ferry_runtime::{HostFacts, capability, sealed, seccomp};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

/// This machine's kernel.
pub(crate) struct HostKernel {
    layout: Layout,
    info: HostInfo,
}

impl HostKernel {
    /// Probes the host.
    ///
    /// # Errors
    /// Where procfs or the cgroup tree cannot be read.
    pub(crate) fn probe() -> io::Result<Self> {
        let facts = HostFacts::probe()?;
        let layout = Layout::detect()?;
        let info = describe(&facts, &layout);
        Ok(Self { layout, info })
    }

    fn group(&self, path: &str) -> io::Result<Group> {
        Group::open(&self.layout, path).map_err(io::Error::other)
    }
}

impl Kernel for HostKernel {
    fn spawn_launcher(&self, control: OwnedFd, exec_root: &Path) -> io::Result<i32> {
        let binary = sealed::open()?;
        // The child resolves the link to its own copy of the descriptor, before exec closes it.
        let mut child = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()))
            .arg("launcher")
            .arg(exec_root)
            .env_clear()
            .stdin(Stdio::from(control))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        std::thread::Builder::new()
            .name("launcher-reaper".into())
            .stack_size(64 << 10)
            .spawn(move || {
                // The control socket's hang-up is what tells of its end; this only leaves no zombie.
                drop(child.wait());
            })?;
        Ok(pid)
    }

    fn open_tree(&self, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        Ok(open_tree(CWD, path, flags)?)
    }

    fn mount_overlay(&self, overlay: &Overlay) -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let lowers: Vec<String> = overlay
            .lowers
            .iter()
            .map(|l| escape(l))
            .collect::<io::Result<_>>()?;
        set_lowers(fs.as_fd(), &lowers)?;
        if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
            fsconfig_set_string(fs.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(fs.as_fd(), "workdir", work)?;
        } else if lowers.len() < 2 {
            // An overlay wants something to lay over: one layer is its own view.
            let only = overlay
                .lowers
                .first()
                .ok_or_else(|| io::Error::other("an overlay without layers"))?;
            return self.open_tree(only, false);
        } else {
            fsconfig_set_flag(fs.as_fd(), "ro")?;
        }
        fsconfig_create(fs.as_fd())?;
        Ok(fsmount(
            fs.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        )?)
    }

    fn pidfd(&self, pid: i32) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    fn start_time(&self, pid: i32) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in brackets and may hold anything, so count from its end.
        let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = rest.split_whitespace().nth(19).and_then(|f| f.parse().ok());
        field.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
    }

    fn cgroup_stats(&self, path: &str) -> io::Result<CgroupStats> {
        let stats = self.group(path)?.stats().map_err(io::Error::other)?;
        let device = |e: ferry_runtime::cgroup::stats::BlkioEntry| (e.major, e.minor, e.op, e.value);
        Ok(CgroupStats {
            cpu_total: stats.cpu.total,
            cpu_user: stats.cpu.user,
            cpu_system: stats.cpu.system,
            cpu_per: stats.cpu.per_cpu,
            throttling: (
                stats.cpu.periods,
                stats.cpu.throttled_periods,
                stats.cpu.throttled,
            ),
            memory_usage: stats.memory.usage,
            memory_max: stats.memory.max_usage.unwrap_or(0),
            memory_limit: stats.memory.limit,
            memory_failcnt: stats.memory.failcnt,
            memory_stat: stats.memory.stat,
            pids: stats.pids.current,
            pids_limit: stats.pids.limit,
            blkio_bytes: stats.blkio.bytes.into_iter().map(device).collect(),
            blkio_ops: stats.blkio.operations.into_iter().map(device).collect(),
            oom_kills: stats.memory.oom_kills,
        })
    }

    fn cgroup_update(&self, path: &str, resources: &Resources) -> io::Result<()> {
        self.group(path)?.update(resources).map_err(io::Error::other)
    }

    fn cgroup_freeze(&self, path: &str, frozen: bool) -> io::Result<()> {
        let group = self.group(path)?;
        if frozen { group.freeze() } else { group.thaw() }.map_err(io::Error::other)
    }

    fn cgroup_frozen(&self, path: &str) -> io::Result<bool> {
        self.group(path)?.frozen().map_err(io::Error::other)
    }

    fn cgroup_pids(&self, path: &str) -> io::Result<Vec<i32>> {
        Ok(self.group(path)?.pids())
    }

    fn cgroup_kill(&self, path: &str) -> io::Result<()> {
        self.group(path)?.kill().map_err(io::Error::other)
    }

    fn cgroup_remove(&self, path: &str) -> io::Result<()> {
        match Group::open(&self.layout, path) {
            Ok(group) => group.remove().map_err(io::Error::other),
            // Nothing to open is nothing to remove.
            Err(_) => Ok(()),
        }
    }

    fn parse_seccomp(&self, json: &str, capabilities: &[String]) -> io::Result<Seccomp> {
        let facts = seccomp::Facts::detect()
            .ok_or_else(|| io::Error::other("system calls of this architecture are not known"))?;
        let parsed =
            seccomp::parse_docker_profile(json.as_bytes(), capabilities, &facts).map_err(io::Error::other)?;
        // An empty profile filters nothing.
        Ok(parsed.unwrap_or_else(|| Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            ..Seccomp::default()
        }))
    }

    fn host(&self) -> &HostInfo {
        &self.info
    }
}

/// One layer at a time where the kernel can (6.5): a string is 256 bytes at most.
fn set_lowers(fs: std::os::fd::BorrowedFd<'_>, lowers: &[String]) -> io::Result<()> {
    for (n, lower) in lowers.iter().enumerate() {
        match fsconfig_set_string(fs, "lowerdir+", lower) {
            Err(rustix::io::Errno::INVAL) if n == 0 => {
                return Ok(fsconfig_set_string(fs, "lowerdir", lowers.join(":"))?);
            }
            other => other?,
        }
    }
    Ok(())
}

/// Colons and backslashes separate lower directories.
fn escape(path: &Path) -> io::Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{} is no UTF-8", path.display())))?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:"))
}

fn describe(facts: &HostFacts, layout: &Layout) -> HostInfo {
    let version = if layout.mode() == Mode::V2 { 2 } else { 1 };
    let cgroup_version = if version == 2 {
        ferry_runtime::cgroup::Version::V2
    } else {
        ferry_runtime::cgroup::Version::V1
    };
    let mut controllers: Vec<String> = layout
        .controllers()
        .map(|(c, _)| c.name(cgroup_version).to_owned())
        .collect();
    controllers.sort();
    controllers.dedup();
    let mut warnings = Vec::new();
    if !facts.can_raise_limits() {
        warnings.push(
            "CAP_SYS_RESOURCE is missing: hard resource limits above the engine's own are not raised, containers get the highest allowed".to_owned(),
        );
    }
    HostInfo {
        kernel: facts.release.clone(),
        machine: std::env::consts::ARCH.to_owned(),
        cgroup_version: version,
        controllers,
        lsms: facts.lsm.clone(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        capabilities: capability::names(facts.bounding).map(str::to_owned).collect(),
        facilities: facilities(facts, layout),
        warnings,
    }
}

fn facilities(facts: &HostFacts, layout: &Layout) -> BTreeMap<String, (bool, String)> {
    let has = |file: &str| Path::new(file).exists();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let filesystem = |name: &str| {
        filesystems
            .lines()
            .any(|l| l.split_whitespace().last() == Some(name))
    };
    let support = layout.support();
    let rows: [(&str, bool, &str); 22] = [
        (
            "kernel 5.10 or newer",
            facts.version >= (5, 10),
            "everything: older kernels lack the file-descriptor mount calls and openat2",
        ),
        (
            "overlayfs",
            filesystem("overlay"),
            "images of union-mounted layers",
        ),
        (
            "erofs",
            filesystem("erofs"),
            "images as single files (file-backed from 6.12)",
        ),
        (
            "mount_setattr",
            facts.mount_setattr,
            "recursive read-only binds and id-mapped mounts",
        ),
        (
            "CLONE_INTO_CGROUP",
            facts.clone_into_cgroup,
            "processes born in their cgroup (v2)",
        ),
        (
            "user namespaces",
            facts.user_namespaces,
            "root in a container that is nobody on the host",
        ),
        (
            "time namespaces",
            facts.time_namespaces,
            "clocks of a container's own",
        ),
        (
            "pidfd exit codes",
            facts.pidfd_exit_code,
            "exit codes even when a shim was lost (6.15)",
        ),
        (
            "seccomp",
            has("/proc/sys/kernel/seccomp/actions_avail"),
            "system-call filters",
        ),
        (
            "AppArmor",
            facts.has_lsm("apparmor"),
            "the default AppArmor profile",
        ),
        ("SELinux", facts.has_lsm("selinux"), "labels"),
        (
            "CAP_SYS_RESOURCE",
            facts.can_raise_limits(),
            "hard resource limits above the engine's own",
        ),
        ("memory limit", support.memory, "--memory"),
        ("swap limit", support.swap, "--memory-swap"),
        ("cpu quota", support.cpu_quota, "--cpus"),
        ("cpu shares", support.cpu_shares, "--cpu-shares"),
        ("cpuset", support.cpuset, "--cpuset-cpus"),
        ("pids limit", support.pids, "--pids-limit"),
        ("blkio weight", support.blkio_weight, "--blkio-weight"),
        (
            "blkio throttling",
            support.blkio_throttle,
            "--device-read-bps and its kin",
        ),
        (
            "device rules",
            support.devices,
            "--device and --device-cgroup-rule",
        ),
        ("hugetlb", support.hugetlb, "huge page limits"),
    ];
    rows.into_iter()
        .map(|(name, there, what)| (name.to_owned(), (there, what.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_start_time_and_a_pidfd() {
        let kernel = HostKernel::probe().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(kernel.start_time(own).unwrap() > 0);
        assert!(kernel.pidfd(own).is_ok());
        assert!(kernel.pidfd(i32::MAX).is_err());
    }

    #[test]
    fn separators_in_layer_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b\\c")).unwrap(), "/a\\:b\\\\c");
    }
}
