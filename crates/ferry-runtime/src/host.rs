//! What this kernel and this process's privileges offer, probed once.

use ferry_sys::process;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Facts about the host that plans depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `uname -r`.
    pub release: String,
    /// The kernel's version, as far as features depend on it.
    pub version: (u32, u32),
    /// The active security modules, in the kernel's order (`/sys/kernel/security/lsm`); empty when it cannot be read.
    pub lsm: Vec<String>,
    /// Where the controllers are.
    pub cgroups: CgroupMode,
    /// The capabilities in our bounding set, as a bit mask.
    pub bounding: u64,
    /// The capabilities we have in effect, as a bit mask.
    pub effective: u64,
    /// The highest capability number that the kernel knows.
    pub last_capability: u32,
    /// mount_setattr(2), from 5.12.
    pub mount_setattr: bool,
    /// `CLONE_INTO_CGROUP`, from 5.7.
    pub clone_into_cgroup: bool,
    /// Time namespaces are configured.
    pub time_namespaces: bool,
    /// User namespaces are configured.
    pub user_namespaces: bool,
    /// overlay's `lowerdir+`, from 6.5.
    pub overlay_lowerdir_plus: bool,
    /// procfs's `pidns` option, from 6.17.
    pub procfs_pidns: bool,
    /// Detached mounts can be cloned and mounted on, from 6.15.
    pub detached_clone: bool,
    /// pidfds tell the exit code to processes that are not the parent, from 6.15.
    pub pidfd_exit_code: bool,
    /// Our effective user id is not 0.
    pub rootless: bool,
}

/// How the machine's cgroups are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// There is none.
    #[default]
    None,
    /// v1 alone.
    V1,
    /// v1 controllers and an unified tree beside them.
    Hybrid,
    /// The unified tree alone.
    V2,
}

const CAP_SYS_RESOURCE: u32 = 24;
const CAP_LAST_KNOWN: u32 = 40;

impl HostFacts {
    /// Asks the kernel. Some twenty system calls; keep the answer.
    pub fn probe() -> io::Result<HostFacts> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let version = version_of(&release);
        let [effective, _, _] = process::capget()?;
        let (bounding, last_capability) = bounding_set()?;
        Ok(HostFacts {
            version,
            lsm: security_modules(),
            cgroups: cgroup_mode(),
            bounding,
            effective,
            last_capability,
            mount_setattr: version >= (5, 12),
            clone_into_cgroup: version >= (5, 7),
            time_namespaces: Path::new("/proc/self/ns/time").exists(),
            user_namespaces: Path::new("/proc/self/ns/user").exists(),
            overlay_lowerdir_plus: version >= (6, 5),
            procfs_pidns: version >= (6, 17),
            detached_clone: version >= (6, 15),
            pidfd_exit_code: version >= (6, 15),
            rootless: !rustix::process::geteuid().is_root(),
            release,
        })
    }

    /// Whether hard resource limits can be raised.
    pub fn can_raise_limits(&self) -> bool {
        self.effective & (1 << CAP_SYS_RESOURCE) != 0
    }

    /// Whether a security module of that name is active.
    pub fn has_lsm(&self, name: &str) -> bool {
        self.lsm.iter().any(|l| l == name)
    }
}

pub(crate) fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn security_modules() -> Vec<String> {
    let listed = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mut modules: Vec<String> = listed
        .trim()
        .split(',')
        .filter(|m| !m.is_empty())
        .map(Into::into)
        .collect();
    // securityfs is often not mounted in containers; AppArmor's own switch is visible all the same.
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if modules.is_empty() && enabled.starts_with('Y') {
        modules.push("apparmor".into());
    }
    modules
}

/// The magic number of the file system at the usual mount point tells the modes apart (statfs(2)).
fn cgroup_mode() -> CgroupMode {
    const CGROUP2: u64 = 0x6367_7270;
    let magic = |path: &str| rustix::fs::statfs(path).map(|s| s.f_type as u64).unwrap_or(0);
    match magic("/sys/fs/cgroup") {
        CGROUP2 => CgroupMode::V2,
        0 => CgroupMode::None,
        _ if magic("/sys/fs/cgroup/unified") == CGROUP2 => CgroupMode::Hybrid,
        _ if Path::new("/sys/fs/cgroup/memory").exists() || Path::new("/sys/fs/cgroup/cpu").exists() => {
            CgroupMode::V1
        }
        _ => CgroupMode::None,
    }
}

/// The bounding set, and the highest capability that the kernel knows.
fn bounding_set() -> io::Result<(u64, u32)> {
    let mut set = 0;
    let mut last = 0;
    for capability in 0..64 {
        match process::has_bounding(capability) {
            Ok(has) => {
                last = capability;
                set |= u64::from(has) << capability;
            }
            Err(_) if capability > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    debug_assert!(last >= CAP_LAST_KNOWN || set != 0);
    Ok((set, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse() {
        assert_eq!(version_of("6.18.44-fc-v669"), (6, 18));
        assert_eq!(version_of("6.1.0-28-amd64"), (6, 1));
        assert_eq!(version_of(""), (0, 0));
    }

    #[test]
    fn probing_works_and_survives_json() {
        let facts = HostFacts::probe().unwrap();
        assert!(facts.version > (4, 0));
        let again: HostFacts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        assert_eq!(again, facts);
    }
}
