//! Deaths of engine and launcher while containers run.

use crate::Test;
use crate::rig::{Rig, demultiplex, read_until};
use ferry_shim_proto::{FromShim, ShimState, transport};
use rustix::process::Signal;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    (
        "survival::no_line_is_lost_when_launcher_and_engine_die",
        no_line_is_lost_when_launcher_and_engine_die,
    ),
    (
        "survival::an_exit_nobody_saw_is_told_to_the_next",
        an_exit_nobody_saw_is_told_to_the_next,
    ),
    (
        "survival::the_newest_link_gets_the_frames",
        the_newest_link_gets_the_frames,
    ),
    (
        "survival::a_container_does_not_outlive_a_killed_shim_unseen",
        a_container_does_not_outlive_a_killed_shim_unseen,
    ),
];

fn no_line_is_lost_when_launcher_and_engine_die(rig: &mut Rig) {
    // Long enough that all still run when the new launcher has come, on a slow machine too.
    let script = "n=0; while [ $n -lt 300 ]; do echo line $n; n=$((n+1)); sleep 0.005; done; exit 5";
    let mut containers: Vec<_> = (0..4)
        .map(|_| {
            let request = rig.request(&["sh", "-c", script]);
            let mut container = rig.run(&request, true);
            container.started();
            container
        })
        .collect();
    for container in &mut containers {
        read_until(container.stream.as_mut().expect("stream"), "line 3");
        // The engine's death: link and streams close at once.
        drop(container.stream.take());
        container.link = transport::pair().expect("pair").0;
    }
    rig.replace_launcher();
    // All are adopted before the first is read to its end, which is the others' end too.
    let adopt = |container: &mut crate::rig::Container| {
        assert!(matches!(container.adopt(), ShimState::Running { .. }));
        container.attach(false, true, true)
    };
    let streams: Vec<_> = containers.iter_mut().map(adopt).collect();
    for mut stream in streams {
        let (out, _) = demultiplex(&crate::rig::read_all(&mut stream));
        assert!(out.ends_with("line 299\n"));
    }
    let expected: Vec<_> = (0..300)
        .map(|n| ("stdout".to_owned(), format!("line {n}\n")))
        .collect();
    for container in &mut containers {
        assert_eq!(container.finish(), 5);
        assert_eq!(container.log(), expected);
    }
    // The new launcher runs containers as the old one did.
    let request = rig.request(&["true"]);
    assert_eq!(rig.run(&request, false).finish(), 0);
}

fn an_exit_nobody_saw_is_told_to_the_next(rig: &mut Rig) {
    let request = rig.request(&["sh", "-c", "echo bye; exit 6"]);
    let mut container = rig.launch(&request, false);
    container.until("Created", |frame| {
        matches!(frame, FromShim::Created { .. }).then_some(())
    });
    container.say(&ferry_shim_proto::ToShim::Start);
    container.started();
    container.link = transport::pair().expect("pair").0;
    std::thread::sleep(Duration::from_millis(300));
    match container.adopt() {
        ShimState::Exited(record) => assert_eq!(record.code, 6),
        other => panic!("{other:?}"),
    }
    // A client that comes too late sees the end at once.
    assert_eq!(
        crate::rig::read_all(&mut container.attach(false, true, true)),
        b""
    );
    container.acknowledge();
    assert_eq!(container.log(), [("stdout".into(), "bye\n".into())]);
}

fn the_newest_link_gets_the_frames(rig: &mut Rig) {
    let request = rig.request(&["sleep", "1000"]);
    let mut container = rig.run(&request, false);
    let pid = container.started();
    let old = container.link.try_clone().expect("clone");
    assert!(matches!(container.adopt(), ShimState::Running { pid: running, .. } if running == pid));
    assert!(
        transport::recv_frame::<FromShim>(&old).expect("recv").is_none(),
        "the old link is hung up"
    );
    container.kill(Signal::KILL);
    assert_eq!(container.finish(), 137);
}

fn a_container_does_not_outlive_a_killed_shim_unseen(rig: &mut Rig) {
    let request = rig.request(&["sleep", "1000"]);
    let mut container = rig.run(&request, false);
    container.started();
    let shim = rustix::process::Pid::from_raw(container.shim_pid).expect("pid");
    rustix::process::kill_process(shim, Signal::KILL).expect("kill");
    assert!(container.next().is_none(), "the engine sees the hang-up");
    // What the engine does then: the cgroup is the handle that is left.
    container.kill(Signal::KILL);
    let layout = ferry_runtime::cgroup::Layout::detect().expect("cgroups");
    let group =
        ferry_runtime::cgroup::Group::open(&layout, &format!("/{}/{}", crate::rig::parent(), container.id))
            .expect("group");
    group.remove().expect("remove");
}
