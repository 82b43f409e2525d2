//! `logs`

use super::lifecycle::path;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::{clock, units};
use crate::cli::session::Session;
use crate::cli::streams;
use ferry_api::client::{Demux, Request};
use std::io::Read;

/// `logs`
pub(super) fn logs(session: &Session, m: &Matches) -> Outcome {
    let container = session.json(Request::get(path(m.arg(0), "json")))?;
    let since = |name: &str| match m.get(name) {
        "" => Ok(String::new()),
        text => timestamp(text).map_err(|e| Failure::text(format!("invalid value for \"{name}\": {e}"))),
    };
    let request = Request::get(path(container.text("Id"), "logs"))
        .query("stdout", "1")
        .query("stderr", "1")
        .query_some("since", &since("since")?)
        .query_some("until", &since("until")?)
        .query_flag("timestamps", m.on("timestamps"))
        .query_flag("follow", m.on("follow"))
        .query_flag("details", m.on("details"))
        .query("tail", m.get("tail"));
    let mut response = session.client()?.send(request)?;
    let tty = container.is_true("Config.Tty");
    let mut demux = Demux::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = match response.body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) => return Err(Failure::text(format!("reading the log: {e}"))),
        };
        if tty {
            streams::write_out(&buffer[..n])?;
        } else {
            demux.feed(&buffer[..n], |kind, bytes| {
                streams::show_frame([true, true], kind, bytes)
            })?;
        }
    }
}

/// Seconds since 1970 with a fraction, from a time, a number, or a duration that counts back from now.
pub(crate) fn timestamp(text: &str) -> Result<String, String> {
    if let Ok(nanoseconds) = units::parse_duration(text)
        && text.contains(|c: char| c.is_ascii_alphabetic())
    {
        return Ok(format!("{:.9}", clock::now() - nanoseconds as f64 / 1e9));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(text.to_owned());
    }
    let (local, text_full) = complete(text);
    let (seconds, nanoseconds) = clock::parse_rfc3339(&text_full).ok_or_else(|| {
        format!(
            "failed to parse value as time or duration: {}",
            crate::cli::output::quote(text)
        )
    })?;
    let seconds = if local { clock::to_utc(seconds) } else { seconds };
    Ok(format!("{seconds}.{nanoseconds:09}"))
}

/// Fills a date or a time without zone up to a full time; says whether it is local.
fn complete(text: &str) -> (bool, String) {
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let has_zone = time.ends_with('Z') || time.contains('+') || time.rfind('-').is_some();
    if has_zone {
        return (false, text.to_owned());
    }
    let time = match time.split(':').count() {
        _ if time.is_empty() => "00:00:00".to_owned(),
        1 => format!("{time}:00:00"),
        2 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    (true, format!("{date}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_times() {
        assert_eq!(timestamp("1700000000.5").as_deref(), Ok("1700000000.5"));
        assert_eq!(
            timestamp("2024-02-29T00:00:00Z").as_deref(),
            Ok("1709164800.000000000")
        );
        assert_eq!(
            timestamp("2024-02-29T02:00:00.25+02:00").as_deref(),
            Ok("1709164800.250000000")
        );
        let back: f64 = timestamp("10m").expect("duration").parse().expect("number");
        assert!((clock::now() - back - 600.0).abs() < 5.0);
        assert!(timestamp("soon").is_err());
        assert_eq!(complete("2024-02-29"), (true, "2024-02-29T00:00:00Z".into()));
    }
}
