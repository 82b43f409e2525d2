//! `inspect`, `top`, `diff`, `port`.

use super::lifecycle::{join, path};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::{Json, hidden};
use crate::cli::output::template::{Format, Values};
use crate::cli::output::{self, listing, order, table};
use crate::cli::session::Session;
use ferry_api::client::{Request, segment};

/// `container inspect`
pub(super) fn inspect(session: &Session, m: &Matches) -> Outcome {
    let size = m.on("size");
    inspect_one(m, |name| {
        session.json(Request::get(path(name, "json")).query_flag("size", size))
    })
}

/// What every `inspect` does: get each thing, then print them all as JSON or through a template. Things that are not
/// there are reported after those that are.
pub(crate) fn inspect_one(m: &Matches, get: impl Fn(&str) -> Outcome<Json>) -> Outcome {
    let template = m.get("format");
    let format = match template {
        "" | "json" => None,
        source => {
            let format = Format::parse(&listing::source(source).1).map_err(|e| Failure::new(64, e))?;
            Some(format.of(Values::Inspected))
        }
    };
    let (mut found, mut text, mut errors) = (Vec::new(), String::new(), Vec::new());
    for name in &m.args {
        match get(name) {
            Ok(thing) => match &format {
                None => found.push(thing),
                Some(format) => match format.render(&order::typed(with_absent(thing), "")) {
                    Ok(line) => text.push_str(&format!("{line}\n")),
                    Err(error) => errors.push(error),
                },
            },
            Err(error) => errors.push(error.message),
        }
    }
    match (template, &format) {
        ("json", _) => output::line(&Json::Array(found).compact()),
        (_, None) => output::line(&Json::Array(found).pretty()),
        _ if text.is_empty() => output::line(""),
        _ => output::print(&text),
    }
    join(errors)
}

/// Fields of containers that the API leaves out when they are empty, and that templates may ask for all the same.
const ABSENT: [&str; 9] = [
    "State.Health",
    "Config.Healthcheck",
    "Config.StopSignal",
    "Config.StopTimeout",
    "HostConfig.Tmpfs",
    "HostConfig.Sysctls",
    "HostConfig.Mounts",
    "HostConfig.Init",
    "HostConfig.StorageOpt",
];

fn with_absent(mut thing: Json) -> Json {
    for path in ABSENT {
        let Some((parent, field)) = path.split_once('.') else {
            continue;
        };
        if let Json::Object(entries) = &mut thing
            && let Some((_, Json::Object(members))) = entries.iter_mut().find(|(k, _)| k == parent)
            && !members.iter().any(|(k, _)| k == field)
        {
            members.push((field.to_owned(), hidden(Json::Null)));
        }
    }
    thing
}

/// `top`
pub(super) fn top(session: &Session, m: &Matches) -> Outcome {
    let arguments = m.args[1..].join(" ");
    let answer = session.json(Request::get(path(m.arg(0), "top")).query_some("ps_args", &arguments))?;
    let cells = |row: &[Json]| row.iter().map(Json::as_str).collect::<Vec<_>>().join("\t");
    let mut text = format!("{}\n", cells(answer.list("Titles")));
    for process in answer.list("Processes") {
        if let Json::Array(process) = process {
            text.push_str(&format!("{}\n", cells(process)));
        }
    }
    output::print(&table::align_with(&text, 20, 3));
    Ok(())
}

/// `diff`
pub(super) fn diff(session: &Session, m: &Matches) -> Outcome {
    let changes = session.json(Request::get(format!("/containers/{}/changes", segment(m.arg(0)))))?;
    if let Json::Array(changes) = changes {
        for change in &changes {
            let kind = match change.int("Kind") {
                0 => "C",
                1 => "A",
                2 => "D",
                other => {
                    return Err(Failure::text(format!(
                        "the engine reports a change of an unknown kind: {other}"
                    )));
                }
            };
            output::line(&format!("{kind} {}", change.text("Path")));
        }
    }
    Ok(())
}

/// `port`
pub(super) fn port(session: &Session, m: &Matches) -> Outcome {
    let name = m.arg(0);
    let container = session.json(Request::get(path(name, "json")))?;
    let address = |b: &Json| match b.text("HostIp") {
        ip if ip.contains(':') => format!("[{ip}]:{}", b.text("HostPort")),
        ip => format!("{ip}:{}", b.text("HostPort")),
    };
    let bindings = |list: &Json| match list {
        Json::Array(list) => list.iter().map(address).collect(),
        _ => Vec::new(),
    };
    let ports = container.at("NetworkSettings.Ports");
    let mut lines: Vec<String> = match m.arg(1) {
        "" => ports
            .entries_here()
            .iter()
            .flat_map(|(port, list)| bindings(list).into_iter().map(move |b| format!("{port} -> {b}")))
            .collect(),
        wanted => {
            let (number, proto) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if number.parse::<u16>().is_err() {
                return Err(Failure::text(format!("invalid port '{number}': invalid syntax")));
            }
            let found = ports
                .get(&format!("{number}/{proto}"))
                .map(bindings)
                .unwrap_or_default();
            if found.is_empty() {
                return Err(Failure::text(format!(
                    "Error: No public port '{wanted}' published for {name}"
                )));
            }
            found
        }
    };
    lines.sort_by_key(|l| natural_key(l));
    if !lines.is_empty() {
        output::line(&lines.join("\n"));
    }
    Ok(())
}

/// Sorts digits in a text by their value.
pub(crate) fn natural_key(text: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        parts.push((word.to_owned(), after[..end].parse().unwrap_or(u64::MAX)));
        rest = &after[end..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_by_value() {
        let mut all = vec![
            "443/tcp -> 0.0.0.0:443",
            "80/tcp -> 0.0.0.0:8080",
            "80/tcp -> 0.0.0.0:80",
        ];
        all.sort_by_key(|l| natural_key(l));
        assert_eq!(
            all,
            [
                "80/tcp -> 0.0.0.0:80",
                "80/tcp -> 0.0.0.0:8080",
                "443/tcp -> 0.0.0.0:443"
            ]
        );
    }
}
