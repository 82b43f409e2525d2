//! `version`

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::{Json, hidden};
use crate::cli::output::template::Format;
use crate::cli::output::{self, listing, order, table};
use crate::cli::session::Session;
use ferry_api::client::Request;

pub(super) use crate::cli::session::API_VERSION;

/// The commit this was built from, as the build told it.
pub(crate) fn build() -> &'static str {
    match option_env!("FERRY_COMMIT") {
        Some(commit) if !commit.is_empty() => commit,
        _ => "unknown",
    }
}

/// What is known of the client.
pub(super) fn client(session: &Session) -> Vec<(String, Json)> {
    let fields: [(&str, String); 9] = [
        ("Version", env!("CARGO_PKG_VERSION").into()),
        ("ApiVersion", API_VERSION.into()),
        ("DefaultAPIVersion", API_VERSION.into()),
        ("GitCommit", build().into()),
        ("GoVersion", String::new()),
        ("Os", "linux".into()),
        ("Arch", crate::hello::architecture().into()),
        (
            "BuildTime",
            option_env!("FERRY_BUILD_TIME").unwrap_or_default().into(),
        ),
        ("Context", session.context_name()),
    ];
    fields
        .into_iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| (k.to_owned(), Json::String(v)))
        .collect()
}

/// `version`
pub(super) fn version(session: &Session, m: &Matches) -> Outcome {
    let answer = session.json(Request::get("/version"));
    let server = answer.as_ref().ok().cloned().unwrap_or(Json::Null);
    let client = Json::Object(client(session));
    match m.get("format") {
        "" => output::print(&pretty(&client, &server)),
        source => {
            let all = Json::Object(vec![
                ("Client".into(), aliases(client)),
                ("Server".into(), aliases(order::typed(server, "Server"))),
            ]);
            let format = Format::parse(&listing::source(source).1).map_err(|e| Failure::new(64, e))?;
            output::line(&format.render(&all)?);
        }
    }
    answer.map(|_| ())
}

/// Templates may use Go's field name where JSON has another.
fn aliases(mut json: Json) -> Json {
    if let Json::Object(entries) = &mut json
        && let Some((_, value)) = entries.iter().find(|(k, _)| k == "ApiVersion").cloned()
    {
        entries.push(("APIVersion".into(), hidden(value)));
    }
    json
}

fn pretty(client: &Json, server: &Json) -> String {
    let mut out = String::from("Client:\n");
    let mut line = |indent: &str, name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{indent}{name}:\t{value}\n"));
        }
    };
    line(" ", "Version", client.text("Version"));
    line(" ", "API version", client.text("ApiVersion"));
    line(" ", "Git commit", client.text("GitCommit"));
    line(" ", "Built", client.text("BuildTime"));
    line(
        " ",
        "OS/Arch",
        &format!("{}/{}", client.text("Os"), client.text("Arch")),
    );
    line(" ", "Context", client.text("Context"));
    if matches!(server, Json::Object(_)) {
        let platform = server.text("Platform.Name");
        out.push_str(&format!(
            "\nServer:{}\n",
            if platform.is_empty() {
                String::new()
            } else {
                format!(" {platform}")
            }
        ));
        for component in server.list("Components") {
            push_component(&mut out, component);
        }
    }
    table::align_with(&out, 20, 1)
}

fn push_component(out: &mut String, component: &Json) {
    let detail = |name: &str| component.at("Details").get(name).map_or("", Json::as_str);
    out.push_str(&format!(
        " {}:\n  Version:\t{}\n",
        component.text("Name"),
        component.text("Version")
    ));
    if component.text("Name") != "Engine" {
        for (name, value) in component.entries("Details") {
            out.push_str(&format!("  {name}:\t{}\n", value.as_str()));
        }
        return;
    }
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("  {name}:\t{value}\n"));
        }
    };
    line(
        "API version",
        &format!(
            "{} (minimum version {})",
            detail("ApiVersion"),
            detail("MinAPIVersion")
        ),
    );
    line("Go version", detail("GoVersion"));
    line("Git commit", detail("GitCommit"));
    line("Built", &ansi_date(detail("BuildTime")));
    line("OS/Arch", &format!("{}/{}", detail("Os"), detail("Arch")));
    line("Experimental", detail("Experimental"));
}

/// `Mon Jan _2 15:04:05 2006`, in the zone of the text.
fn ansi_date(text: &str) -> String {
    use crate::cli::output::clock::{civil, parse_rfc3339};
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let Some((seconds, _)) = parse_rfc3339(text) else {
        return text.to_owned();
    };
    let c = civil(seconds);
    format!(
        "{} {} {:>2} {:02}:{:02}:{:02} {}",
        DAYS[c.weekday as usize],
        MONTHS[c.month as usize - 1],
        c.day,
        c.hour,
        c.minute,
        c.second,
        c.year
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_columns() {
        assert_eq!(
            ansi_date("2026-08-20T12:38:49.000000000+00:00"),
            "Thu Aug 20 12:38:49 2026"
        );
        let server = Json::parse(
            br#"{"Platform":{"Name":""},"Components":[{"Name":"Engine","Version":"29.0","Details":{"ApiVersion":"1.52","MinAPIVersion":"1.44","Os":"linux","Arch":"amd64","Experimental":"false"}}]}"#,
        )
        .expect("json");
        let client =
            Json::parse(br#"{"Version":"1","Os":"linux","Arch":"amd64","Context":"default"}"#).expect("json");
        let text = pretty(&client, &server);
        assert!(text.contains(" Version:           1\n"), "{text}");
        assert!(text.contains("\nServer:\n Engine:\n  Version:          29.0\n  API version:      1.52 (minimum version 1.44)\n"), "{text}");
    }
}
