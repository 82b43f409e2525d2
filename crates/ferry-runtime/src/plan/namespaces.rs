//! Which namespaces are new, which are joined, which stay the runtime's.

use super::{IdMaps, Options, PlanError, Step, cstring, invalid, unsupported};
use crate::host::{CgroupMode, HostFacts};
use ferry_oci::runtime::{IdMapping, Linux, NamespaceKind, Spec};
use ferry_sys::clone;
use std::fmt::Write;
use std::path::PathBuf;

/// A container's namespaces.
pub(super) struct Layout {
    new: Vec<NamespaceKind>,
    pub joined: Vec<(NamespaceKind, PathBuf)>,
    pub id_maps: Option<IdMaps>,
    pub time_offsets: Option<String>,
    pub cgroups: CgroupMode,
    rootless: bool,
}

/// The `CLONE_NEW…` flag of a namespace kind.
pub(crate) fn flag(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => clone::NEWPID,
        NamespaceKind::Network => clone::NEWNET,
        NamespaceKind::Mount => clone::NEWNS,
        NamespaceKind::Ipc => clone::NEWIPC,
        NamespaceKind::Uts => clone::NEWUTS,
        NamespaceKind::User => clone::NEWUSER,
        NamespaceKind::Cgroup => clone::NEWCGROUP,
        NamespaceKind::Time => clone::NEWTIME,
    }
}

impl Layout {
    pub fn of(linux: &Linux, facts: &HostFacts) -> Result<Layout, PlanError> {
        let mut layout = Layout {
            new: Vec::new(),
            joined: Vec::new(),
            id_maps: None,
            time_offsets: None,
            cgroups: facts.cgroups,
            rootless: facts.rootless,
        };
        for namespace in &linux.namespaces {
            let kind = namespace.kind;
            if layout.has(kind) {
                return Err(invalid("linux.namespaces", format!("names {kind:?} twice")));
            }
            if kind == NamespaceKind::Time && !facts.time_namespaces
                || kind == NamespaceKind::User && !facts.user_namespaces
            {
                return Err(unsupported(
                    "linux.namespaces",
                    format!("this kernel is built without {kind:?} namespaces"),
                ));
            }
            match namespace.path.as_deref().filter(|p| !p.is_empty()) {
                Some(path) if !path.starts_with('/') => {
                    return Err(invalid(
                        "linux.namespaces.path",
                        format!("{path:?} is not absolute"),
                    ));
                }
                Some(path) => layout.joined.push((kind, path.into())),
                None => layout.new.push(kind),
            }
        }
        layout.map_ids(linux)?;
        layout.offset_clocks(linux)?;
        Ok(layout)
    }

