//! Device nodes and the rules that allow them. Looks at the host's `/dev`.

use crate::containers::spec::{ContainerSpec, DeviceMapping, Resources};
use crate::{Error, Result};
use ferry_oci::runtime::{Device, DeviceRule};
use rustix::fs::{FileType, major, minor, stat};
use std::collections::BTreeMap;
use std::path::Path;

use super::BlockDevices;

/// How deep a directory of devices is walked, and how many nodes are taken at most.
const MAX_DEPTH: usize = 8;
const MAX_NODES: usize = 4096;

/// Nodes that are made and rules in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Devices {
    /// Made in the container.
    pub nodes: Vec<Device>,
    /// Allowed and denied.
    pub rules: Vec<DeviceRule>,
}

fn rule(allow: bool, kind: &str, numbers: (Option<i64>, Option<i64>), access: &str) -> DeviceRule {
    let kind = (!kind.is_empty()).then(|| kind.to_owned());
    DeviceRule {
        allow,
        kind,
        major: numbers.0,
        minor: numbers.1,
        access: Some(access.to_owned()),
    }
}

/// Docker's: nothing but null, zero, full, random, urandom, tty, console; fuse named as denied.
pub(crate) fn default_rules() -> Vec<DeviceRule> {
    let allowed = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
    let mut rules = vec![rule(false, "", (None, None), "rwm")];
    rules.extend(allowed.map(|(major, minor)| rule(true, "c", (Some(major), Some(minor)), "rwm")));
    rules.push(rule(false, "c", (Some(10), Some(229)), "rwm"));
    rules
}

/// The devices of a container.
///
/// # Errors
/// [`crate::Kind::Invalid`] for a path that is no device, or a rule or permission of wrong form.
pub(crate) fn devices(asked: &ContainerSpec) -> Result<Devices> {
    let resources = &asked.resources;
    if asked.isolation.privileged {
        let mut nodes = Vec::new();
        walk(Path::new("/dev"), "/dev", &mut nodes, 0);
        for mapping in resources.devices.iter().filter(|m| m.host != m.container) {
            nodes.extend(mapped(mapping)?.0);
        }
        return Ok(Devices {
            nodes,
            rules: vec![rule(true, "", (None, None), "rwm")],
        });
    }
    let mut all = Devices {
        nodes: Vec::new(),
        rules: default_rules(),
    };
    for mapping in &resources.devices {
        let (nodes, rules) = mapped(mapping)?;
        all.nodes.extend(nodes);
        all.rules.extend(rules);
    }
    for text in &resources.device_cgroup_rules {
        all.rules.push(parse_rule(text)?);
    }
    Ok(all)
}

fn mapped(mapping: &DeviceMapping) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    let DeviceMapping {
        host,
        container,
        permissions,
    } = mapping;
    let inside = if container.is_empty() { host } else { container };
    let access = if permissions.is_empty() {
        "rwm"
    } else {
        permissions
    };
    if access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(Error::invalid(format!("invalid device mode: {permissions}")));
    }
    let failed = |why: String| {
        Error::invalid(format!(
            "error gathering device information while adding custom device {host:?}: {why}"
        ))
    };
    let mut nodes = Vec::new();
    let found = std::fs::canonicalize(host).map_err(|e| failed(reason(&e)))?;
    if found.is_dir() {
        walk(&found, inside, &mut nodes, 0);
    } else {
        nodes.extend(node(&found, inside));
    }
    if nodes.is_empty() {
        return Err(failed("not a device node".into()));
    }
    let rules = nodes
        .iter()
        .map(|n| rule(true, &n.kind, (Some(n.major), Some(n.minor)), access))
        .collect();
    Ok((nodes, rules))
}

/// The system's words without Rust's number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// Every node below a directory, but for the terminals and memory that each container has of its own.
fn walk(dir: &Path, inside: &str, nodes: &mut Vec<Device>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        let path = format!("{}/{name}", inside.trim_end_matches('/'));
        let own = [
            "pts",
            "shm",
            "fd",
            "mqueue",
            ".lxc",
            ".lxd-mounts",
            ".udev",
            "console",
        ]
        .contains(&name);
        if own || nodes.len() >= MAX_NODES {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            walk(&entry.path(), &path, nodes, depth + 1);
        } else if !kind.is_symlink() {
            nodes.extend(node(&entry.path(), &path));
        }
    }
}

