//! Volumes, binds and tmpfs of one container: settled at `create`, opened at `start`.

use super::core::Core;
use super::spec::{ContainerSpec, MountKind, MountSpec, NamespaceMode, NetworkMode};
use super::table::Container;
use super::to_oci::ResolvedMount;
use super::validate::clean_path;
use super::view::MountPoint;
use crate::volumes::Pin;
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `create` settles.
#[derive(Default)]
pub(crate) struct Settled {
    /// By destination.
    pub points: Vec<MountPoint>,
    /// Volumes made for this container alone.
    pub anonymous: Vec<String>,
    /// Volumes that want the image's content if they are empty: name and destination.
    pub fresh: Vec<(String, String)>,
    /// Held until the container is in the table.
    pub pins: Vec<Pin>,
}

/// Makes the volumes and says what is mounted where.
///
/// # Errors
/// [`crate::Kind::Invalid`]: `Duplicate mount point: x`, or a container of `--volumes-from` that is not there.
pub(crate) async fn settle(core: &Core, spec: &ContainerSpec) -> Result<Settled> {
    let mut settled = Settled::default();
    let mut points: BTreeMap<String, MountPoint> = BTreeMap::new();
    for from in &spec.volumes_from {
        for point in inherited(core, from)? {
            if !point.name.is_empty() {
                settled.pins.push(core.volumes.pin(&point.name));
            }
            points.insert(point.destination.clone(), point);
        }
    }
    let mut own = std::collections::BTreeSet::new();
    for mount in &spec.mounts {
        let destination = clean_path(&mount.target);
        let tmpfs = spec.tmpfs.keys().any(|t| clean_path(t) == destination);
        if !own.insert(destination.clone()) || tmpfs {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        let point = point(core, mount, &destination, &mut settled).await?;
        points.insert(destination, point);
    }
    for target in &spec.volumes {
        let destination = clean_path(target);
        let tmpfs = spec.tmpfs.keys().any(|t| clean_path(t) == destination);
        if points.contains_key(&destination) || tmpfs {
            continue;
        }
        let anonymous = anonymous(&destination);
        let point = point(core, &anonymous, &destination, &mut settled).await?;
        points.insert(destination, point);
    }
    settled.points = points.into_values().collect();
    Ok(settled)
}

/// A volume of the image's list.
fn anonymous(target: &str) -> MountSpec {
    MountSpec {
        kind: MountKind::Volume,
        source: String::new(),
        target: target.to_owned(),
        read_only: false,
        propagation: String::new(),
        non_recursive: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        create_source: false,
        no_copy: false,
        subpath: String::new(),
        volume_driver: String::new(),
        volume_options: BTreeMap::new(),
        volume_labels: BTreeMap::new(),
        tmpfs_size: 0,
        tmpfs_mode: 0,
        tmpfs_options: Vec::new(),
        mode: String::new(),
        from_mounts: false,
    }
}

/// `name[:ro|:rw]`.
fn inherited(core: &Core, from: &str) -> Result<Vec<MountPoint>> {
    let (key, mode) = from.split_once(':').unwrap_or((from, ""));
    if key.is_empty() {
        return Err(Error::invalid(
            "volumes-from specification cannot be an empty string",
        ));
    }
    if !["", "ro", "rw", "z", "Z"].contains(&mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let other = core.table.find(key).map_err(|e| Error::invalid(e.to_string()))?;
    let mut points = other.record().mounts.clone();
    points.iter_mut().for_each(|p| p.writable &= mode != "ro");
    Ok(points)
}

async fn point(
    core: &Core,
    mount: &MountSpec,
    destination: &str,
    settled: &mut Settled,
) -> Result<MountPoint> {
    let mut point = MountPoint {
        kind: mount.kind,
        name: String::new(),
        source: mount.source.clone(),
        destination: destination.to_owned(),
        driver: String::new(),
        mode: mount.mode.clone(),
        writable: !mount.read_only,
        propagation: String::new(),
    };
    match mount.kind {
        MountKind::Tmpfs => point.source = String::new(),
        MountKind::Bind => {
            point.source = clean_path(&mount.source);
            let given = &mount.propagation;
            point.propagation = if given.is_empty() {
                "rprivate".into()
            } else {
                given.clone()
            };
        }
        MountKind::Volume => {
            let (options, labels) = (mount.volume_options.clone(), mount.volume_labels.clone());
            let (view, pin) = core
                .volumes
                .create_pinned(&mount.source, &mount.volume_driver, options, labels)
                .await?;
            if mount.source.is_empty() {
                settled.anonymous.push(view.name.clone());
            }
            if !mount.no_copy && mount.subpath.is_empty() {
                settled.fresh.push((view.name.clone(), destination.to_owned()));
            }
            settled.pins.push(pin);
            if point.mode.is_empty() {
                point.mode = "z".into();
            }
            point.source = view.mountpoint;
            point.name = view.name;
            point.driver = view.driver;
        }
    }
    Ok(point)
}

/// Everything that is mounted at a start. Blocks: looks at the host.
///
/// # Errors
/// In Docker's words, for sources that are gone or cannot propagate.
pub(crate) fn resolve(core: &Core, container: &Container) -> Result<Vec<ResolvedMount>> {
    let record = container.record();
    let spec = &record.spec;
    let mut all = Vec::new();
    for point in &record.mounts {
        let asked = spec
            .mounts
            .iter()
            .find(|m| clean_path(&m.target) == point.destination);
        all.push(match point.kind {
            MountKind::Tmpfs => tmpfs(point, asked),
            MountKind::Volume => volume(core, point, asked)?,
            MountKind::Bind => bind(point, asked)?,
        });
    }
    for (target, options) in &spec.tmpfs {
        let options: Vec<String> = options
            .split(',')
            .filter(|o| !o.is_empty())
            .map(String::from)
            .collect();
        all.push(ResolvedMount {
            options,
            ..plain(None, &clean_path(target))
        });
    }
    files(core, container, &mut all)?;
    shared_memory(core, container, &mut all)?;
    Ok(all)
}

fn plain(source: Option<PathBuf>, destination: &str) -> ResolvedMount {
    ResolvedMount {
        source,
        destination: destination.to_owned(),
        writable: true,
        propagation: String::new(),
        non_recursive: false,
        read_only_non_recursive: false,
        options: Vec::new(),
    }
}

fn tmpfs(point: &MountPoint, asked: Option<&MountSpec>) -> ResolvedMount {
    let mut options = Vec::new();
    if let Some(asked) = asked {
        options.clone_from(&asked.tmpfs_options);
        if asked.tmpfs_size > 0 {
            options.push(format!("size={}", asked.tmpfs_size));
        }
        if asked.tmpfs_mode > 0 {
            options.push(format!("mode={:o}", asked.tmpfs_mode));
        }
    }
    ResolvedMount {
        writable: point.writable,
        options,
        ..plain(None, &point.destination)
    }
}

fn volume(core: &Core, point: &MountPoint, asked: Option<&MountSpec>) -> Result<ResolvedMount> {
    let mut source = core.volumes.source(&point.name)?;
    if let Some(subpath) = asked.map(|a| a.subpath.as_str()).filter(|s| !s.is_empty()) {
        source = beneath(&source, subpath)?;
    }
    Ok(ResolvedMount {
        writable: point.writable,
        propagation: "rprivate".into(),
        ..plain(Some(source), &point.destination)
    })
}

/// A path below a volume, with no symbolic link that leads out of it.
fn beneath(root: &Path, subpath: &str) -> Result<PathBuf> {
    let root = std::fs::canonicalize(root)
        .map_err(|e| Error::internal(format!("opening volume {}", root.display()), e))?;
    let found = std::fs::canonicalize(root.join(subpath)).map_err(|_| {
        Error::new(
            Kind::Internal,
            format!("cannot access path {subpath}: no such file or directory"),
        )
    })?;
    if found.starts_with(&root) {
        return Ok(found);
    }
    Err(Error::invalid(format!(
        "subpath {subpath} leads out of its volume"
    )))
}

fn bind(point: &MountPoint, asked: Option<&MountSpec>) -> Result<ResolvedMount> {
    let source = Path::new(&point.source);
    if !source.exists() {
        if !asked.is_none_or(|a| a.create_source) {
            let text = format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                point.source
            );
            return Err(Error::invalid(text));
        }
        std::fs::create_dir_all(source).map_err(|e| {
            Error::internal(
                format!("error while creating mount source path '{}'", point.source),
                e,
            )
        })?;
    }
    propagates(&point.source, &point.propagation)?;
    Ok(ResolvedMount {
        writable: point.writable,
        propagation: point.propagation.clone(),
        non_recursive: asked.is_some_and(|a| a.non_recursive),
        read_only_non_recursive: asked.is_some_and(|a| a.read_only_non_recursive),
        ..plain(Some(source.to_path_buf()), &point.destination)
    })
}

/// Refuses a propagation that the kernel would silently not give.
fn propagates(source: &str, propagation: &str) -> Result<()> {
    let wanted = propagation.strip_prefix('r').unwrap_or(propagation);
    if !["shared", "slave"].contains(&wanted) {
        return Ok(());
    }
    let real =
        std::fs::canonicalize(source).map_err(|e| Error::internal(format!("looking at {source}"), e))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::internal("reading the mounts", e))?;
    let (mount, options) = mount_of(&table, &real.to_string_lossy()).unwrap_or_default();
    let shared = options.iter().any(|o| o.starts_with("shared:"));
    let slave = options.iter().any(|o| o.starts_with("master:"));
    match wanted {
        "shared" if !shared => Err(Error::new(
            Kind::Internal,
            format!("path {source} is mounted on {mount} but it is not a shared mount"),
        )),
        "slave" if !shared && !slave => {
            let text = format!("path {source} is mounted on {mount} but it is not a shared or slave mount");
            Err(Error::new(Kind::Internal, text))
        }
        _ => Ok(()),
    }
}

