//! What becomes of a program: exit codes, failures, limits, the kernel's view.

use crate::Test;
use crate::rig::{PATIENCE, Rig, demultiplex};
use ferry_shim_proto::{FromShim, ShimState, ToShim, transport};
use rustix::process::Signal;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    (
        "containers::a_program_runs_and_its_exit_is_known",
        a_program_runs_and_its_exit_is_known,
    ),
    (
        "containers::a_signal_is_128_and_its_number",
        a_signal_is_128_and_its_number,
    ),
    (
        "containers::what_cannot_be_executed_says_so",
        what_cannot_be_executed_says_so,
    ),
    (
        "containers::a_bad_request_says_so_and_leaves_nothing",
        a_bad_request_says_so_and_leaves_nothing,
    ),
    (
        "containers::the_gate_holds_until_the_start",
        the_gate_holds_until_the_start,
    ),
    (
        "containers::an_abort_undoes_everything",
        an_abort_undoes_everything,
    ),
    (
        "containers::a_memory_limit_kills_and_is_told",
        a_memory_limit_kills_and_is_told,
    ),
    (
        "containers::users_and_groups_are_looked_up",
        users_and_groups_are_looked_up,
    ),
    (
        "containers::an_init_reaps_and_passes_signals_on",
        an_init_reaps_and_passes_signals_on,
    ),
    (
        "containers::processes_of_a_shared_pid_namespace_end_too",
        processes_of_a_shared_pid_namespace_end_too,
    ),
    (
        "containers::an_endpoint_is_attached_before_the_program_runs",
        an_endpoint_is_attached_before_the_program_runs,
    ),
    (
        "containers::a_monitor_is_small_and_confined",
        a_monitor_is_small_and_confined,
    ),
    (
        "containers::signals_do_not_end_a_monitor",
        signals_do_not_end_a_monitor,
    ),
    ("containers::many_at_once", many_at_once),
];

fn a_program_runs_and_its_exit_is_known(rig: &mut Rig) {
    let request = rig.request(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let mut container = rig.run(&request, true);
    let pid = container.started();
    assert!(pid > 1);
    let (out, err) = demultiplex(&container.output());
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(container.finish(), 7);
    let kinds: Vec<_> = container.seen.iter().map(kind).collect();
    assert_eq!(kinds, ["hello", "created", "started", "exited"]);
    let mut log = container.log();
    log.sort();
    assert_eq!(
        log,
        [
            ("stderr".into(), "err\n".into()),
            ("stdout".into(), "out\n".into())
        ]
    );
}

fn kind(frame: &FromShim) -> &'static str {
    match frame {
        FromShim::Hello { .. } => "hello",
        FromShim::Created { .. } => "created",
        FromShim::Started { .. } => "started",
        FromShim::Failed(_) => "failed",
        FromShim::Oom => "oom",
        FromShim::Exited(_) => "exited",
        FromShim::Warning(_) => "warning",
    }
}

fn a_signal_is_128_and_its_number(rig: &mut Rig) {
    for signal in [Signal::KILL, Signal::USR1] {
        let request = rig.request(&[
            "sh",
            "-c",
            "trap 'kill -KILL $$' USR1; while :; do sleep 0.05; done",
        ]);
        let mut container = rig.run(&request, false);
        container.started();
        std::thread::sleep(Duration::from_millis(50));
        container.kill(signal);
        if signal == Signal::KILL {
            assert_eq!(container.finish(), 137);
        } else {
            // The first process of a pid namespace is safe from its own signals.
            container.kill(Signal::KILL);
            assert_eq!(container.finish(), 137);
        }
    }
}