    fn map_ids(&mut self, linux: &Linux) -> Result<(), PlanError> {
        let any = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        if !self.is_new(NamespaceKind::User) {
            if any && !self.has(NamespaceKind::User) {
                return Err(invalid(
                    "linux.uidMappings",
                    "needs a user namespace in linux.namespaces",
                ));
            }
            return Ok(());
        }
        if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
            return Err(invalid(
                "linux.uidMappings",
                "a new user namespace needs uidMappings and gidMappings",
            ));
        }
        self.id_maps = Some(IdMaps {
            uids: id_map("linux.uidMappings", &linux.uid_mappings)?,
            gids: id_map("linux.gidMappings", &linux.gid_mappings)?,
        });
        Ok(())
    }

    fn offset_clocks(&mut self, linux: &Linux) -> Result<(), PlanError> {
        if linux.time_offsets.is_empty() {
            return Ok(());
        }
        if !self.is_new(NamespaceKind::Time) {
            return Err(invalid(
                "linux.timeOffsets",
                "needs a new time namespace in linux.namespaces",
            ));
        }
        let mut text = String::new();
        for (clock, offset) in &linux.time_offsets {
            if clock != "monotonic" && clock != "boottime" {
                return Err(invalid(
                    "linux.timeOffsets",
                    format!("{clock:?} is neither monotonic nor boottime"),
                ));
            }
            let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
        }
        self.time_offsets = Some(text);
        Ok(())
    }

    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.new.contains(&kind)
    }

    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.is_new(kind) || self.joined.iter().any(|(k, _)| *k == kind)
    }

    pub fn kinds(&self) -> Vec<NamespaceKind> {
        self.new
            .iter()
            .copied()
            .chain(self.joined.iter().map(|(k, _)| *k))
            .collect()
    }

    /// A user namespace other than the runtime's: device nodes cannot be made in it.
    pub fn in_user_namespace(&self) -> bool {
        self.has(NamespaceKind::User)
    }

    /// The time namespace is unshared by the caller and the cgroup one by the child, so neither is here.
    pub fn clone_flags(&self) -> u64 {
        self.new
            .iter()
            .filter(|k| !matches!(k, NamespaceKind::Time | NamespaceKind::Cgroup))
            .fold(0, |flags, k| flags | flag(*k))
    }

    /// Before any mount.
    pub fn first_steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::JoinCgroups];
        // Entering a user namespace gives rights over what it owns and takes those over what the host owns: the
        // privileged enter it last, the others first. Joining a pid namespace is about children: the last clone enters.
        let mut kinds: Vec<_> = self.joined.iter().map(|(k, _)| *k).collect();
        kinds.sort_by_key(|k| (*k == NamespaceKind::User) != self.rootless);
        steps.extend(kinds.into_iter().map(Step::Join));
        if self.in_user_namespace() {
            steps.push(Step::BecomeMapped);
        }
        if self.is_new(NamespaceKind::Cgroup) {
            steps.push(Step::UnshareCgroup);
        }
        steps
    }

    /// The clocks, once there is a procfs to write their offsets to.
    pub fn time_steps(&self, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        if self.is_new(NamespaceKind::Time) {
            let offsets = self
                .time_offsets
                .as_deref()
                .map(|o| cstring("linux.timeOffsets", o))
                .transpose()?;
            steps.push(Step::TimeNamespace(offsets));
        }
        Ok(())
    }

    /// Names, loopback and kernel parameters.
    pub fn settings(&self, spec: &Spec, options: &Options, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        if self.is_new(NamespaceKind::Network) && !options.keep_loopback_down {
            steps.push(Step::Loopback);
        }
        for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
            if name.is_empty() {
                continue;
            }
            if !self.has(NamespaceKind::Uts) {
                return Err(invalid(
                    field,
                    "needs a uts namespace: it would change the host's",
                ));
            }
            if name.len() > 64 {
                return Err(invalid(field, "is longer than the kernel's 64 bytes"));
            }
            let name = cstring(field, name)?;
            steps.push(if field == "hostname" {
                Step::Hostname(name)
            } else {
                Step::Domainname(name)
            });
        }
        let sysctls = spec.linux.as_ref().map(|l| &l.sysctl);
        for (name, value) in sysctls.into_iter().flatten() {
            steps.push(self.sysctl(name, value)?);
        }
        Ok(())
    }

    /// Only parameters that a namespace of the container's own holds: all others would be the host's.
    fn sysctl(&self, name: &str, value: &str) -> Result<Step, PlanError> {
        const IPC: [&str; 8] = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ];
        // Either separator, as sysctl(8): the first one that appears is the separator.
        let dotted: String = if name.find('/') < name.find('.') && name.contains('/') || !name.contains('.') {
            name.chars()
                .map(|c| {
                    if c == '/' {
                        '.'
                    } else if c == '.' {
                        '/'
                    } else {
                        c
                    }
                })
                .collect()
        } else {
            name.to_owned()
        };
        let needs = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            NamespaceKind::Ipc
        } else if dotted.starts_with("net.") {
            NamespaceKind::Network
        } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
            NamespaceKind::Uts
        } else {
            return Err(invalid(
                "linux.sysctl",
                format!("sysctl \"{name}\" is not in a separate kernel namespace"),
            ));
        };
        if !self.has(needs) {
            return Err(invalid(
                "linux.sysctl",
                format!("sysctl \"{name}\" is not allowed in the host's {needs:?} namespace"),
            ));
        }
        let path: String = dotted
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect();
        if path
            .split('/')
            .any(|part| part.is_empty() || part == ".." || part == ".")
        {
            return Err(invalid(
                "linux.sysctl",
                format!("{name:?} is not a parameter's name"),
            ));
        }
        Ok(Step::Sysctl(
            cstring("linux.sysctl", &path)?,
            cstring("linux.sysctl", value)?,
        ))
    }
}

fn id_map(field: &str, ranges: &[IdMapping]) -> Result<String, PlanError> {
    let mut text = String::new();
    for range in ranges {
        let fits = |start: u32| u64::from(start) + u64::from(range.size) <= 1 << 32;
        if range.size == 0 || !fits(range.container_id) || !fits(range.host_id) {
            return Err(invalid(field, "a range is empty or ends above 2^32"));
        }
        let _ = writeln!(text, "{} {} {}", range.container_id, range.host_id, range.size);
    }
    Ok(text)
}
