//! Cgroups on this machine's kernel, under `/ferry-test-…` only.

mod v2;

use ferry_oci::runtime::{Cpu, DeviceRule, Memory, Pids, Resources};
use ferry_runtime::cgroup::{CgroupError, Controller, Group, Layout, Mode, Version};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A cgroup that is removed with everything in it.
struct Fixture {
    group: Group,
    children: Vec<Child>,
}

/// The layout, when this process may make cgroups.
fn layout() -> Option<Layout> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making cgroups needs root");
        return None;
    }
    match Layout::detect() {
        Ok(layout) => Some(layout),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "/ferry-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl Fixture {
    fn new(layout: &Layout, resources: &Resources) -> Fixture {
        let group = Group::create(layout, &unique(), resources).unwrap();
        Fixture {
            group,
            children: Vec::new(),
        }
    }

    /// Starts a shell script in the cgroup; it joins by itself, as a container's first process does.
    fn spawn(&mut self, script: &str) -> &mut Child {
        let joins: Vec<String> = join_files(&self.group);
        let join = joins
            .iter()
            .map(|file| format!("echo 0 > {file}; "))
            .collect::<String>();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{join} echo joined; {script}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"joined\n");
        self.children.push(child);
        self.children.last_mut().unwrap()
    }

    fn paths(&self) -> Vec<String> {
        self.group.paths().map(|(_, path)| path.to_owned()).collect()
    }

    fn path(&self, controller: Controller) -> String {
        self.group
            .paths()
            .find(|(list, _)| list.contains(&controller))
            .unwrap()
            .1
            .to_owned()
    }
}

fn join_files(group: &Group) -> Vec<String> {
    let procs = |path: &str| {
        let tasks = format!("{path}/tasks");
        if std::path::Path::new(&tasks).exists() {
            tasks
        } else {
            format!("{path}/cgroup.procs")
        }
    };
    group.paths().map(|(_, path)| procs(path)).collect()
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.group.kill().unwrap();
        for child in &mut self.children {
            child.wait().unwrap();
        }
        self.group.remove().unwrap();
        for path in self.paths() {
            assert!(!std::path::Path::new(&path).exists(), "{path} is left");
        }
    }
}

fn read(path: String) -> String {
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .trim()
        .to_owned()
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn some_limits() -> Resources {
    Resources {
        memory: Some(Memory {
            limit: Some(64 << 20),
            swap: Some(128 << 20),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(200_000),
            cpus: "0".into(),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(20) }),
        ..Resources::default()
    }
}

fn version(layout: &Layout, controller: Controller) -> Version {
    layout.controller(controller).unwrap().version()
}

#[test]
fn limits_are_written_and_changed() {
    let Some(layout) = layout() else { return };
    let fixture = Fixture::new(&layout, &some_limits());
    assert_eq!(read(fixture.path(Controller::Pids) + "/pids.max"), "20");
    assert_eq!(read(fixture.path(Controller::Cpuset) + "/cpuset.cpus"), "0");
    let (cpu, memory) = (fixture.path(Controller::Cpu), fixture.path(Controller::Memory));
    if version(&layout, Controller::Cpu) == Version::V1 {
        assert_eq!(read(cpu.clone() + "/cpu.shares"), "512");
        assert_eq!(read(cpu + "/cpu.cfs_quota_us"), "50000");
    } else {
        assert_eq!(read(cpu + "/cpu.max"), "50000 200000");
    }
    let v1 = version(&layout, Controller::Memory) == Version::V1;
    let files = if v1 {
        ["/memory.limit_in_bytes", "/memory.memsw.limit_in_bytes"]
    } else {
        ["/memory.max", "/memory.swap.max"]
    };
    let limits = |limit: i64, swap: i64| {
        let memory = Memory {
            limit: Some(limit << 20),
            swap: Some(swap << 20),
            ..Memory::default()
        };
        Resources {
            memory: Some(memory),
            ..Resources::default()
        }
    };
    // Up beyond the old sum, and down below the old limit: the order of the two writes differs.
    for (limit, swap) in [(256, 512), (16, 32), (32, 32)] {
        fixture.group.update(&limits(limit, swap)).unwrap();
        let sum = if v1 { swap } else { swap - limit };
        let now = files.map(|file| read(memory.clone() + file));
        assert_eq!(now, [(limit << 20).to_string(), (sum << 20).to_string()]);
    }
    let stats = fixture.group.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit), (32 << 20, 20));
}

#[test]
fn nothing_is_left_when_creating_fails() {
    let Some(layout) = layout() else { return };
    let path = unique();
    let nested = format!("{path}/a/b");
    let mut resources = some_limits();
    resources.cpu.as_mut().unwrap().cpus = "4095".into();
    let error = Group::create(&layout, &nested, &resources).unwrap_err();
    assert!(error.to_string().starts_with("cpu.cpus = 4095: "), "{error}");
    for hierarchy in layout.hierarchies() {
        let dir = format!("{}{path}", hierarchy.mount_point());
        assert!(!std::path::Path::new(&dir).exists(), "{dir} is left");
    }
    assert!(matches!(
        Group::open(&layout, &nested),
        Err(CgroupError::NotFound { .. })
    ));
}

