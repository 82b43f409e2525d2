//! `stats`: a table of meters, once or as a screen that refreshes itself.

use super::lifecycle::path;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::listing::{self, Listing};
use crate::cli::output::{self, short_id, units};
use crate::cli::session::Session;
use ferry_api::client::Request;

static LISTING: Listing = Listing {
    columns: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    raw: "",
    quiet: "{{.ID}}",
    kind: "container.statsContext",
};

/// `stats`
pub(super) fn stats(session: &Session, m: &Matches) -> Outcome {
    let format = match m.get("format") {
        "" => session.config().format("statsFormat"),
        format => format,
    };
    let template = LISTING.template(format, false);
    let trunc = !m.on("no-trunc");
    loop {
        let (rows, errors) = sample(session, m, trunc)?;
        if !errors.is_empty() && !m.args.is_empty() {
            return super::lifecycle::join(errors);
        }
        if m.on("no-stream") {
            if !rows.is_empty() {
                output::print(&LISTING.render(&template, &rows)?);
            }
            return Ok(());
        }
        let text = LISTING.render(&template, &rows)?;
        // Home, each line cleared to its end, then everything below.
        let mut frame = String::from("\x1b[H");
        for line in text.split('\n') {
            frame.push_str(&format!("{line}\x1b[K\n"));
        }
        output::print(&format!("{frame}\x1b[J"));
        if rows.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    }
}

/// One sample of each container. The engine takes two measurements a second apart, all of them at the same time.
fn sample(session: &Session, m: &Matches, trunc: bool) -> Outcome<(Vec<Json>, Vec<String>)> {
    let names: Vec<String> = if m.args.is_empty() {
        match session.json(Request::get("/containers/json").query_flag("all", m.on("all")))? {
            Json::Array(all) => all.iter().map(|c| c.text("Id").to_owned()).collect(),
            _ => {
                return Err(Failure::text(
                    "unexpected answer from the engine: no list of containers",
                ));
            }
        }
    } else {
        m.args.clone()
    };
    let client = session.client()?;
    let pending: Vec<_> = names
        .iter()
        .map(|n| client.begin(Request::get(path(n, "stats")).query("stream", "0")))
        .collect();
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for (name, pending) in names.iter().zip(pending) {
        let answer = pending.and_then(|p| p.finish()).and_then(|r| r.bytes());
        match answer {
            Ok(bytes) => rows.push(row(name, &Json::parse(&bytes)?, trunc)),
            Err(error) => errors.push(error.to_string()),
        }
    }
    Ok((rows, errors))
}

fn row(container: &str, s: &Json, trunc: bool) -> Json {
    let name = s.text("name").trim_start_matches('/');
    let id = if trunc {
        short_id(s.text("id"))
    } else {
        s.text("id")
    };
    let memory = memory(s);
    let limit = s.float("memory_stats.limit");
    let percent = if limit > 0.0 { memory / limit * 100.0 } else { 0.0 };
    let sum = |field: &str| {
        s.entries("networks")
            .iter()
            .map(|(_, n)| n.float(field))
            .sum::<f64>()
    };
    let pair = |a: f64, b: f64| {
        format!(
            "{} / {}",
            units::human_size_precise(a, 3),
            units::human_size_precise(b, 3)
        )
    };
    listing::row(vec![
        ("Container", container.to_owned()),
        (
            "Name",
            if name.is_empty() {
                "--".into()
            } else {
                name.to_owned()
            },
        ),
        ("ID", id.to_owned()),
        ("CPUPerc", format!("{:.2}%", cpu_percent(s))),
        (
            "MemUsage",
            format!("{} / {}", units::bytes_size(memory), units::bytes_size(limit)),
        ),
        ("MemPerc", format!("{percent:.2}%")),
        ("NetIO", pair(sum("rx_bytes"), sum("tx_bytes"))),
        ("BlockIO", pair(block(s, 'r'), block(s, 'w'))),
        ("PIDs", s.int("pids_stats.current").to_string()),
    ])
}

/// Share of all processors between the two measurements, 100 being one processor.
fn cpu_percent(s: &Json) -> f64 {
    let used = s.float("cpu_stats.cpu_usage.total_usage") - s.float("precpu_stats.cpu_usage.total_usage");
    let passed = s.float("cpu_stats.system_cpu_usage") - s.float("precpu_stats.system_cpu_usage");
    let online = match s.float("cpu_stats.online_cpus") {
        0.0 => s.list("cpu_stats.cpu_usage.percpu_usage").len() as f64,
        online => online,
    };
    if used > 0.0 && passed > 0.0 {
        used / passed * online * 100.0
    } else {
        0.0
    }
}

/// Memory without the page cache that could be dropped at once.
fn memory(s: &Json) -> f64 {
    let usage = s.float("memory_stats.usage");
    // cgroup v1 has the sum over the hierarchy under its own name.
    let stats = s.at("memory_stats.stats");
    let field = if stats.get("total_inactive_file").is_some() {
        "total_inactive_file"
    } else {
        "inactive_file"
    };
    let cache = stats.float(field);
    if cache < usage { usage - cache } else { usage }
}

fn block(s: &Json, operation: char) -> f64 {
    let entries = s.list("blkio_stats.io_service_bytes_recursive").iter();
    entries
        .filter(|e| e.text("op").to_lowercase().starts_with(operation))
        .map(|e| e.float("value"))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_as_docker_reads_them() {
        let s = Json::parse(
            br#"{"name":"/web","id":"0123456789abcdef","memory_stats":{"usage":3000000,"limit":6000000,"stats":{"total_inactive_file":1000000}},
            "cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},
            "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":5}},"pids_stats":{"current":3},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":10},{"op":"write","value":2000}]}}"#,
        )
        .expect("json");
        let row = row("web", &s, true);
        for (field, want) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "40.00%"),
            ("MemUsage", "1.907MiB / 5.722MiB"),
            ("MemPerc", "33.33%"),
            ("NetIO", "1kB / 5B"),
            ("BlockIO", "10B / 2kB"),
            ("PIDs", "3"),
        ] {
            assert_eq!(row.text(field), want, "{field}");
        }
    }
}