fn node(path: &Path, inside: &str) -> Option<Device> {
    let found = stat(path).ok()?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(Device {
        kind: kind.into(),
        path: inside.into(),
        major: i64::from(major(found.st_rdev)),
        minor: i64::from(minor(found.st_rdev)),
        file_mode: Some(found.st_mode & 0o7777),
        uid: Some(found.st_uid),
        gid: Some(found.st_gid),
    })
}

/// `c 42:* rmw`.
///
/// # Errors
/// [`crate::Kind::Invalid`].
pub(crate) fn parse_rule(text: &str) -> Result<DeviceRule> {
    let number = |t: &str| {
        if t == "*" {
            Some(-1)
        } else {
            t.parse::<i64>().ok().filter(|n| *n >= 0)
        }
    };
    let parsed = || {
        let mut words = text.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let sound = ["a", "b", "c"].contains(&kind)
            && (1..=3).contains(&access.len())
            && access.bytes().all(|b| b"rwm".contains(&b))
            && words.next().is_none();
        sound.then_some(rule(
            true,
            kind,
            (Some(number(major)?), Some(number(minor)?)),
            access,
        ))
    };
    parsed().ok_or_else(|| Error::invalid(format!("invalid device cgroup rule format: '{text}'")))
}

/// Numbers of the block devices that limits name.
///
/// # Errors
/// [`crate::Kind::Invalid`] for a path that is no block device.
pub(crate) fn block_devices(resources: &Resources) -> Result<BlockDevices> {
    let rates = [
        &resources.blkio_read_bps,
        &resources.blkio_write_bps,
        &resources.blkio_read_iops,
        &resources.blkio_write_iops,
    ];
    let paths = rates
        .into_iter()
        .flatten()
        .map(|(p, _)| p)
        .chain(resources.blkio_weight_device.iter().map(|(p, _)| p));
    let mut all = BTreeMap::new();
    for path in paths {
        let found =
            stat(path.as_str()).map_err(|e| Error::invalid(format!("{path}: {}", reason(&e.into()))))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
            return Err(Error::invalid(format!("{path}: not a block device")));
        }
        all.insert(
            path.clone(),
            (i64::from(major(found.st_rdev)), i64::from(minor(found.st_rdev))),
        );
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;

    #[test]
    fn rules_are_parsed_or_refused() {
        let parsed = parse_rule("c 42:* rmw").unwrap();
        assert_eq!(
            (parsed.kind.as_deref(), parsed.major, parsed.minor),
            (Some("c"), Some(42), Some(-1))
        );
        for bad in [
            "",
            "c 1 r",
            "x 1:1 r",
            "c 1:1 rx",
            "c 1:1  r",
            "c 1:1 rwmr",
            "c -1:2 r",
        ] {
            let error = parse_rule(bad).unwrap_err().to_string();
            assert_eq!(error, format!("invalid device cgroup rule format: '{bad}'"));
        }
    }

    #[test]
    fn a_mapped_device_is_made_and_allowed() {
        let mut spec = asked();
        let mapping = |host: &str| DeviceMapping {
            host: host.into(),
            container: "/dev/nul".into(),
            permissions: "r".into(),
        };
        spec.resources.devices = vec![mapping("/dev/null")];
        let made = devices(&spec).unwrap();
        assert_eq!(
            (
                made.nodes[0].path.as_str(),
                made.nodes[0].major,
                made.nodes[0].minor
            ),
            ("/dev/nul", 1, 3)
        );
        assert_eq!(made.rules.last().unwrap().access.as_deref(), Some("r"));
        for (host, why) in [
            ("/dev/no-such", "no such file or directory"),
            ("/etc/passwd", "not a device node"),
        ] {
            spec.resources.devices = vec![mapping(host)];
            let error = devices(&spec).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("error gathering device information while adding custom device {host:?}: {why}")
            );
        }
    }
}