#[test]
fn a_group_in_use_is_not_taken_over() {
    let Some(layout) = layout() else { return };
    let mut fixture = Fixture::new(&layout, &Resources::default());
    let path = fixture.group.path().to_owned();
    fixture.spawn("exec sleep 60");
    let error = Group::create(&layout, &path, &Resources::default()).unwrap_err();
    assert!(matches!(error, CgroupError::Busy { .. }), "{error}");
    assert_eq!(Group::open(&layout, &path).unwrap().pids().len(), 1);
}

#[test]
fn processes_are_listed_frozen_and_killed() {
    let Some(layout) = layout() else { return };
    let mut fixture = Fixture::new(&layout, &Resources::default());
    let pid = fixture.spawn("sleep 60 & sleep 60 & while :; do :; done").id() as i32;
    eventually("three processes", || fixture.group.pids().len() == 3);
    assert!(fixture.group.pids().contains(&pid));
    fixture.group.freeze().unwrap();
    assert!(fixture.group.frozen().unwrap());
    let before = fixture.group.stats().unwrap().cpu.total;
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        fixture.group.stats().unwrap().cpu.total - before < 20_000_000,
        "it runs on"
    );
    fixture.group.thaw().unwrap();
    assert!(!fixture.group.frozen().unwrap());
    eventually("it runs again", || {
        fixture.group.stats().unwrap().cpu.total - before > 50_000_000
    });
    fixture.group.freeze().unwrap();
    fixture.group.kill().unwrap();
    fixture.children[0].wait().unwrap();
    eventually("no process", || fixture.group.pids().is_empty());
}

#[test]
fn a_fork_bomb_is_bounded_and_killed() {
    let Some(layout) = layout() else { return };
    let limits = Resources {
        pids: Some(Pids { limit: Some(30) }),
        ..Resources::default()
    };
    let mut fixture = Fixture::new(&layout, &limits);
    fixture.spawn("bomb() { bomb & bomb & wait; }; bomb; sleep 60");
    std::thread::sleep(Duration::from_millis(200));
    assert!(fixture.group.stats().unwrap().pids.current <= 30);
    fixture.group.kill().unwrap();
    eventually("no process", || fixture.group.pids().is_empty());
}

#[test]
fn cpu_time_is_metered() {
    let Some(layout) = layout() else { return };
    let mut fixture = Fixture::new(&layout, &Resources::default());
    let before = fixture.group.stats().unwrap().cpu.total;
    if !std::path::Path::new("/usr/bin/python3").exists() {
        println!("skipped: the load needs python3");
        return;
    }
    // The load's own clock of its CPU time ends it, so that a busy machine does not spoil the test; it sleeps afterwards,
    // so that its end does not count.
    let child = fixture.spawn(
        "exec python3 -c 'import time\nwhile time.process_time() < 1: pass\n\
         print(int(time.process_time() * 1e9), flush=True)\ntime.sleep(60)'",
    );
    let mut used = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut used)
        .unwrap();
    let used: u64 = used.trim().parse().unwrap();
    let stats = fixture.group.stats().unwrap().cpu;
    let metered = stats.total - before;
    // The cgroup's meter also has what the load's clock does not: its start, and its way to sleep after the clock was read.
    let share = metered as f64 / used as f64;
    assert!((0.95..1.25).contains(&share), "metered {metered} ns of {used}");
    assert!(
        (stats.user + stats.system).abs_diff(stats.total) < 100_000_000,
        "{stats:?}"
    );
}

#[test]
fn memory_is_metered() {
    let Some(layout) = layout() else { return };
    let mut fixture = Fixture::new(&layout, &Resources::default());
    let usage = |group: &Group| {
        let memory = group.stats().unwrap().memory;
        let names = ["total_rss", "rss", "anon"];
        names
            .iter()
            .find_map(|name| memory.stat.get(*name).copied())
            .unwrap()
    };
    let before = usage(&fixture.group);
    if !std::path::Path::new("/usr/bin/python3").exists() {
        println!("skipped: the load needs python3");
        return;
    }
    fixture.spawn(
        "exec python3 -c 'import mmap, time, sys\nprint(\"started\", flush=True); sys.stdin.close(); time.sleep(0.5)\n\
         m = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
         m[:] = b\"x\" * (64 << 20); print(\"filled\", flush=True); time.sleep(60)'",
    );
    let out = fixture.children[0].stdout.as_mut().unwrap();
    let mut line = [0; 8];
    out.read_exact(&mut line).unwrap();
    let idle = usage(&fixture.group).max(before);
    let mut line = [0; 7];
    out.read_exact(&mut line).unwrap();
    let used = usage(&fixture.group) - idle;
    let off = used.abs_diff(64 << 20) as f64 / f64::from(64 << 20);
    assert!(off < 0.05, "metered {used} bytes of {}", 64 << 20);
}