/// The mount that a path lies on, and its optional fields (proc_pid_mountinfo(5)).
fn mount_of(table: &str, path: &str) -> Option<(String, Vec<String>)> {
    let mut best: Option<(String, Vec<String>)> = None;
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4) else { continue };
        let optional: Vec<String> = fields
            .skip(1)
            .take_while(|f| *f != "-")
            .map(String::from)
            .collect();
        let covers =
            point == "/" || path == point || path.strip_prefix(point).is_some_and(|r| r.starts_with('/'));
        if covers && best.as_ref().is_none_or(|(b, _)| point.len() >= b.len()) {
            best = Some((point.to_owned(), optional));
        }
    }
    best
}

/// hosts, hostname and resolv.conf: the container's own, or those of the one whose network it joins.
fn files(core: &Core, container: &Container, all: &mut Vec<ResolvedMount>) -> Result<()> {
    let record = container.record();
    let owner = match &record.spec.network.mode {
        NetworkMode::Container(key) => core.table.find(key)?.id.clone(),
        _ => container.id.clone(),
    };
    let dir = core.dir(&owner);
    for (file, destination) in [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ] {
        if !all.iter().any(|m| m.destination == destination) {
            let mount = plain(Some(dir.join(file)), destination);
            all.push(ResolvedMount {
                propagation: "rprivate".into(),
                writable: !record.spec.read_only_root,
                ..mount
            });
        }
    }
    Ok(())
}

