//! Mounts: Docker's own, then the user's in the order of their depth.

use super::{Inputs, ResolvedMount};
use crate::containers::spec::NamespaceMode;
use ferry_oci::runtime::Mount;

fn own(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|o| (*o).into()).collect(),
        ..Mount::default()
    }
}

fn defaults() -> Vec<Mount> {
    vec![
        own("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        own(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        own(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        own("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        own(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        // Shows the queues of the ipc namespace that it is mounted in: the host's where that is shared.
        own("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        own(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777"],
        ),
    ]
}

pub(super) fn mounts(inputs: &Inputs<'_>, writable_cgroups: bool) -> Vec<Mount> {
    let mut user: Vec<&ResolvedMount> = inputs.mounts.iter().collect();
    user.sort_by_key(|m| depth(&m.destination));
    let taken = |path: &str| user.iter().any(|m| m.destination == path);
    let own_dev = taken("/dev");
    let mut all: Vec<Mount> = Vec::new();
    for mut mount in defaults() {
        let hidden = own_dev && mount.destination.starts_with("/dev/");
        if hidden || taken(&mount.destination) || !wanted(inputs, &mount) {
            continue;
        }
        adapt(inputs, &mut mount, writable_cgroups);
        all.push(mount);
    }
    all.extend(user.iter().map(|m| resolved(m)));
    all
}

/// Without its own memory file system where the ipc namespace has none or another's.
fn wanted(inputs: &Inputs<'_>, mount: &Mount) -> bool {
    let isolation = &inputs.spec.isolation;
    match mount.destination.as_str() {
        "/dev/shm" => !matches!(isolation.ipc, NamespaceMode::None | NamespaceMode::Container(_)),
        _ => true,
    }
}

fn adapt(inputs: &Inputs<'_>, mount: &mut Mount, writable_cgroups: bool) {
    let isolation = &inputs.spec.isolation;
    match mount.destination.as_str() {
        "/dev/shm" if isolation.ipc == NamespaceMode::Host => {
            *mount = own("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"]);
        }
        "/dev/shm" => mount.options.push(format!("size={}", inputs.spec.shm_size)),
        "/sys" if isolation.privileged => writable(mount),
        "/sys/fs/cgroup" if writable_cgroups => writable(mount),
        _ => {}
    }
}

fn writable(mount: &mut Mount) {
    mount.options.retain(|o| o != "ro");
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|p| !p.is_empty()).count()
}

fn resolved(mount: &ResolvedMount) -> Mount {
    let Some(source) = &mount.source else {
        return Mount {
            options: tmpfs_options(mount),
            ..own(&mount.destination, "tmpfs", "tmpfs", &[])
        };
    };
    let mut options = vec![if mount.non_recursive { "bind" } else { "rbind" }.to_owned()];
    if !mount.writable {
        options.push(
            if mount.read_only_non_recursive || mount.non_recursive {
                "ro"
            } else {
                "rro"
            }
            .to_owned(),
        );
    }
    if !mount.propagation.is_empty() {
        options.push(mount.propagation.clone());
    }
    Mount {
        options,
        ..own(&mount.destination, "bind", &source.to_string_lossy(), &[])
    }
}

/// Docker's defaults, each given way to its opposite where the user asked for it.
fn tmpfs_options(mount: &ResolvedMount) -> Vec<String> {
    let opposite = |o: &str| match o {
        "noexec" => "exec",
        "nosuid" => "suid",
        "nodev" => "dev",
        _ => "",
    };
    let asked = &mount.options;
    let mut all: Vec<String> = ["noexec", "nosuid", "nodev"]
        .into_iter()
        .filter(|o| !asked.iter().any(|a| a == opposite(o) || a == o))
        .map(String::from)
        .collect();
    if !mount.writable && !asked.iter().any(|a| a == "ro") {
        all.push("ro".into());
    }
    all.extend(asked.iter().cloned());
    all
}

/// Shared or slave binds need a root that lets events through.
pub(super) fn root_propagation(mounts: &[ResolvedMount]) -> String {
    let any = |wanted: [&str; 2]| mounts.iter().any(|m| wanted.contains(&m.propagation.as_str()));
    match (any(["shared", "rshared"]), any(["slave", "rslave"])) {
        (true, _) => "shared".into(),
        (_, true) => "rslave".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asked, compiled};
    use super::*;

    fn bind(destination: &str) -> ResolvedMount {
        ResolvedMount {
            source: Some("/src".into()),
            destination: destination.into(),
            writable: true,
            propagation: "rprivate".into(),
            non_recursive: false,
            read_only_non_recursive: false,
            options: Vec::new(),
        }
    }

    #[test]
    fn the_users_mounts_replace_docker_s_and_come_by_depth() {
        let mounts = [bind("/data/deep"), bind("/data"), bind("/dev")];
        let made = compiled(&asked(), |i| i.mounts = &mounts).unwrap().mounts;
        let paths: Vec<_> = made.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(
            paths,
            ["/proc", "/sys", "/sys/fs/cgroup", "/data", "/dev", "/data/deep"]
        );
    }

    #[test]
    fn options_say_what_was_asked() {
        let read_only = ResolvedMount {
            writable: false,
            ..bind("/a")
        };
        assert_eq!(resolved(&read_only).options, ["rbind", "rro", "rprivate"]);
        let shallow = ResolvedMount {
            non_recursive: true,
            ..read_only.clone()
        };
        assert_eq!(resolved(&shallow).options, ["bind", "ro", "rprivate"]);
        let tmpfs = ResolvedMount {
            source: None,
            options: vec!["exec".into(), "size=1k".into()],
            ..bind("/t")
        };
        assert_eq!(resolved(&tmpfs).options, ["nosuid", "nodev", "exec", "size=1k"]);
        assert_eq!(
            root_propagation(&[ResolvedMount {
                propagation: "rslave".into(),
                ..bind("/a")
            }]),
            "rslave"
        );
    }

    #[test]
    fn ipc_and_privilege_change_docker_s_mounts() {
        let mut spec = asked();
        spec.isolation.ipc = NamespaceMode::None;
        spec.isolation.privileged = true;
        let made = compiled(&spec, |_| {}).unwrap();
        assert!(made.mounts.iter().all(|m| m.destination != "/dev/shm"));
        let sys = made.mounts.iter().find(|m| m.destination == "/sys").unwrap();
        assert!(!sys.options.contains(&"ro".to_owned()));
        assert!(made.linux.unwrap().masked_paths.is_empty());
        spec.isolation.ipc = NamespaceMode::Host;
        let made = compiled(&spec, |_| {}).unwrap();
        assert_eq!(
            made.mounts
                .iter()
                .find(|m| m.destination == "/dev/shm")
                .unwrap()
                .kind,
            "bind"
        );
    }
}