fn what_cannot_be_executed_says_so(rig: &mut Rig) {
    let request = rig.request(&["nope"]);
    let failure = rig.run(&request, true).failure();
    assert_eq!(failure.code, 127);
    assert!(
        failure
            .message
            .contains("exec: \"nope\": executable file not found in $PATH"),
        "{}",
        failure.message
    );

    let request = rig.request(&["/bin/nope"]);
    let failure = rig.run(&request, false).failure();
    assert_eq!(failure.code, 127);
    assert!(
        failure
            .message
            .contains("exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        "{}",
        failure.message
    );

    let request = rig.request(&["/etc/not-executable"]);
    let failure = rig.run(&request, false).failure();
    assert_eq!(failure.code, 126);
    assert!(
        failure.message.contains("permission denied"),
        "{}",
        failure.message
    );
}

fn a_bad_request_says_so_and_leaves_nothing(rig: &mut Rig) {
    let mut request = rig.request(&["true"]);
    request.rootfs = ferry_shim_proto::Rootfs::Directory("/run/ferry-test/missing".into());
    let mut container = rig.run(&request, true);
    let failure = container.failure();
    assert_eq!(failure.code, 125, "{failure:?}");
    assert!(
        failure.message.contains("/run/ferry-test/missing"),
        "{}",
        failure.message
    );
    assert_eq!(container.output(), b"", "the client sees the end");
    assert!(container.next().is_none(), "the shim goes");

    let mut request = rig.request(&["true"]);
    request.log.as_mut().expect("log").path = "/run/ferry-test/missing/log".into();
    let failure = rig.run(&request, false).failure();
    assert!(
        failure.message.contains("/run/ferry-test/missing/log"),
        "{}",
        failure.message
    );

    // A request that is none.
    let memfd = transport::memfd("rubbish", &1).expect("memfd");
    let (link, theirs) = transport::pair().expect("pair");
    rig.ask(
        &ferry_shim_proto::ToLauncher::Launch {
            token: 1,
            attached: false,
        },
        &[
            std::os::fd::AsFd::as_fd(&memfd),
            std::os::fd::AsFd::as_fd(&theirs),
        ],
    );
    drop(theirs);
    let hello = transport::recv_frame::<FromShim>(&link)
        .expect("recv")
        .expect("frame")
        .0;
    assert!(matches!(hello, FromShim::Hello { .. }));
    let failed = transport::recv_frame::<FromShim>(&link)
        .expect("recv")
        .expect("frame")
        .0;
    assert!(matches!(failed, FromShim::Failed(_)), "{failed:?}");
}

fn the_gate_holds_until_the_start(rig: &mut Rig) {
    let request = rig.request(&["sh", "-c", "echo ran > /tmp/ran"]);
    let mut container = rig.launch(&request, false);
    let pid = container.until("Created", |frame| match frame {
        FromShim::Created { pid, start_time } => Some((*pid, *start_time)),
        _ => None,
    });
    assert_eq!(ferry_shim::record::start_time(pid.0).expect("stat"), pid.1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!container.upper.join("tmp/ran").exists());
    // A new engine learns where it stands, and starts it.
    assert_eq!(container.adopt(), ShimState::Created { pid: pid.0 });
    container.say(&ToShim::Start);
    assert_eq!(container.started(), pid.0);
    assert_eq!(container.finish(), 0);
    assert!(container.upper.join("tmp/ran").exists());
}

fn an_abort_undoes_everything(rig: &mut Rig) {
    let request = rig.request(&["sh", "-c", "echo ran > /tmp/ran"]);
    let mut container = rig.launch(&request, true);
    container.until("Created", |frame| {
        matches!(frame, FromShim::Created { .. }).then_some(())
    });
    container.say(&ToShim::Abort);
    container.failure();
    assert!(container.next().is_none());
    assert!(!container.upper.join("tmp/ran").exists());
}

fn a_memory_limit_kills_and_is_told(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "tail /dev/zero"]);
    let resources = request
        .spec
        .linux
        .as_mut()
        .and_then(|l| l.resources.as_mut())
        .expect("resources");
    let limit = 16 << 20;
    resources.memory = Some(ferry_oci::runtime::Memory {
        limit: Some(limit),
        swap: Some(limit),
        ..Default::default()
    });
    let mut container = rig.run(&request, false);
    let record = container.exited();
    container.acknowledge();
    assert_eq!(
        (record.code, record.oom_killed),
        (137, true),
        "{:?}",
        container.seen
    );
    assert!(container.seen.contains(&FromShim::Oom));
}

fn users_and_groups_are_looked_up(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "id -u; id -g; echo x > /proc/self/fd/1"]);
    request.user = "user".into();
    let mut container = rig.run(&request, true);
    let (out, err) = demultiplex(&container.output());
    assert_eq!((out.as_str(), err.as_str()), ("1000\n1000\nx\n", ""));
    assert_eq!(container.finish(), 0);

    let mut request = rig.request(&["true"]);
    request.user = "nobody-here".into();
    let failure = rig.run(&request, false).failure();
    assert!(
        failure.message.contains("unable to find user nobody-here"),
        "{failure:?}"
    );
}

fn an_init_reaps_and_passes_signals_on(rig: &mut Rig) {
    let mut request = rig.request(&[
        "sh",
        "-c",
        "trap 'echo got; exit 3' TERM; echo $$; while :; do sleep 0.02; done",
    ]);
    request.init = true;
    let mut container = rig.run(&request, true);
    container.started();
    let mut stream = container.stream.take().expect("stream");
    let pid = crate::rig::read_until(&mut stream, "\n");
    assert!(
        !pid.contains("\u{8}1\n"),
        "the program is not the first process: {pid:?}"
    );
    container.kill(Signal::TERM);
    assert_eq!(container.finish(), 3);
}

