//! `ferry runtime`: the OCI runtime as a command line, with runc's verbs, flags, words and exit codes.
//!
//! What a caller may rely on: a failure is one line on standard error and in the log, exit code 1 (or Docker's 126 and 127 where a program
//! could not be started by `exec`); a flag that is not there is refused by name; a failed `create` or `run` leaves nothing.

mod attach;
mod flags;
mod inspect;
mod lifecycle;
mod log;
mod processes;
mod signals;
mod state;

use flags::{Flag, Flags};
use log::Log;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where states are when `--root` does not say.
const DEFAULT_ROOT: &str = "/run/ferry/runtime";

/// What every verb is given.
struct Context {
    root: PathBuf,
    log: Log,
}

/// Why a verb fails: a line, and the exit code.
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            code: 1,
        }
    }

    fn about(what: &str, error: impl fmt::Display) -> Failure {
        Failure::new(format!("{what}: {error}"))
    }
}

type Outcome = Result<u8, Failure>;

/// One verb.
struct Verb {
    name: &'static str,
    flags: &'static [Flag],
    usage: &'static str,
    /// Whether it brings a process near a container, and so must run sealed.
    sealed: bool,
    run: fn(&Context, Flags) -> Outcome,
}

const GLOBAL: &[Flag] = &[
    Flag::value("root"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::switch("debug"),
    Flag::switch("version"),
    Flag::switch("help").short("h"),
];

const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        flags: lifecycle::CREATE,
        usage: "CONTAINER",
        sealed: true,
        run: lifecycle::create,
    },
    Verb {
        name: "run",
        flags: lifecycle::RUN,
        usage: "CONTAINER",
        sealed: true,
        run: lifecycle::run,
    },
    Verb {
        name: "start",
        flags: &[],
        usage: "CONTAINER",
        sealed: false,
        run: lifecycle::start,
    },
    Verb {
        name: "state",
        flags: &[],
        usage: "CONTAINER",
        sealed: false,
        run: inspect::state,
    },
    Verb {
        name: "kill",
        flags: lifecycle::KILL,
        usage: "CONTAINER [SIGNAL]",
        sealed: false,
        run: lifecycle::kill,
    },
    Verb {
        name: "delete",
        flags: lifecycle::DELETE,
        usage: "CONTAINER",
        sealed: false,
        run: lifecycle::delete,
    },
    Verb {
        name: "exec",
        flags: processes::EXEC,
        usage: "CONTAINER [COMMAND [ARGUMENT...]]",
        sealed: true,
        run: processes::exec,
    },
    Verb {
        name: "ps",
        flags: processes::PS,
        usage: "CONTAINER",
        sealed: false,
        run: processes::ps,
    },
    Verb {
        name: "pause",
        flags: &[],
        usage: "CONTAINER",
        sealed: false,
        run: processes::pause,
    },
    Verb {
        name: "resume",
        flags: &[],
        usage: "CONTAINER",
        sealed: false,
        run: processes::resume,
    },
    Verb {
        name: "list",
        flags: inspect::LIST,
        usage: "",
        sealed: false,
        run: inspect::list,
    },
    Verb {
        name: "features",
        flags: &[],
        usage: "",
        sealed: false,
        run: inspect::features,
    },
    Verb {
        name: "spec",
        flags: inspect::SPEC,
        usage: "",
        sealed: false,
        run: inspect::spec,
    },
];

/// Runs the command line; `args` are those after the program's name (and after `runtime`).
///
/// `run`, `create` and `exec` execute the program's own binary once more, from a sealed place, with the process's
/// original arguments.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut log = Log::default();
    match dispatch(args, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(args: Vec<OsString>, log: &mut Log) -> Outcome {
    let texts: Result<Vec<String>, _> = args.into_iter().map(OsString::into_string).collect();
    let texts = texts.map_err(|_| Failure::new("an argument is not UTF-8"))?;
    let global = Flags::parse(GLOBAL, texts, true)?;
    *log = Log::open(
        global.value("log"),
        global.value("log-format"),
        global.has("debug"),
    )?;
    if global.has("version") {
        log::print(&format!(
            "ferry runtime version {}\nspec: {}\n",
            env!("CARGO_PKG_VERSION"),
            ferry_oci::runtime::VERSION
        ))?;
        return Ok(0);
    }
    let mut rest = global.rest.iter().cloned();
    let Some(name) = rest.next().filter(|_| !global.has("help")) else {
        log::print(&help())?;
        return Ok(if global.has("help") { 0 } else { 1 });
    };
    let verb = VERBS.iter().find(|v| v.name == name).ok_or_else(|| {
        Failure::new(format!(
            "No help topic for '{name}': it is no command of ferry runtime"
        ))
    })?;
    let flags = Flags::parse(verb.flags, rest.collect(), verb.name == "exec")?;
    if verb.sealed {
        crate::sealed::reexec_sealed(std::env::args_os().collect())
            .map_err(|e| Failure::about("cannot run from a sealed place", e))?;
    }
    let root = PathBuf::from(global.value("root").unwrap_or(DEFAULT_ROOT));
    let context = Context {
        root,
        log: log.clone(),
    };
    (verb.run)(&context, flags)
}

fn help() -> String {
    let mut text = String::from(
        "Usage: ferry runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND\n\nCommands:\n",
    );
    for verb in VERBS {
        text.push_str(format!("  {} {}", verb.name, verb.usage).trim_end());
        for flag in verb.flags {
            text.push_str(&format!(
                " [--{}{}]",
                flag.name,
                if flag.takes_value { " VALUE" } else { "" }
            ));
        }
        text.push('\n');
    }
    text
}
