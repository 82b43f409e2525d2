//! Which program this process is: chosen from its name and first word, before any thread or runtime exists.

use crate::{autostart, cli, engine, passport};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The programs in this binary.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// The command line; the name is the one its messages use.
    Cli(&'static str),
    /// The engine.
    Daemon,
    /// The process between the engine and what outlives it; started by the engine only.
    Launcher,
    /// The OCI runtime's command line.
    Runtime,
    /// Process 1 of a container that asked for an init.
    Init,
    /// Detaches and starts an engine; started by the command line only.
    EngineStart,
    /// The program of the `hello` image.
    Passport,
}

/// The role, and how many of the leading arguments named it.
fn choose(args: &[OsString]) -> (Role, usize) {
    let name = args.first().and_then(|a| a.to_str()).unwrap_or("ferry");
    let name = name.rsplit('/').next().unwrap_or(name);
    let first = args.get(1).and_then(|a| a.to_str()).unwrap_or_default();
    match (name, first) {
        ("docker", _) => (Role::Cli("docker"), 1),
        ("dockerd", _) => (Role::Daemon, 1),
        ("runc", _) => (Role::Runtime, 1),
        ("docker-init", _) => (Role::Init, 1),
        (_, "daemon") => (Role::Daemon, 2),
        (_, "launcher") => (Role::Launcher, 2),
        (_, "runtime") => (Role::Runtime, 2),
        (_, autostart::ROLE) => (Role::EngineStart, 2),
        (_, "passport") => (Role::Passport, 2),
        _ => (Role::Cli("ferry"), 1),
    }
}

/// Runs as what the arguments say.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let (role, skip) = choose(&args);
    let mut rest = args.into_iter().skip(skip);
    match role {
        Role::Passport => passport::main(),
        Role::EngineStart => autostart::starter(),
        Role::Init => ferry_runtime::init::main(rest.collect()),
        Role::Runtime => ferry_runtime::cli::main(rest.collect()),
        Role::Launcher => engine::launcher(&rest.next().map(PathBuf::from).unwrap_or_default()),
        Role::Daemon => engine::daemon(rest),
        Role::Cli(program) => {
            let words: Vec<String> = rest.map(|a| a.to_string_lossy().into_owned()).collect();
            cli::main(program, &words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str) -> (Role, usize) {
        choose(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn names_and_first_words_choose() {
        for (line, want) in [
            ("/usr/bin/ferry ps", (Role::Cli("ferry"), 1)),
            ("/proc/self/fd/7 launcher /run/ferry", (Role::Launcher, 2)),
            ("ferry daemon --debug", (Role::Daemon, 2)),
            ("dockerd --debug", (Role::Daemon, 1)),
            ("docker daemon", (Role::Cli("docker"), 1)),
            ("runc run x", (Role::Runtime, 1)),
            ("/sbin/docker-init -- sh", (Role::Init, 1)),
            ("ferry runtime run x", (Role::Runtime, 2)),
            ("/ferry passport", (Role::Passport, 2)),
            ("ferry engine-start", (Role::EngineStart, 2)),
        ] {
            assert_eq!(role(line), want, "{line}");
        }
    }
}
