//! Plans as text, and what holds for every plan.

use super::*;
use crate::host::CgroupMode;
use ferry_oci::runtime::{Linux, Mount, Namespace, Root, Seccomp};
use proptest::prelude::*;

fn facts() -> HostFacts {
    HostFacts {
        release: "6.12.0".into(),
        version: (6, 12),
        cgroups: CgroupMode::V2,
        bounding: (1 << 41) - 1,
        effective: (1 << 41) - 1,
        last_capability: 40,
        mount_setattr: true,
        clone_into_cgroup: true,
        time_namespaces: true,
        user_namespaces: true,
        overlay_lowerdir_plus: true,
        ..HostFacts::default()
    }
}

fn spec(text: &str) -> Spec {
    serde_json::from_str(text).unwrap()
}

fn golden(name: &str, plan: &Plan) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/plan/golden")
        .join(name);
    let text = plan.to_string();
    if std::env::var_os("FERRY_RENEW_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name} differs; FERRY_RENEW_GOLDEN=1 renews it");
}

const DEFAULT: &str = include_str!("golden/default.json");

#[test]
fn the_default_plan_is_as_kept() {
    let plan = compile(&spec(DEFAULT), &facts(), &Options::default()).unwrap();
    golden("default.txt", &plan);
    assert_eq!(plan.warnings, Vec::<String>::new());
}

#[test]
fn everything_at_once_is_as_kept() {
    let text = include_str!("golden/everything.json");
    let options = Options {
        lenient: true,
        no_pivot: true,
        ..Options::default()
    };
    golden(
        "everything.txt",
        &compile(&spec(text), &facts(), &options).unwrap(),
    );
}

#[test]
fn an_exec_is_as_kept() {
    let spec = spec(DEFAULT);
    let mut process = spec.process.clone().unwrap();
    process.terminal = true;
    let options = Options {
        user: Some("bob:wheel".into()),
        ..Options::default()
    };
    golden(
        "exec.txt",
        &compile_exec(&spec, &process, &facts(), &options).unwrap(),
    );
}

