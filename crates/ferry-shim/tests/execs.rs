//! Further processes in a running container.

use crate::Test;
use crate::rig::{Rig, demultiplex, read_all, read_until, write};
use ferry_shim_proto::ToShim;
use rustix::process::Signal;
use std::net::Shutdown;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    ("execs::a_program_runs_inside", a_program_runs_inside),
    ("execs::input_ends_with_its_client", input_ends_with_its_client),
    ("execs::a_terminal", a_terminal),
    ("execs::failures_say_so", failures_say_so),
    ("execs::a_detached_one_is_recorded", a_detached_one_is_recorded),
    ("execs::the_containers_end_ends_it", the_containers_end_ends_it),
    (
        "execs::what_it_leaves_behind_does_not_hold_it",
        what_it_leaves_behind_does_not_hold_it,
    ),
];

fn sleeper(rig: &mut Rig) -> crate::rig::Container {
    let request = rig.request(&["sleep", "1000"]);
    let mut container = rig.run(&request, false);
    container.started();
    container
}

fn stop(mut container: crate::rig::Container) {
    container.kill(Signal::KILL);
    assert_eq!(container.finish(), 137);
}

fn a_program_runs_inside(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(
        &container,
        &["sh", "-c", "hostname; echo err >&2; cat /proc/1/comm; exit 9"],
        false,
    );
    let mut exec = rig.exec(&request, true);
    exec.started();
    let (out, err) = demultiplex(&exec.output());
    assert_eq!(
        (out, err.as_str()),
        (format!("{}\nsleep\n", container.id), "err\n")
    );
    assert_eq!(exec.finish(), 9);
    stop(container);
}

fn input_ends_with_its_client(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(&container, &["cat"], false);
    let mut exec = rig.exec(&request, true);
    let mut stream = exec.stream.take().expect("stream");
    write(&mut stream, "hello\n");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let (out, _) = demultiplex(&read_all(&mut stream));
    assert_eq!(out, "hello\n");
    assert_eq!(exec.finish(), 0);

    let mut exec = rig.exec(&request, true);
    exec.started();
    drop(exec.stream.take());
    assert_eq!(exec.finish(), 0, "a lost client is the end of an exec's input");
    stop(container);
}

fn a_terminal(rig: &mut Rig) {
    let container = sleeper(rig);
    let mut request = rig.exec_request(
        &container,
        &["sh", "-c", "stty size; read x; stty size; echo got $x"],
        true,
    );
    request.process.console_size = Some(ferry_oci::runtime::ConsoleSize {
        height: 11,
        width: 44,
    });
    let mut exec = rig.exec(&request, true);
    exec.started();
    let mut stream = exec.stream.take().expect("stream");
    read_until(&mut stream, "11 44\r\n");
    exec.say(&ToShim::Resize {
        height: 12,
        width: 55,
    });
    std::thread::sleep(Duration::from_millis(50));
    write(&mut stream, "y\n");
    let rest = String::from_utf8(read_all(&mut stream)).expect("text");
    assert_eq!(rest, "y\r\n12 55\r\ngot y\r\n");
    assert_eq!(exec.finish(), 0);
    stop(container);
}

fn failures_say_so(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(&container, &["nope"], false);
    let failure = rig.exec(&request, true).failure();
    assert_eq!(failure.code, 127);
    assert!(
        failure
            .message
            .contains("exec: \"nope\": executable file not found in $PATH"),
        "{}",
        failure.message
    );
    let mut request = rig.exec_request(&container, &["true"], false);
    request.start_time += 1;
    let failure = rig.exec(&request, false).failure();
    assert!(failure.message.contains("is not running"), "{}", failure.message);
    stop(container);
}

fn a_detached_one_is_recorded(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(
        &container,
        &["sh", "-c", "sleep 0.2; echo to nobody; exit 4"],
        false,
    );
    let mut exec = rig.exec(&request, false);
    exec.started();
    // The engine dies: the monitor goes once the exit is recorded.
    exec.link = ferry_shim_proto::transport::pair().expect("pair").0;
    let path = exec.runtime_dir.join(format!("execs/{}.json", exec.id));
    let until = Instant::now() + crate::rig::PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    let record: ferry_shim_proto::ExitRecord =
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("record");
    assert_eq!(record.code, 4);
    stop(container);
}

fn the_containers_end_ends_it(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(&container, &["sleep", "1000"], false);
    let mut exec = rig.exec(&request, true);
    exec.started();
    stop(container);
    assert_eq!(exec.finish(), 137);
}

fn what_it_leaves_behind_does_not_hold_it(rig: &mut Rig) {
    let container = sleeper(rig);
    let request = rig.exec_request(&container, &["sh", "-c", "sleep 1000 & echo done"], false);
    let mut exec = rig.exec(&request, true);
    let began = Instant::now();
    assert_eq!(exec.finish(), 0);
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(1_500) && took < Duration::from_secs(4),
        "{took:?}"
    );
    let (out, _) = demultiplex(&exec.output());
    assert_eq!(out, "done\n");
    stop(container);
}
