//! Completion scripts for the shells, from the same definitions as the parser and the help.

use super::command::{Arity, Command};
use super::failure::Outcome;
use super::flags::{Flag, Matches};
use super::session::{GLOBAL_FLAGS, Session};
use super::{GROUPS, output};
use clap_complete::{Generator, Shell};

/// One command a shell.
pub(crate) static COMMANDS: [Command; 3] = [
    Command::new(
        &["completion bash"],
        "",
        "Generate the completion script for bash",
        Arity::None,
        bash,
    ),
    Command::new(
        &["completion fish"],
        "",
        "Generate the completion script for fish",
        Arity::None,
        fish,
    ),
    Command::new(
        &["completion zsh"],
        "",
        "Generate the completion script for zsh",
        Arity::None,
        zsh,
    ),
];

fn bash(session: &Session, _: &Matches) -> Outcome {
    print(session.program, Shell::Bash)
}

fn fish(session: &Session, _: &Matches) -> Outcome {
    print(session.program, Shell::Fish)
}

fn zsh(session: &Session, _: &Matches) -> Outcome {
    print(session.program, Shell::Zsh)
}

fn print(program: &'static str, shell: Shell) -> Outcome {
    output::print(&script(program, shell));
    Ok(())
}

fn script(program: &'static str, shell: Shell) -> String {
    let mut command = tree(program);
    command.set_bin_name(program);
    command.build();
    let mut out = Vec::new();
    shell.generate(&command, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// All definitions in the form that the generator reads.
fn tree(program: &'static str) -> clap::Command {
    let mut root = with_flags(
        clap::Command::new(program).disable_help_subcommand(true),
        GLOBAL_FLAGS.iter().collect(),
    );
    for (name, command) in super::top_level() {
        root = root.subcommand(one(name, command));
    }
    for group in &GROUPS {
        let mut parent = clap::Command::new(group.name)
            .about(group.short)
            .disable_help_subcommand(true);
        for (name, command) in super::members(group.name) {
            parent = parent.subcommand(one(name, command));
        }
        root = root.subcommand(parent);
    }
    root
}

fn one(name: &'static str, command: &'static Command) -> clap::Command {
    with_flags(clap::Command::new(name).about(command.short), command.all_flags())
}

fn with_flags(mut command: clap::Command, flags: Vec<&'static Flag>) -> clap::Command {
    command = command.disable_help_flag(true).disable_version_flag(true);
    for flag in flags.into_iter().filter(|f| !f.hidden && !f.unsupported) {
        let summary = flag.usage.lines().next().unwrap_or_default();
        let mut arg = clap::Arg::new(flag.long).long(flag.long).help(summary);
        if flag.short != '\0' {
            arg = arg.short(flag.short);
        }
        arg = if flag.is_switch() {
            arg.action(clap::ArgAction::SetTrue)
        } else {
            arg.value_hint(hint(flag.long))
        };
        command = command.arg(arg);
    }
    command
}

fn hint(name: &str) -> clap::ValueHint {
    match name {
        "env-file" | "label-file" | "cidfile" | "input" | "output" | "tlscacert" | "tlscert" | "tlskey" => {
            clap::ValueHint::FilePath
        }
        "config" => clap::ValueHint::DirPath,
        _ => clap::ValueHint::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_every_command_and_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script("ferry", shell);
            for word in ["run", "images", "cap-add", "publish-all", "prune"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(
                !script.contains("io-maxbandwidth"),
                "{shell} offers what is refused"
            );
        }
    }
}
