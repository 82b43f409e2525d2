//! Attached clients, standard input and terminals.

use crate::Test;
use crate::rig::{PATIENCE, Rig, demultiplex, read_all, read_until, write};
use ferry_shim_proto::ToShim;
use rustix::process::Signal;
use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    (
        "streams::input_is_echoed_and_its_end_ends_the_program",
        input_is_echoed_and_its_end_ends_the_program,
    ),
    (
        "streams::open_input_survives_its_clients",
        open_input_survives_its_clients,
    ),
    (
        "streams::a_lost_client_ends_input_only_while_the_engine_lives",
        a_lost_client_ends_input_only_while_the_engine_lives,
    ),
    (
        "streams::a_terminal_has_a_size_and_echoes",
        a_terminal_has_a_size_and_echoes,
    ),
    ("streams::clients_come_and_go_midway", clients_come_and_go_midway),
    (
        "streams::a_slow_reader_holds_back_and_loses_nothing",
        a_slow_reader_holds_back_and_loses_nothing,
    ),
    (
        "streams::a_dead_reader_holds_nobody_back",
        a_dead_reader_holds_nobody_back,
    ),
    ("streams::much_input_passes", much_input_passes),
    ("streams::no_input_is_dev_null", no_input_is_dev_null),
];

fn input_is_echoed_and_its_end_ends_the_program(rig: &mut Rig) {
    let mut request = rig.request(&["cat"]);
    (request.open_stdin, request.stdin_once) = (true, true);
    let mut container = rig.run(&request, true);
    container.started();
    let mut stream = container.stream.take().expect("stream");
    write(&mut stream, "hello\n");
    assert!(read_until(&mut stream, "hello\n").ends_with("hello\n"));
    write(&mut stream, "last");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let (out, _) = demultiplex(&read_all(&mut stream));
    assert_eq!(out, "last");
    assert_eq!(container.finish(), 0);
}

fn open_input_survives_its_clients(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "read a; read b; echo $a-$b"]);
    request.open_stdin = true;
    let mut container = rig.run(&request, false);
    container.started();
    let mut first = container.attach(true, true, true);
    write(&mut first, "one\n");
    first.shutdown(Shutdown::Write).expect("shutdown");
    // Without stdin_once the end of its input ends the client.
    assert_eq!(read_all(&mut first), b"");
    let mut second = container.attach(true, true, true);
    write(&mut second, "two\n");
    let (out, _) = demultiplex(&read_all(&mut second));
    assert_eq!(out, "one-two\n");
    assert_eq!(container.finish(), 0);
}

fn a_lost_client_ends_input_only_while_the_engine_lives(rig: &mut Rig) {
    let mut request = rig.request(&["cat"]);
    (request.open_stdin, request.stdin_once) = (true, true);
    let mut container = rig.run(&request, true);
    container.started();
    drop(container.stream.take());
    assert_eq!(container.finish(), 0, "the engine lives");

    let mut request = rig.request(&["cat"]);
    (request.open_stdin, request.stdin_once) = (true, true);
    let mut container = rig.run(&request, true);
    container.started();
    // As the death of the engine closes both.
    drop(container.stream.take());
    container.link = ferry_shim_proto::transport::pair().expect("pair").0;
    std::thread::sleep(Duration::from_millis(1_300));
    assert!(matches!(
        container.adopt(),
        ferry_shim_proto::ShimState::Running { .. }
    ));
    let mut client = container.attach(true, true, false);
    write(&mut client, "still here\n");
    assert!(read_until(&mut client, "\n").ends_with("still here\n"));
    container.say(&ToShim::CloseStdin);
    assert_eq!(container.finish(), 0);
}