fn processes_of_a_shared_pid_namespace_end_too(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "sleep 1000 & echo $!; exit 0"]);
    let linux = request.spec.linux.as_mut().expect("linux");
    linux
        .namespaces
        .retain(|namespace| namespace.kind != ferry_oci::runtime::NamespaceKind::Pid);
    let mut container = rig.run(&request, true);
    let (out, _) = demultiplex(&container.output());
    assert_eq!(container.finish(), 0);
    let pid: u32 = out.trim().parse().expect("a pid");
    let until = Instant::now() + PATIENCE;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < until, "{pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn an_endpoint_is_attached_before_the_program_runs(rig: &mut Rig) {
    use ferry_net::{Endpoint, Ipam, NetworkConfig};
    let subnet = Ipam::new("10.87.0.0/24".parse().expect("subnet"));
    let network = NetworkConfig::bridge("n".repeat(64), "net", "frytest0", vec![subnet]);
    ferry_net::apply::ensure_bridge(&network).expect("bridge");
    let endpoint = Endpoint {
        id: "e".repeat(64),
        sandbox: "c".into(),
        ipv4: None,
        ipv6: None,
        mac: None,
        link: None,
        default_route: true,
    };
    let plan = ferry_net::plan_endpoint(&network, &endpoint, &Default::default()).expect("plan");
    let address = plan.ipv4().expect("address").addr();
    let mut request = rig.request(&["sh", "-c", "ip -4 -o addr; ip route"]);
    request.endpoints = vec![plan];
    let mut container = rig.run(&request, true);
    let (out, err) = demultiplex(&container.output());
    assert_eq!((container.finish(), err.as_str()), (0, ""));
    assert!(
        out.contains(&format!("eth0    inet {address}/24")) || out.contains(&format!("inet {address}/24")),
        "{out}"
    );
    assert!(out.contains("default via 10.87.0.1 dev eth0"), "{out}");
    assert!(out.contains("127.0.0.1"), "{out}");
    ferry_net::apply::remove_bridge(&network).expect("bridge");
}

fn a_monitor_is_small_and_confined(rig: &mut Rig) {
    let mut containers: Vec<_> = (0..3)
        .map(|_| {
            let request = rig.request(&["sh", "-c", "echo hello; exec sleep 1000"]);
            let mut container = rig.run(&request, false);
            container.started();
            container
        })
        .collect();
    // Buffers are given back after half a second without events.
    std::thread::sleep(Duration::from_millis(1_000));
    for container in &mut containers {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", container.shim_pid)).expect(file);
        let rollup = read("smaps_rollup");
        let kb = |name: &str| {
            let line = rollup
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(u64::MAX)
        };
        // Reported, not asserted: the figure is the build's and the machine's.
        println!(
            "shim: Private_Dirty {} KB, PSS {} KB, RSS {} KB",
            kb("Private_Dirty:"),
            kb("Pss:"),
            kb("Rss:")
        );
        let status = read("status");
        let field = |name: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("Name:"), "ferry-shim");
        let fds = std::fs::read_dir(format!("/proc/{}/fd", container.shim_pid)).expect("fds");
        let named: Vec<_> = fds
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .collect();
        assert!(named.len() < 40, "{named:?}");
        container.kill(Signal::KILL);
        assert_eq!(container.finish(), 137);
    }
}

fn signals_do_not_end_a_monitor(rig: &mut Rig) {
    let request = rig.request(&["sleep", "1000"]);
    let mut container = rig.run(&request, false);
    container.started();
    let shim = rustix::process::Pid::from_raw(container.shim_pid).expect("pid");
    for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE, Signal::USR1] {
        rustix::process::kill_process(shim, signal).expect("signal");
    }
    std::thread::sleep(Duration::from_millis(20));
    container.kill(Signal::KILL);
    assert_eq!(container.finish(), 137);
}

fn many_at_once(rig: &mut Rig) {
    let began = Instant::now();
    let mut containers: Vec<_> = (0..40)
        .map(|n| {
            let request = rig.request(&["sh", "-c", &format!("echo {n}; exit {n}")]);
            rig.run(&request, true)
        })
        .collect();
    for (n, container) in containers.iter_mut().enumerate() {
        let (out, _) = demultiplex(&container.output());
        assert_eq!(out, format!("{n}\n"));
        assert_eq!(container.finish(), i32::try_from(n).expect("small"));
    }
    println!("40 containers in {} ms", began.elapsed().as_millis());
}
