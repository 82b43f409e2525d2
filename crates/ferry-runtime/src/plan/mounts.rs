//! Mounts and their options, in mount(8)'s words.

use super::namespaces::Layout;
use super::{
    Bind, CgroupMount, FileSystem, Options, PlanError, Step, beneath, clean, cstring, invalid, lies_in,
    unsupported,
};
use crate::host::{CgroupMode, HostFacts};
use ferry_oci::runtime::{Mount, NamespaceKind, Spec};
use ferry_sys::mount::{MountAttr, attr};
use std::ffi::CString;

/// `MS_REC` and the four propagation types, of linux/mount.h.
pub(super) const REC: u64 = 0x4000;
const UNBINDABLE: u64 = 1 << 17;
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

/// Files in procfs that may be mounted over, since they tell of resources and hold no switch.
const MAY_COVER: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
];

/// What a list of options asks for.
#[derive(Default)]
struct Parsed {
    bind: bool,
    recursive: bool,
    attributes: MountAttr,
    recursive_attributes: MountAttr,
    propagation: u64,
    copy_up: bool,
    parameters: Vec<(CString, Option<CString>)>,
}

/// `MS_…` for a propagation's name, recursive with `r` before it.
pub(super) fn propagation(name: &str) -> Option<u64> {
    let (name, recursive) = match name.strip_prefix('r') {
        Some(rest) => (rest, REC),
        None => (name, 0),
    };
    let kind = match name {
        "private" => PRIVATE,
        "slave" => SLAVE,
        "shared" => SHARED,
        "unbindable" => UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// Every option that is not a file system's own, for `features`.
pub(crate) fn option_names() -> Vec<String> {
    const ATTRIBUTES: [&str; 17] = [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "nodiratime",
        "diratime",
        "nosymfollow",
        "symfollow",
        "noatime",
        "atime",
        "relatime",
        "norelatime",
        "strictatime",
    ];
    const OTHERS: [&str; 9] = [
        "async",
        "bind",
        "defaults",
        "loud",
        "nomand",
        "nostrictatime",
        "rbind",
        "silent",
        "tmpcopyup",
    ];
    let mut names: Vec<String> = OTHERS.map(str::to_owned).into();
    for name in ["private", "slave", "shared", "unbindable"] {
        names.extend([name.to_owned(), format!("r{name}")]);
    }
    names.extend(
        ATTRIBUTES
            .iter()
            .flat_map(|name| [(*name).to_owned(), format!("r{name}")]),
    );
    names.sort();
    names
}

/// An option that sets (true) or clears (false) attributes; access time modes clear the others.
fn attribute(name: &str) -> Option<(bool, u64)> {
    Some(match name {
        "ro" => (true, attr::RDONLY),
        "rw" => (false, attr::RDONLY),
        "nosuid" => (true, attr::NOSUID),
        "suid" => (false, attr::NOSUID),
        "nodev" => (true, attr::NODEV),
        "dev" => (false, attr::NODEV),
        "noexec" => (true, attr::NOEXEC),
        "exec" => (false, attr::NOEXEC),
        "nodiratime" => (true, attr::NODIRATIME),
        "diratime" => (false, attr::NODIRATIME),
        "nosymfollow" => (true, attr::NOSYMFOLLOW),
        "symfollow" => (false, attr::NOSYMFOLLOW),
        "noatime" => (true, attr::NOATIME),
        "strictatime" => (true, attr::STRICTATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (false, attr::ATIME),
        _ => return None,
    })
}

fn apply(to: &mut MountAttr, set: bool, bits: u64) {
    if bits & attr::ATIME != 0 {
        to.set &= !attr::ATIME;
        to.clear |= attr::ATIME;
    } else if set {
        to.clear &= !bits;
    } else {
        to.clear |= bits;
        to.set &= !bits;
    }
    if set {
        to.set |= bits;
    }
}

fn parse(mount: &Mount) -> Result<Parsed, PlanError> {
    let mut parsed = Parsed {
        bind: mount.kind == "bind",
        ..Parsed::default()
    };
    for option in &mount.options {
        match option.as_str() {
            "bind" => parsed.bind = true,
            "rbind" => (parsed.bind, parsed.recursive) = (true, true),
            "tmpcopyup" => parsed.copy_up = true,
            "defaults" | "async" | "nomand" | "silent" | "loud" | "nolazytime" | "noiversion" | "" => {}
            "idmap" | "ridmap" | "remount" => {
                return Err(unsupported(
                    format!("mounts[{}].options", mount.destination),
                    format!("{option:?} is not there yet"),
                ));
            }
            name => {
                let recursive = name.strip_prefix('r').and_then(attribute);
                if let Some((set, bits)) = attribute(name) {
                    apply(&mut parsed.attributes, set, bits);
                } else if let Some((set, bits)) = recursive {
                    apply(&mut parsed.recursive_attributes, set, bits);
                } else if let Some(kind) = propagation(name) {
                    parsed.propagation = kind;
                } else {
                    parsed.parameters.push(parameter(mount, name)?);
                }
            }
        }
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(unsupported(
            format!("mounts[{}].uidMappings", mount.destination),
            "id-mapped mounts are not there yet",
        ));
    }
    Ok(parsed)
}

fn parameter(mount: &Mount, option: &str) -> Result<(CString, Option<CString>), PlanError> {
    let field = format!("mounts[{}].options", mount.destination);
    Ok(match option.split_once('=') {
        Some((key, value)) => (cstring(&field, key)?, Some(cstring(&field, value)?)),
        None => (cstring(&field, option)?, None),
    })
}

/// Before the first mount: nothing may reach the host, the root must be there, and a procfs that nobody has touched.
pub(super) fn prepare(spec: &Spec, layout: &Layout, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    if !layout.has(NamespaceKind::Mount) {
        return Err(unsupported(
            "linux.namespaces",
            "a container needs a mount namespace: the root file system would be mounted over the host's",
        ));
    }
    let wanted = spec.linux.as_ref().map_or("", |l| l.rootfs_propagation.as_str());
    let kind = match wanted {
        "" => SLAVE | REC,
        name => propagation(name).ok_or_else(|| {
            invalid(
                "linux.rootfsPropagation",
                format!("{name:?} is not a propagation type"),
            )
        })?,
    };
    // An unbindable tree could not be pivoted to; its own root becomes unbindable at the end.
    let first = if kind & UNBINDABLE != 0 {
        PRIVATE | REC
    } else {
        kind | REC
    };
    steps.push(Step::Propagate(first));
    steps.push(Step::AttachRoot {
        private_parent: kind & SHARED != 0,
    });
    steps.push(Step::OpenProc);
    layout.time_steps(steps)
}

/// The step of one mount.
pub(super) fn step(
    index: usize,
    mount: &Mount,
    label: &str,
    layout: &Layout,
    facts: &HostFacts,
) -> Result<Step, PlanError> {
    let destination = beneath("mounts.destination", &mount.destination)?;
    let mut parsed = parse(mount)?;
    let in_proc = may_cover(mount, &parsed)?;
    if parsed.bind {
        return bind(index, mount, parsed, destination, in_proc, facts);
    }
    if mount.kind == "cgroup" || mount.kind == "cgroup2" {
        if layout.cgroups == CgroupMode::None {
            return Err(unsupported("mounts.type", "this machine has no cgroups mounted"));
        }
        return Ok(Step::Cgroups(CgroupMount {
            destination,
            attributes: parsed.attributes.set,
            v1: layout.cgroups != CgroupMode::V2,
            private: layout.has(NamespaceKind::Cgroup),
        }));
    }
    if mount.kind.is_empty() {
        return Err(invalid(
            format!("mounts[{}].type", mount.destination),
            "is empty, and the options have neither bind nor rbind",
        ));
    }
    if !label.is_empty() && !matches!(mount.kind.as_str(), "proc" | "sysfs") {
        if !facts.has_lsm("selinux") {
            return Err(unsupported(
                "linux.mountLabel",
                "this kernel has no active SELinux",
            ));
        }
        parsed
            .parameters
            .push((c"context".into(), Some(cstring("linux.mountLabel", label)?)));
    }
    parsed.attributes.set |= parsed.recursive_attributes.set;
    if parsed.attributes.set & attr::RDONLY != 0 && has_writable_disk(&mount.kind) {
        parsed.parameters.push((c"ro".into(), None));
    }
    let source = if mount.source.is_empty() {
        &mount.kind
    } else {
        &mount.source
    };
    Ok(Step::FileSystem(FileSystem {
        index,
        kind: cstring("mounts.type", &mount.kind)?,
        source: cstring("mounts.source", source)?,
        parameters: parsed.parameters,
        attributes: parsed.attributes.set,
        propagation: parsed.propagation,
        destination,
        copy_up: parsed.copy_up && mount.kind == "tmpfs",
    }))
}

/// Read-only for the mount is not enough where the file system would replay a journal.
fn has_writable_disk(kind: &str) -> bool {
    !matches!(
        kind,
        "proc" | "sysfs" | "tmpfs" | "mqueue" | "devpts" | "ramfs" | "overlay" | "securityfs" | "bpf"
    )
}

/// Nothing but procfs itself and a few harmless files may be mounted in procfs, nor anything over sysfs's switches.
fn may_cover(mount: &Mount, parsed: &Parsed) -> Result<bool, PlanError> {
    if !lies_in(&mount.destination, "/proc") || (!parsed.bind && mount.kind == "proc") {
        return Ok(false);
    }
    let place = clean(&mount.destination);
    let whole_proc = place == "/proc" && parsed.bind && lies_in(&mount.source, "/proc");
    if MAY_COVER.contains(&place.as_str()) || whole_proc {
        return Ok(true);
    }
    Err(invalid(
        "mounts.destination",
        format!(
            "\"{}\" cannot be mounted because it is inside /proc",
            mount.destination
        ),
    ))
}

fn bind(
    index: usize,
    mount: &Mount,
    parsed: Parsed,
    destination: CString,
    in_proc: bool,
    facts: &HostFacts,
) -> Result<Step, PlanError> {
    if mount.source.is_empty() {
        return Err(invalid(
            format!("mounts[{}].source", mount.destination),
            "is empty",
        ));
    }
    if !parsed.recursive_attributes.is_empty() && !facts.mount_setattr {
        return Err(unsupported(
            "mounts.options",
            "recursive attributes need kernel 5.12",
        ));
    }
    Ok(Step::Bind(Bind {
        index,
        source: cstring("mounts.source", &mount.source)?,
        recursive: parsed.recursive,
        attributes: parsed.attributes,
        recursive_attributes: parsed.recursive_attributes,
        propagation: parsed.propagation,
        destination,
        in_proc,
    }))
}

/// After everything is mounted and masked.
pub(super) fn finish(spec: &Spec, options: &Options, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    if spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Step::RootReadOnly);
    }
    let wanted = spec.linux.as_ref().map_or("", |l| l.rootfs_propagation.as_str());
    if let Some(kind) = propagation(wanted) {
        steps.push(Step::RootPropagation(kind));
    }
    steps.push(if options.no_pivot {
        Step::MoveRoot
    } else {
        Step::Pivot
    });
    Ok(())
}
