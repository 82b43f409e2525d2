//! The command line: Docker's words, flags, columns, messages and exit codes, over the engine's API.
//!
//! Nothing here knows the engine's insides, and nothing else in the project prints.

mod command;
mod complete;
mod config;
mod container;
mod context;
mod credentials;
mod failure;
mod flags;
mod help;
mod image;
mod network;
mod options;
mod output;
mod session;
mod streams;
mod system;
mod volume;

use command::{Command, Group};
pub(crate) use failure::Failure;
use failure::Outcome;
use flags::Stop;
pub(crate) use output::clock::rfc3339_utc;
pub(crate) use output::units::bytes_size;
use session::{GLOBAL_FLAGS, Session};
use std::process::ExitCode;

/// Words that group commands.
static GROUPS: [Group; 7] = [
    Group {
        name: "completion",
        short: "Generate the completion script for a shell",
    },
    Group {
        name: "container",
        short: "Manage containers",
    },
    Group {
        name: "context",
        short: "Manage contexts",
    },
    Group {
        name: "image",
        short: "Manage images",
    },
    Group {
        name: "network",
        short: "Manage networks",
    },
    Group {
        name: "system",
        short: "Manage the engine",
    },
    Group {
        name: "volume",
        short: "Manage volumes",
    },
];

/// Every command, table by table.
fn commands() -> impl Iterator<Item = &'static Command> {
    let tables: [&'static [Command]; 8] = [
        &container::COMMANDS,
        &container::MORE_COMMANDS,
        &image::COMMANDS,
        &network::COMMANDS,
        &volume::COMMANDS,
        &system::COMMANDS,
        &context::COMMANDS,
        &complete::COMMANDS,
    ];
    tables.into_iter().flatten()
}

/// Runs the command line. `program` is the name that messages use.
pub(crate) fn main(program: &'static str, args: &[String]) -> ExitCode {
    match run(program, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{}", failure.message);
            }
            ExitCode::from(failure.status as u8)
        }
    }
}

fn run(program: &'static str, args: &[String]) -> Outcome {
    let usage = |text: String| {
        let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
        Failure::new(
            125,
            format!("{text}\n\n{usage}\n\nRun '{program} --help' for more information"),
        )
    };
    let globals = match flags::parse(GLOBAL_FLAGS.iter().collect(), args, false) {
        Ok(globals) => globals,
        Err(Stop::Help) => {
            output::print(&root_help(program));
            return Ok(());
        }
        Err(Stop::Usage(text)) => return Err(usage(text)),
        Err(Stop::Refused(failure)) => return Err(failure),
    };
    let words = globals.args.clone();
    if globals.on("version") {
        output::line(&format!(
            "Ferry version {}, build {}",
            env!("CARGO_PKG_VERSION"),
            system::build()
        ));
        return Ok(());
    }
    let session = Session::new(program, globals)?;
    let Some(first) = words.first() else {
        eprint!("{}", root_help(program));
        return Ok(());
    };
    if first == "help" {
        return help_topic(program, &words[1..]);
    }
    let (command, length) = match find(program, &words)? {
        Found::Command(command, length) => (command, length),
        Found::Help(text) => {
            output::print(&text);
            return Ok(());
        }
        Found::Nothing(text) => {
            eprint!("{text}");
            return Ok(());
        }
    };
    execute(&session, command, &words, length)
}

fn execute(session: &Session, command: &'static Command, words: &[String], length: usize) -> Outcome {
    let program = session.program;
    let path = words[..length].join(" ");
    let mut matches = match flags::parse(command.all_flags(), &words[length..], command.interspersed) {
        Ok(matches) => matches,
        Err(Stop::Help) => {
            output::print(&help::command(program, &path, command));
            return Ok(());
        }
        Err(Stop::Usage(text)) => {
            let usage = format!("Usage:  {program} {path} {}", command.usage);
            let usage = usage.trim_end();
            let message = format!("{text}\n\n{usage}\n\nRun '{program} {path} --help' for more information");
            return Err(Failure::new(125, message));
        }
        Err(Stop::Refused(failure)) => return Err(failure),
    };
    matches.path = path;
    command.check_arity(&matches, program)?;
    (command.run)(session, &matches)
}