#[test]
fn running_out_of_memory_is_told() {
    let Some(layout) = layout() else { return };
    let limits = Memory {
        limit: Some(16 << 20),
        swap: Some(64 << 20),
        ..Memory::default()
    };
    let mut fixture = Fixture::new(
        &layout,
        &Resources {
            memory: Some(limits),
            ..Resources::default()
        },
    );
    let watch = fixture.group.oom_watch().unwrap();
    assert_eq!(fixture.group.oom_kills().unwrap(), 0);
    let child = fixture.spawn("exec tail /dev/zero");
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let mut poll = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut poll, Some(&timeout)).unwrap(), 1);
    let mut buffer = [0; 4096];
    rustix::io::read(&watch, &mut buffer).unwrap();
    eventually("the kill is counted", || fixture.group.oom_kills().unwrap() == 1);
    let memory = fixture.group.stats().unwrap().memory;
    assert!(memory.failcnt > 0, "{memory:?}");
}

#[test]
fn devices_are_denied_and_allowed() {
    let Some(layout) = layout() else { return };
    let deny = DeviceRule {
        allow: false,
        access: Some("rwm".into()),
        ..DeviceRule::default()
    };
    let mut fixture = Fixture::new(
        &layout,
        &Resources {
            devices: vec![deny.clone()],
            ..Resources::default()
        },
    );
    let try_open = |fixture: &mut Fixture, file: &str| {
        fixture.spawn(&format!("exec 3<{file}")).wait().unwrap().success()
    };
    assert!(try_open(&mut fixture, "/dev/zero"));
    if !std::path::Path::new("/dev/kmsg").exists() {
        println!("skipped: no /dev/kmsg to be denied");
        return;
    }
    assert!(!try_open(&mut fixture, "/dev/kmsg"));
    let kmsg = DeviceRule {
        allow: true,
        kind: Some("c".into()),
        major: Some(1),
        minor: Some(11),
        access: Some("rw".into()),
    };
    let rules = Resources {
        devices: vec![deny.clone(), kmsg],
        ..Resources::default()
    };
    fixture.group.update(&rules).unwrap();
    assert!(try_open(&mut fixture, "/dev/kmsg"));
    fixture
        .group
        .update(&Resources {
            devices: vec![deny],
            ..Resources::default()
        })
        .unwrap();
    assert!(!try_open(&mut fixture, "/dev/kmsg"));
}

#[test]
fn what_this_machine_lacks_is_refused_by_name() {
    let Some(layout) = layout() else { return };
    let support = layout.support();
    assert!(
        support.memory && support.devices && support.freezer,
        "{support:?}"
    );
    let io = ferry_oci::runtime::BlockIo {
        weight: Some(300),
        ..Default::default()
    };
    let resources = Resources {
        block_io: Some(io),
        ..Resources::default()
    };
    match Group::create(&layout, &unique(), &resources) {
        Ok(group) => {
            group.remove().unwrap();
            assert!(support.blkio_weight, "{support:?}");
        }
        Err(error) => {
            assert!(
                error
                    .to_string()
                    .starts_with("blockIO.weight is not supported here: "),
                "{error}"
            );
            assert!(!support.blkio_weight, "{support:?}");
        }
    }
    if version(&layout, Controller::Memory) == Version::V1 {
        let resources = Resources {
            unified: [("memory.high".into(), "1".into())].into(),
            ..Resources::default()
        };
        let error = Group::create(&layout, &unique(), &resources).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the kernel does not offer memory.high"),
            "{error}"
        );
    }
}

#[test]
fn groups_made_inside_go_along() {
    let Some(layout) = layout() else { return };
    let fixture = Fixture::new(&layout, &Resources::default());
    for path in fixture.paths() {
        std::fs::create_dir_all(format!("{path}/a/b")).unwrap();
    }
    fixture.group.remove().unwrap();
    fixture.group.remove().unwrap();
}

#[test]
fn joining_by_the_fds_places_a_process_everywhere() {
    let Some(layout) = layout() else { return };
    let fixture = Fixture::new(&layout, &Resources::default());
    assert_eq!(fixture.group.join_fds().len(), layout.hierarchies().count());
    assert_eq!(fixture.group.v2_dir().is_some(), layout.mode() == Mode::V2);
    let joins: Vec<std::fs::File> = fixture
        .group
        .join_fds()
        .iter()
        .map(|fd| fd.as_fd().try_clone_to_owned().unwrap().into())
        .collect();
    // A process joins by writing 0; another is named by its pid.
    let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    for mut file in joins {
        write!(file, "{}", child.id()).unwrap();
    }
    let places = read(format!("/proc/{}/cgroup", child.id()));
    assert!(
        places.lines().all(|line| line.ends_with(fixture.group.path())),
        "{places}"
    );
    fixture.group.kill().unwrap();
    child.wait().unwrap();
}
