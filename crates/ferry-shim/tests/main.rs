//! Kernel tests of launcher, shims and exec monitors, driven over the control socket exactly as the engine drives them.
//!
//! A harness of its own, because the launcher has to be executed with one thread: this binary runs itself with
//! `launcher` as its only argument. Other arguments select tests by a part of their name.

mod containers;
mod execs;
mod logs;
mod rig;
mod streams;
mod survival;

use rig::Rig;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn(&mut Rig));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, exec_root] = arguments.as_slice()
        && role == "launcher"
    {
        let control = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .expect("the control socket");
        ferry_shim::launcher::main(control, Path::new(exec_root));
    }
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == "/sbin/docker-init")
    {
        // What the whole program does as process 1 of a container with an init.
        return ferry_runtime::init::main(std::env::args_os().skip(1).collect());
    }
    let tests: Vec<Test> = [
        containers::TESTS,
        streams::TESTS,
        logs::TESTS,
        execs::TESTS,
        survival::TESTS,
    ]
    .concat();
    if arguments.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !ferry_testkit::is_root("every test of this binary") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let selected = tests
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(*f)));
    let failed: Vec<&str> = selected
        .filter(|test| !passes(test))
        .map(|(name, _)| *name)
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
    println!("test result: ok");
    ExitCode::SUCCESS
}

fn passes((name, test): &Test) -> bool {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| rig::in_a_world(name, *test)));
    let said = if result.is_ok() { "ok" } else { "FAILED" };
    println!("test {name} ... {said} ({} ms)", began.elapsed().as_millis());
    result.is_ok()
}