enum Found {
    Command(&'static Command, usize),
    Help(String),
    Nothing(String),
}

/// The command that the words begin with, and how many of them name it.
fn find(program: &str, words: &[String]) -> Outcome<Found> {
    let first = words[0].as_str();
    if let Some(group) = GROUPS.iter().find(|g| g.name == first) {
        let second = words.get(1).map_or("", String::as_str);
        let path = format!("{first} {second}");
        if let Some(command) = commands().find(|c| c.paths.contains(&path.as_str())) {
            return Ok(Found::Command(command, 2));
        }
        let text = help::group(program, group, &members(group.name));
        return match second {
            "--help" | "-h" | "help" => Ok(Found::Help(text)),
            "" => Ok(Found::Nothing(text)),
            flag if flag.starts_with('-') => Err(Failure::new(
                125,
                format!(
                    "unknown flag: {flag}\n\nUsage:  {program} {first}\n\nRun '{program} {first} --help' for more information"
                ),
            )),
            other => Err(Failure::text(format!(
                "{program}: unknown command: {program} {first} {other}\n\nUsage:  {program} {first}\n\nRun '{program} {first} --help' for more information"
            ))),
        };
    }
    match commands().find(|c| c.paths.contains(&first)) {
        Some(command) => Ok(Found::Command(command, 1)),
        None => Err(Failure::text(format!(
            "{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information"
        ))),
    }
}

/// The commands of a group by their second word, sorted.
fn members(group: &str) -> Vec<(&'static str, &'static Command)> {
    let mut found: Vec<(&str, &Command)> = commands()
        .filter_map(|c| {
            let path = c
                .paths
                .iter()
                .find_map(|p| p.strip_prefix(group)?.strip_prefix(' '))?;
            Some((path, c))
        })
        .collect();
    found.sort_by_key(|(name, _)| *name);
    found
}

/// The commands of one word, sorted.
fn top_level() -> Vec<(&'static str, &'static Command)> {
    let mut found: Vec<(&str, &Command)> = commands()
        .filter_map(|c| Some((*c.paths.iter().find(|p| !p.contains(' '))?, c)))
        .collect();
    found.sort_by_key(|(name, _)| *name);
    found
}

fn root_help(program: &str) -> String {
    let groups: Vec<&Group> = GROUPS.iter().collect();
    help::root(
        program,
        &groups,
        &top_level(),
        &GLOBAL_FLAGS.iter().collect::<Vec<_>>(),
    )
}

fn help_topic(program: &'static str, words: &[String]) -> Outcome {
    if words.is_empty() {
        output::print(&root_help(program));
        return Ok(());
    }
    let unknown = || Failure::text(format!("unknown help topic: {}", words.join(" ")));
    let text = match words {
        [group] if GROUPS.iter().any(|g| g.name == group) => {
            let group = GROUPS.iter().find(|g| g.name == group).ok_or_else(unknown)?;
            help::group(program, group, &members(group.name))
        }
        words => match find(program, words).map_err(|_| unknown())? {
            Found::Command(command, length) if length == words.len() => {
                help::command(program, &words.join(" "), command)
            }
            _ => return Err(unknown()),
        },
    };
    output::print(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_is_there_once_and_every_flag_is_named_once() {
        let mut paths = BTreeSet::new();
        for command in commands() {
            for path in command.paths {
                assert!(paths.insert(*path), "{path} twice");
            }
            let flags = command.all_flags();
            let names: BTreeSet<&str> = flags.iter().map(|f| f.long).collect();
            assert_eq!(names.len(), flags.len(), "{}", command.paths[0]);
            let letters: Vec<char> = flags.iter().map(|f| f.short).filter(|c| *c != '\0').collect();
            assert_eq!(
                letters.iter().collect::<BTreeSet<_>>().len(),
                letters.len(),
                "{}",
                command.paths[0]
            );
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, want) in [
            (
                vec!["frobnicate"],
                "ferry: unknown command: ferry frobnicate\n\nRun 'ferry --help' for more information",
            ),
            (
                vec!["rm"],
                "ferry: 'ferry rm' requires at least 1 argument\n\nUsage:  ferry rm [OPTIONS] CONTAINER [CONTAINER...]\n\nSee 'ferry rm --help' for more information",
            ),
            (
                vec!["ps", "--nope"],
                "unknown flag: --nope\n\nUsage:  ferry ps [OPTIONS]\n\nRun 'ferry ps --help' for more information",
            ),
        ] {
            let args: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert_eq!(run("ferry", &args).unwrap_err().message, want);
        }
    }
}
