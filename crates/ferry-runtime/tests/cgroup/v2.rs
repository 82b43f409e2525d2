//! The unified tree: its files on a stand-in directory, and what a hybrid machine's tree can do without controllers.

use super::{eventually, layout, read, unique};
use ferry_oci::runtime::{BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Pids, Resources, ThrottleDevice};
use ferry_runtime::cgroup::{CgroupError, Group, Layout, Mode};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A directory with a v2 cgroup's files, as far as they are listed.
fn stand_in(files: &[(&str, &str)]) -> (tempfile::TempDir, Group) {
    let temp = tempfile::tempdir().unwrap();
    fs::write(
        temp.path().join("cgroup.controllers"),
        "cpuset cpu io memory pids hugetlb rdma\n",
    )
    .unwrap();
    let group = temp.path().join("g");
    fs::create_dir(&group).unwrap();
    fs::write(group.join("cgroup.procs"), "").unwrap();
    for (file, text) in files {
        fs::write(group.join(file), text).unwrap();
    }
    let group = Group::open(&layout_at(temp.path()), "/g").unwrap();
    (temp, group)
}

fn layout_at(mount_point: &Path) -> Layout {
    let mounts = format!("31 30 0:27 / {} rw - cgroup2 cgroup2 rw\n", mount_point.display());
    Layout::from_text(&mounts, "0::/\n").unwrap()
}

fn every_limit() -> Resources {
    Resources {
        memory: Some(Memory {
            limit: Some(1000),
            swap: Some(3000),
            reservation: Some(500),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: Some(2048),
            quota: Some(5000),
            period: Some(10_000),
            burst: Some(100),
            cpus: "0-1".into(),
            mems: "0".into(),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(7) }),
        block_io: Some(BlockIo {
            weight: Some(1000),
            throttle_write_bps_device: vec![ThrottleDevice {
                major: 8,
                minor: 0,
                rate: 99,
            }],
            ..BlockIo::default()
        }),
        hugepage_limits: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 4096,
        }],
        unified: [("memory.high".to_owned(), "900".to_owned())].into(),
        ..Resources::default()
    }
}

#[test]
fn every_limit_goes_to_its_file() {
    let names = [
        "memory.max",
        "memory.swap.max",
        "memory.low",
        "memory.high",
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        "cpuset.cpus",
        "cpuset.mems",
        "pids.max",
        "io.weight",
        "io.max",
        "hugetlb.2MB.max",
        "rdma.max",
    ];
    let (temp, group) = stand_in(&names.map(|name| (name, "")));
    group.update(&every_limit()).unwrap();
    let text = |file: &str| read(temp.path().join("g").join(file).to_str().unwrap().to_owned());
    let expected = [
        ("memory.max", "1000"),
        ("memory.swap.max", "2000"),
        ("memory.low", "500"),
        ("memory.high", "900"),
        ("cpu.weight", "174"),
        ("cpu.max", "5000 10000"),
        ("cpu.max.burst", "100"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "7"),
        ("io.weight", "default 10000"),
        ("io.max", "8:0 wbps=99"),
        ("hugetlb.2MB.max", "4096"),
    ];
    for (file, value) in expected {
        assert_eq!(text(file), value, "{file}");
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let (_temp, group) = stand_in(&[]);
    let pids = Resources {
        pids: Some(Pids { limit: Some(7) }),
        ..Resources::default()
    };
    let error = group.update(&pids).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pids.limit is not supported here: the kernel does not offer pids.max"
    );
}

#[test]
fn every_meter_is_read() {
    let (_temp, group) = stand_in(&[
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "8192\n"),
        ("memory.stat", "anon 5\nfile 6\nkernel 7\n"),
        ("memory.events", "low 0\nhigh 0\nmax 11\noom 1\noom_kill 2\n"),
        ("memory.swap.current", "12\n"),
        ("memory.swap.max", "100\n"),
        ("pids.current", "3\n"),
        ("pids.max", "10\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ("rdma.current", "mlx hca_handle=1 hca_object=2\n"),
        ("rdma.max", "mlx hca_handle=3 hca_object=max\n"),
        ("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n"),
    ]);
    let stats = group.stats().unwrap();
    assert_eq!(
        (stats.cpu.total, stats.cpu.user, stats.cpu.system),
        (30_000, 20_000, 10_000)
    );
    assert_eq!(
        (
            stats.cpu.periods,
            stats.cpu.throttled_periods,
            stats.cpu.throttled
        ),
        (4, 3, 2000)
    );
    let memory = &stats.memory;
    assert_eq!(
        (memory.usage, memory.limit, memory.max_usage),
        (4096, u64::MAX, Some(8192))
    );
    assert_eq!(
        (memory.failcnt, memory.oom_kills, memory.kernel),
        (11, 2, Some(7))
    );
    assert_eq!((memory.swap_usage, memory.swap_limit), (Some(12), Some(100)));
    assert_eq!((stats.pids.current, stats.pids.limit), (3, 10));
    assert_eq!(
        (stats.blkio.bytes[1].value, stats.blkio.operations[0].value),
        (2, 3)
    );
    assert_eq!(
        (stats.rdma["mlx"].handles, stats.rdma["mlx"].object_limit),
        (1, u64::MAX)
    );
    assert_eq!(stats.cpu_pressure.unwrap().some.total, 9);
    assert!(stats.memory_pressure.is_none());
}

