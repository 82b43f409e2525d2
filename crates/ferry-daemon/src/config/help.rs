//! The help text, made from the table.

use super::options::{Kind, OPTIONS};
use super::{DEFAULT_FILE, DEFAULT_HOST};

/// The width of the column of flags.
const COLUMN: usize = 40;

/// What `ferry daemon --help` prints.
pub fn help() -> String {
    let mut rows = vec![
        (
            "      --config-file string".to_owned(),
            format!("The engine's configuration file (default \"{DEFAULT_FILE}\")"),
        ),
        ("  -h, --help".into(), "Print this".into()),
        (
            "      --validate".into(),
            "Check the configuration and exit".into(),
        ),
        ("  -v, --version".into(), "Print the version and exit".into()),
    ];
    for option in OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |s| format!("-{s}, "));
        let kind = match option.kind {
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::Number => " int",
            Kind::List => " list",
            Kind::Map => " map",
            Kind::Ulimits => " ulimit",
            Kind::Pools => " pool-options",
        };
        let default = if option.flag == "host" {
            format!(" (default {DEFAULT_HOST})")
        } else {
            String::new()
        };
        rows.push((
            format!("  {short}--{}{kind}", option.flag),
            format!("{}{default}", option.help),
        ));
    }
    rows.sort_by(|a, b| a.0[6..].cmp(&b.0[6..]));
    let lines: Vec<String> = rows
        .into_iter()
        .map(|(flag, text)| format!("{flag:COLUMN$} {text}"))
        .collect();
    format!(
        "Usage:  ferry daemon [OPTIONS]\n\nRuns the engine in the foreground. Containers keep running when it ends.\n\nOptions:\n{}\n",
        lines.join("\n")
    )
}
