//! `events`

use crate::cli::container::timestamp;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::options::values;
use crate::cli::output::json::{Json, hidden};
use crate::cli::output::template::Format;
use crate::cli::output::{self, clock, listing};
use crate::cli::session::Session;
use ferry_api::client::Request;
use std::io::BufReader;

/// `events`
pub(super) fn events(session: &Session, m: &Matches) -> Outcome {
    let bad = |e: String| {
        Failure::new(
            64,
            format!(
                "Error parsing format: {}",
                e.trim_start_matches("template parsing error: ")
            ),
        )
    };
    let format = match m.get("format") {
        "" => None,
        source => {
            let format = Format::parse(&listing::source(source).1).map_err(bad)?;
            // A field that no event has is refused before anything is awaited.
            let nothing = [("Type", "".into()), ("Action", "".into()), ("Actor", no_actor())];
            let nothing = Json::Object(nothing.map(|(k, v)| (k.to_owned(), v)).into());
            format
                .render(&with_go_names(nothing))
                .map_err(|e| bad(no_field(&e)))?;
            Some(format)
        }
    };
    let time = |name: &str| match m.get(name) {
        "" => Ok(String::new()),
        text => timestamp(text),
    };
    let request = Request::get("/events")
        .query_some("since", &time("since")?)
        .query_some("until", &time("until")?)
        .query_some("filters", &values::filters(&m.all("filter")));
    let response = session.client()?.send(request)?;
    // A stream that ends with the engine is no error; one that ends inside a message is.
    for event in serde_json::Deserializer::from_reader(BufReader::new(response.body)).into_iter::<Json>() {
        let event = match event {
            Ok(event) => event,
            Err(e) if e.is_io() || e.is_eof() => break,
            Err(e) => return Err(Failure::text(format!("reading events: {e}"))),
        };
        match &format {
            None => output::line(&pretty(&event)),
            Some(format) => output::line(&format.render(&with_go_names(event))?),
        }
    }
    Ok(())
}

fn no_actor() -> Json {
    Json::Object(vec![
        ("ID".into(), "".into()),
        ("Attributes".into(), Json::Object(Vec::new())),
    ])
}

/// Go names the type where a map would name the key.
fn no_field(error: &str) -> String {
    match error.split_once(": map has no entry for key ") {
        Some((head, key)) => format!(
            "{head}: can't evaluate field {} in type *events.Message",
            key.trim_matches('"')
        ),
        None => error.to_owned(),
    }
}

/// Templates use the names of Go's fields.
fn with_go_names(mut event: Json) -> Json {
    const NAMES: [(&str, &str); 6] = [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ];
    if let Json::Object(entries) = &mut event {
        for (json, go) in NAMES {
            let value = entries.iter().find(|(k, _)| k == json).map(|(_, v)| v.clone());
            entries.push((go.to_owned(), hidden(value.unwrap_or_else(|| "".into()))));
        }
    }
    event
}

fn pretty(event: &Json) -> String {
    let nanoseconds = match event.int("timeNano") {
        0 => event.int("time") * 1_000_000_000,
        n => n,
    };
    let time = match nanoseconds {
        0 => String::new(),
        n => {
            let fraction = n.rem_euclid(1_000_000_000) as u32;
            format!("{} ", clock::rfc3339(n.div_euclid(1_000_000_000), Some(fraction)))
        }
    };
    let mut line = format!(
        "{time}{} {} {}",
        event.text("Type"),
        event.text("Action"),
        event.text("Actor.ID")
    );
    let mut attributes: Vec<String> = event
        .entries("Actor.Attributes")
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str()))
        .collect();
    if !attributes.is_empty() {
        attributes.sort();
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_an_event() {
        let event = Json::parse(
            br#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"web","exitCode":"0"}},"time":0,"timeNano":0}"#,
        )
        .expect("json");
        assert_eq!(pretty(&event), "container die abc (exitCode=0, name=web)");
    }
}