fn refused(change: impl FnOnce(&mut Spec), facts: &HostFacts) -> String {
    let mut spec = spec(DEFAULT);
    change(&mut spec);
    compile(&spec, facts, &Options::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let facts = facts();
    let process = |change: fn(&mut ferry_oci::runtime::Process)| {
        move |spec: &mut Spec| change(spec.process.as_mut().unwrap())
    };
    let linux = |change: fn(&mut Linux)| move |spec: &mut Spec| change(spec.linux.as_mut().unwrap());
    for (message, word) in [
        (refused(|s| s.process = None, &facts), "process is invalid"),
        (refused(|s| s.root = None, &facts), "root is invalid"),
        (refused(process(|p| p.args.clear()), &facts), "process.args"),
        (
            refused(process(|p| p.cwd = "relative".into()), &facts),
            "process.cwd",
        ),
        (
            refused(process(|p| p.apparmor_profile = "x".into()), &facts),
            "AppArmor",
        ),
        (
            refused(process(|p| p.selinux_label = "x".into()), &facts),
            "SELinux",
        ),
        (
            refused(process(|p| p.oom_score_adj = Some(2000)), &facts),
            "process.oomScoreAdj",
        ),
        (
            refused(process(|p| p.env.push("nonsense".into())), &facts),
            "process.env",
        ),
        (
            refused(linux(|l| l.intel_rdt = Some(Default::default())), &facts),
            "linux.intelRdt",
        ),
        (
            refused(
                linux(|l| drop(l.net_devices.insert("eth0".into(), Default::default()))),
                &facts,
            ),
            "linux.netDevices",
        ),
        (
            refused(linux(|l| l.namespaces.clear()), &facts),
            "mount namespace",
        ),
        (
            refused(linux(|l| l.namespaces.push(l.namespaces[0].clone())), &facts),
            "twice",
        ),
        (
            refused(
                linux(|l| drop(l.sysctl.insert("kernel.panic".into(), "1".into()))),
                &facts,
            ),
            "kernel.panic",
        ),
        (
            refused(linux(|l| l.rootfs_propagation = "odd".into()), &facts),
            "rootfsPropagation",
        ),
        (
            refused(linux(|l| l.masked_paths.push("relative".into())), &facts),
            "maskedPaths",
        ),
        (
            refused(|s| s.mounts[0].options.push("idmap".into()), &facts),
            "idmap",
        ),
        (refused(|s| s.hostname = "x".repeat(65), &facts), "hostname"),
    ] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn capabilities_that_the_host_lacks_are_left_out_and_told() {
    let mut facts = facts();
    facts.bounding &= !(1 << 10);
    let plan = compile(&spec(DEFAULT), &facts, &Options::default()).unwrap();
    assert_eq!(
        plan.warnings,
        ["this host cannot give CAP_NET_BIND_SERVICE: left out"]
    );
}

#[test]
fn programs_are_looked_for_along_the_containers_path() {
    let mut spec = spec(DEFAULT);
    let process = spec.process.as_mut().unwrap();
    process.env = vec!["PATH=/first:/ignored".into(), "PATH=/bin:/usr/bin/::".into()];
    let program = compile(&spec, &facts(), &Options::default()).unwrap().program;
    let shown: Vec<_> = program.candidates.iter().map(|c| c.to_str().unwrap()).collect();
    assert_eq!(shown, ["/bin/sh", "/usr/bin/sh", "./sh", "./sh"]);
}

fn at(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> Option<usize> {
    plan.steps.iter().position(wanted)
}

fn mounts() -> impl Strategy<Value = Vec<Mount>> {
    let options = prop::sample::subsequence(
        vec![
            "ro",
            "nosuid",
            "rbind",
            "bind",
            "rslave",
            "rro",
            "noatime",
            "size=1m",
            "mode=755",
            "exec",
            "tmpcopyup",
        ],
        0..6,
    );
    let kinds = prop::sample::select(vec!["tmpfs", "bind", "proc", "sysfs", "mqueue", "cgroup", "ext4"]);
    let mount =
        ("/[a-z./]{0,20}", kinds, options, "[a-z/]{1,9}").prop_map(|(destination, kind, options, source)| {
            Mount {
                destination,
                kind: kind.into(),
                source,
                options: options.into_iter().map(Into::into).collect(),
                ..Mount::default()
            }
        });
    prop::collection::vec(mount, 0..8)
}

proptest! {
    #[test]
    fn the_order_of_a_plan_is_the_order_of_its_safety(
        mounts in mounts(),
        no_new_privileges: bool,
        filtered: bool,
        terminal: bool,
        new in prop::sample::subsequence(
            vec![NamespaceKind::Pid, NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts, NamespaceKind::Cgroup, NamespaceKind::Time],
            0..6,
        ),
    ) {
        let mut spec = spec(DEFAULT);
        let count = mounts.len();
        spec.mounts = mounts;
        spec.hostname.clear();
        let process = spec.process.as_mut().unwrap();
        process.no_new_privileges = no_new_privileges;
        process.terminal = terminal;
        let linux = spec.linux.as_mut().unwrap();
        linux.seccomp = filtered.then(Seccomp::default);
        linux.namespaces = new.into_iter().chain([NamespaceKind::Mount]).map(|kind| Namespace { kind, path: None }).collect();
        let plan = match compile(&spec, &facts(), &Options::default()) {
            Ok(plan) => plan,
            Err(error) => {
                prop_assert!(error.to_string().contains("/proc"), "{error}");
                return Ok(());
            }
        };
        let made = |s: &Step| matches!(s, Step::FileSystem(_) | Step::Bind(_) | Step::Cgroups(_));
        prop_assert_eq!(plan.steps.iter().filter(|s| made(s)).count(), count);
        let proc = at(&plan, |s| matches!(s, Step::OpenProc)).unwrap();
        let pivot = at(&plan, |s| matches!(s, Step::Pivot)).unwrap();
        let settled = at(&plan, |s| matches!(s, Step::Descriptors)).unwrap();
        let credentials = at(&plan, |s| matches!(s, Step::Credentials(_))).unwrap();
        let found = at(&plan, |s| matches!(s, Step::FindProgram)).unwrap();
        let mounts = plan.steps.iter().enumerate().filter(|(_, s)| made(s) || matches!(s, Step::Mask(_) | Step::ReadOnly(_)));
        for (index, _) in mounts {
            prop_assert!(proc < index && index < pivot, "every mount lies between the private procfs and the pivot");
        }
        prop_assert!(pivot < settled && settled < credentials && credentials < found);
        if let Some(filter) = at(&plan, |s| matches!(s, Step::Filter)) {
            prop_assert_eq!(filter > credentials, no_new_privileges, "without no_new_privs loading needs a capability");
            prop_assert!(filter > settled);
        }
        prop_assert_eq!(at(&plan, |s| matches!(s, Step::Filter)).is_some(), filtered);
        let text = plan.to_string();
        prop_assert_eq!(text.clone(), compile(&spec, &facts(), &Options::default()).unwrap().to_string());
        prop_assert!(text.lines().count() > plan.steps.len());
    }

    #[test]
    fn no_document_panics(text in ".{0,200}", path in ".{0,40}", option in ".{0,12}") {
        if let Ok(spec) = serde_json::from_str::<Spec>(&text) {
            let _ = compile(&spec, &facts(), &Options::default());
        }
        let mut spec = spec(DEFAULT);
        spec.root = Some(Root { path: path.clone(), readonly: true });
        spec.mounts.push(Mount { destination: path.clone(), kind: "tmpfs".into(), options: vec![option], ..Mount::default() });
        spec.linux.as_mut().unwrap().masked_paths.push(path.clone());
        spec.linux.as_mut().unwrap().sysctl.insert(path, "x".into());
        let _ = compile(&spec, &facts(), &Options::default());
    }
}
