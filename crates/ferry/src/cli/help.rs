//! Help texts in Docker's layout, so that what people and scripts know by eye stays where it was.

use super::command::{Command, Group};
use super::flags::Flag;

/// Width used when standard input is no terminal.
const DEFAULT_WIDTH: usize = 80;
/// How far a last word may reach over the margin rather than stand alone.
const SLOP: usize = 5;

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdin())
        .map_or(DEFAULT_WIDTH, |w| usize::from(w.ws_col))
        .max(1)
}

/// The help of one command, `path` as it was called.
pub(crate) fn command(program: &str, path: &str, command: &Command) -> String {
    let mut out = format!(
        "Usage:  {}\n\n",
        format!("{program} {path} {}", command.usage).trim_end()
    );
    out.push_str(if command.long.is_empty() {
        command.short
    } else {
        command.long
    });
    out.push('\n');
    if !command.aliases.is_empty() {
        let aliases: Vec<String> = command
            .aliases
            .split(", ")
            .map(|a| format!("{program} {a}"))
            .collect();
        out.push_str(&format!("\nAliases:\n  {}\n", aliases.join(", ")));
    }
    let flags = command.all_flags();
    if flags.iter().any(|f| !f.hidden) {
        out.push_str(&format!(
            "\nOptions:\n{}\n",
            flag_usages(&flags, width() - 1).trim_end()
        ));
    }
    out
}

/// The help of a group.
pub(crate) fn group(program: &str, group: &Group, commands: &[(&str, &Command)]) -> String {
    let mut out = format!(
        "Usage:  {program} {} COMMAND\n\n{}\n\nCommands:\n",
        group.name, group.short
    );
    let padding = commands.iter().map(|(n, _)| n.len()).max().unwrap_or(0).max(11);
    for (name, command) in commands {
        out.push_str(&format!("  {name:padding$} {}\n", command.short));
    }
    out.push_str(&format!(
        "\nRun '{program} {} COMMAND --help' for more information on a command.\n",
        group.name
    ));
    out
}

/// The help of the program itself.
pub(crate) fn root(
    program: &str,
    groups: &[&Group],
    commands: &[(&str, &Command)],
    flags: &[&'static Flag],
) -> String {
    let mut out =
        format!("Usage:  {program} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n");
    let mut top: Vec<_> = commands.iter().filter(|(_, c)| c.top > 0).collect();
    top.sort_by_key(|(_, c)| c.top);
    out.push_str("\nCommon Commands:\n");
    for (name, command) in top {
        out.push_str(&format!("  {name:11} {}\n", command.short));
    }
    out.push_str("\nManagement Commands:\n");
    for group in groups {
        out.push_str(&format!("  {:11} {}\n", group.name, group.short));
    }
    out.push_str("\nCommands:\n");
    for (name, command) in commands.iter().filter(|(_, c)| c.top == 0) {
        out.push_str(&format!("  {name:11} {}\n", command.short));
    }
    out.push_str(&format!(
        "\nGlobal Options:\n{}\n",
        flag_usages(flags, width() - 1).trim_end()
    ));
    out.push_str(&format!(
        "\nRun '{program} COMMAND --help' for more information on a command.\n"
    ));
    out
}

/// The table of flags, wrapped to `columns`.
fn flag_usages(flags: &[&'static Flag], columns: usize) -> String {
    let lines: Vec<(String, String)> = flags
        .iter()
        .filter(|f| !f.hidden)
        .map(|f| (left(f), right(f)))
        .collect();
    let widest = lines.iter().map(|(l, _)| l.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (left, right) in lines {
        let text = wrap(&right, widest + 3, columns);
        out.push_str(&format!("{left:widest$}   {text}\n"));
    }
    out
}

fn left(flag: &Flag) -> String {
    let name = match flag.short {
        '\0' => format!("      --{}", flag.long),
        short => format!("  -{short}, --{}", flag.long),
    };
    let (value, _) = unquote(flag);
    if value.is_empty() {
        name
    } else {
        format!("{name} {value}")
    }
}

/// The value's name and the usage text: a back-quoted word in the text names the value.
fn unquote(flag: &Flag) -> (String, String) {
    let mut parts = flag.usage.splitn(3, '`');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(name), Some(after)) => (name.to_owned(), format!("{before}{name}{after}")),
        _ => (flag.value.to_owned(), flag.usage.to_owned()),
    }
}

fn right(flag: &Flag) -> String {
    let (_, usage) = unquote(flag);
    let shown = if flag.shown.is_empty() {
        flag.default
    } else {
        flag.shown
    };
    match (flag.value, shown) {
        (_, "" | "false" | "0") => usage,
        ("string", shown) if !shown.starts_with("map[") => {
            format!("{usage} (default {})", super::output::quote(shown))
        }
        (_, shown) => format!("{usage} (default {shown})"),
    }
}

/// Wraps to `columns`, every line but the first indented. Line breaks of the text stay.
fn wrap(text: &str, indent: usize, columns: usize) -> String {
    let margin = " ".repeat(indent);
    let room = columns.saturating_sub(indent);
    if room < 24 {
        return text.replace('\n', &format!("\n{margin}"));
    }
    let room = room - SLOP;
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, left) = break_line(rest, room);
        lines.push(line.replace('\n', &format!("\n{margin}")));
        rest = left;
    }
    lines.join(&format!("\n{margin}"))
}

/// Cuts at the last blank within `room`; a line break before it wins.
fn break_line(text: &str, room: usize) -> (&str, &str) {
    if text.len() < room + SLOP || !text.is_char_boundary(room) {
        return (text, "");
    }
    let head = &text[..room];
    let Some(blank) = head.rfind([' ', '\t', '\n']).filter(|&at| at > 0) else {
        return (text, "");
    };
    let at = head.rfind('\n').filter(|&at| at > 0).unwrap_or(blank);
    (&text[..at], &text[at + 1..])
}