/// A `/dev/shm` that others can join lies in the runtime directory.
fn shared_memory(core: &Core, container: &Container, all: &mut Vec<ResolvedMount>) -> Result<()> {
    let owner = match &container.record().spec.isolation.ipc {
        NamespaceMode::Shareable => container.id.clone(),
        NamespaceMode::Container(key) => core.table.find(key)?.id.clone(),
        _ => return Ok(()),
    };
    if !all.iter().any(|m| m.destination == "/dev/shm") {
        let source = core.runtime_dir(&owner).join("shm");
        all.push(ResolvedMount {
            propagation: "rprivate".into(),
            ..plain(Some(source), "/dev/shm")
        });
    }
    Ok(())
}

/// The first process of another container whose namespace is joined.
///
/// # Errors
/// [`Kind::Conflict`] when it does not run or may not be joined.
pub(crate) fn joined(core: &Core, own: &str, key: &str, what: &str) -> Result<(Arc<Container>, i32)> {
    let other = core
        .table
        .find(key)
        .map_err(|e| Error::new(e.kind(), format!("failed to join {what} namespace: {e}")))?;
    if other.id == own {
        return Err(Error::new(
            Kind::Internal,
            format!("cannot join own {what} namespace"),
        ));
    }
    let state = other.state();
    let name = other.record().name.clone();
    if state.alive() {
        return Ok((other, state.pid));
    }
    let status = format!("{:?}", state.status()).to_lowercase();
    Err(Error::conflict(format!(
        "cannot join {what} namespace of a non running container: container {name} is {status}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_is_a_path_s() {
        let table = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
                     30 22 0:5 / /srv rw - tmpfs tmpfs rw\n\
                     31 22 0:6 / /srvother rw master:3 - tmpfs tmpfs rw\n";
        assert_eq!(mount_of(table, "/srv/data"), Some(("/srv".into(), vec![])));
        assert_eq!(
            mount_of(table, "/home"),
            Some(("/".into(), vec!["shared:1".into()]))
        );
        assert_eq!(mount_of(table, "/srvother").unwrap().1, ["master:3"]);
    }

    #[test]
    fn a_subpath_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        assert!(beneath(dir.path(), "in").is_ok());
        assert!(beneath(dir.path(), "out").is_err());
        assert!(beneath(dir.path(), "gone").is_err());
    }
}