fn a_terminal_has_a_size_and_echoes(rig: &mut Rig) {
    let mut request = rig.request(&[
        "sh",
        "-c",
        "stty size; read line; echo got $line; read line; stty size; echo got $line",
    ]);
    request.open_stdin = true;
    let process = request.spec.process.as_mut().expect("process");
    process.terminal = true;
    process.console_size = Some(ferry_oci::runtime::ConsoleSize {
        height: 20,
        width: 70,
    });
    let mut container = rig.run(&request, true);
    container.started();
    let mut stream = container.stream.take().expect("stream");
    read_until(&mut stream, "20 70\r\n");
    write(&mut stream, "abc\n");
    assert_eq!(
        read_until(&mut stream, "got abc\r\n"),
        "abc\r\ngot abc\r\n",
        "raw, and echoed by the terminal"
    );
    container.say(&ToShim::Resize {
        height: 33,
        width: 101,
    });
    std::thread::sleep(Duration::from_millis(100));
    write(&mut stream, "def\n");
    let rest = String::from_utf8(read_all(&mut stream)).expect("text");
    assert!(
        rest.contains("33 101\r\n") && rest.ends_with("got def\r\n"),
        "{rest:?}"
    );
    assert_eq!(container.finish(), 0);
    assert_eq!(container.log()[0], ("stdout".into(), "20 70\r\n".into()));
}

fn clients_come_and_go_midway(rig: &mut Rig) {
    let request = rig.request(&[
        "sh",
        "-c",
        "n=0; while [ $n -lt 200 ]; do echo line $n; n=$((n+1)); sleep 0.005; done",
    ]);
    let mut container = rig.run(&request, false);
    container.started();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = container.attach(false, true, true);
        read_until(&mut client, "line");
        clients.push(client);
    }
    drop(clients.pop());
    let mut rest: Vec<String> = clients
        .iter_mut()
        .map(|c| String::from_utf8_lossy(&read_all(c)).into_owned())
        .collect();
    assert!(rest.iter().all(|r| r.contains("line 199\n")));
    rest.clear();
    assert_eq!(container.finish(), 0);
    let expected: Vec<_> = (0..200)
        .map(|n| ("stdout".to_owned(), format!("line {n}\n")))
        .collect();
    assert_eq!(container.log(), expected);
}

fn a_slow_reader_holds_back_and_loses_nothing(rig: &mut Rig) {
    let request = rig.request(&["seq", "1", "200000"]);
    let mut container = rig.run(&request, true);
    container.started();
    std::thread::sleep(Duration::from_millis(300));
    let written = std::fs::metadata(&container.log).expect("log").len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        std::fs::metadata(&container.log).expect("log").len(),
        written,
        "the container waits for its reader"
    );
    let (out, _) = demultiplex(&container.output());
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(out == expected, "{} bytes of {}", out.len(), expected.len());
    assert_eq!(container.finish(), 0);
    assert_eq!(container.log().len(), 200_000);
}

fn a_dead_reader_holds_nobody_back(rig: &mut Rig) {
    let request = rig.request(&["seq", "1", "100000"]);
    let mut container = rig.run(&request, true);
    let mut stream = container.stream.take().expect("stream");
    stream.read_exact(&mut [0; 100]).expect("read");
    let idle = container.attach(true, true, true);
    drop(stream);
    drop(idle);
    assert_eq!(container.finish(), 0);
    assert_eq!(container.log().len(), 100_000);
}

fn much_input_passes(rig: &mut Rig) {
    let mut request = rig.request(&["sh", "-c", "sleep 0.2; cat"]);
    (request.open_stdin, request.stdin_once) = (true, true);
    request.log = None;
    let mut container = rig.run(&request, true);
    let mut stream = container.stream.take().expect("stream");
    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let sent = text.clone();
    let mut writer = stream.try_clone().expect("clone");
    let writing = std::thread::spawn(move || {
        write(&mut writer, &sent);
        writer.shutdown(Shutdown::Write).expect("shutdown");
    });
    let (out, _) = demultiplex(&read_all(&mut stream));
    writing.join().expect("writer");
    assert!(out == text, "{} bytes of {}", out.len(), text.len());
    assert_eq!(container.finish(), 0);
}

fn no_input_is_dev_null(rig: &mut Rig) {
    let request = rig.request(&["sh", "-c", "cat; ls -l /proc/self/fd/0; sleep 1000"]);
    let mut container = rig.run(&request, true);
    container.started();
    let mut stream = container.stream.take().expect("stream");
    // A client that shuts its side down had nothing to say and goes on listening.
    stream.shutdown(Shutdown::Write).expect("shutdown");
    read_until(&mut stream, "/dev/null");
    let began = Instant::now();
    container.kill(Signal::KILL);
    assert_eq!(container.finish(), 137);
    assert!(began.elapsed() < PATIENCE);
}