/// A cgroup in this machine's unified tree, seen as if that were all there is.
struct Unified {
    group: Group,
    parent: PathBuf,
    children: Vec<Child>,
}

impl Unified {
    fn new(resources: &Resources) -> Option<Unified> {
        let machine = layout()?;
        let Some(tree) = machine.unified() else {
            println!("skipped: cgroup2 is not mounted");
            return None;
        };
        let parent = PathBuf::from(format!("{}{}", tree.mount_point(), unique()));
        fs::create_dir(&parent).unwrap();
        let layout = layout_at(&parent);
        assert_eq!(layout.mode(), Mode::V2);
        let group = Group::create(&layout, "/outer/g", resources).unwrap();
        Some(Unified {
            group,
            parent,
            children: Vec::new(),
        })
    }

    fn spawn(&mut self, script: &str) -> &mut Child {
        let join = format!(
            "echo 0 > {}/outer/g/cgroup.procs; {script}",
            self.parent.display()
        );
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &join])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        self.children.push(command.spawn().unwrap());
        self.children.last_mut().unwrap()
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        self.group.kill().unwrap();
        for child in &mut self.children {
            child.wait().unwrap();
        }
        self.group.remove().unwrap();
        fs::remove_dir(self.parent.join("outer")).unwrap();
        fs::remove_dir(&self.parent).unwrap();
    }
}

#[test]
fn the_core_freezes_kills_and_meters() {
    let Some(mut tree) = Unified::new(&Resources::default()) else {
        return;
    };
    assert!(tree.group.v2_dir().is_some());
    tree.spawn("sleep 60 & while :; do :; done");
    eventually("two processes", || tree.group.pids().len() == 2);
    eventually("CPU time is metered", || {
        tree.group.stats().unwrap().cpu.total > 50_000_000
    });
    tree.group.freeze().unwrap();
    assert!(tree.group.frozen().unwrap());
    let before = tree.group.stats().unwrap().cpu.total;
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        tree.group.stats().unwrap().cpu.total - before < 20_000_000,
        "it runs on"
    );
    tree.group.kill().unwrap();
    tree.children[0].wait().unwrap();
    eventually("no process", || tree.group.pids().is_empty());
}

#[test]
fn the_device_program_is_loaded_replaced_and_obeyed() {
    let rule = |allow, minor: i64| DeviceRule {
        allow,
        kind: Some("c".into()),
        major: Some(1),
        minor: Some(minor),
        access: Some("rw".into()),
    };
    let deny = DeviceRule {
        allow: false,
        ..DeviceRule::default()
    };
    let with = |rules: Vec<DeviceRule>| Resources {
        devices: rules,
        ..Resources::default()
    };
    let Some(mut tree) = Unified::new(&with(vec![deny.clone()])) else {
        return;
    };
    if !Path::new("/dev/kmsg").exists() {
        println!("skipped: no /dev/kmsg to be denied");
        return;
    }
    let opens =
        |tree: &mut Unified, file: &str| tree.spawn(&format!("exec 3<{file}")).wait().unwrap().success();
    assert!(opens(&mut tree, "/dev/zero") && !opens(&mut tree, "/dev/kmsg"));
    tree.group
        .update(&with(vec![deny.clone(), rule(true, 11)]))
        .unwrap();
    assert!(opens(&mut tree, "/dev/zero") && opens(&mut tree, "/dev/kmsg"));
    tree.group
        .update(&with(vec![
            DeviceRule {
                allow: true,
                ..DeviceRule::default()
            },
            rule(false, 11),
        ]))
        .unwrap();
    assert!(!opens(&mut tree, "/dev/kmsg"));
    tree.group
        .update(&with(vec![DeviceRule {
            allow: true,
            ..DeviceRule::default()
        }]))
        .unwrap();
    assert!(opens(&mut tree, "/dev/kmsg"));
}

#[test]
fn a_controller_that_was_not_handed_down_is_named() {
    let Some(tree) = Unified::new(&Resources::default()) else {
        return;
    };
    let limits = Resources {
        pids: Some(Pids { limit: Some(7) }),
        ..Resources::default()
    };
    let error = tree.group.update(&limits).unwrap_err();
    assert!(matches!(error, CgroupError::Unsupported { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "pids.limit is not supported here: the pids controller is not mounted or enabled"
    );
}
