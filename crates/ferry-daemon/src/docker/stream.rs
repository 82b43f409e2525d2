//! Streams of answers: log lines in frames, progress and events as JSON documents.

use super::error::ApiError;
use super::extract::Call;
use bytes::Bytes;
use ferry_api::docker::message::{ErrorDetail, JsonMessage, ProgressDetail};
use ferry_api::docker::time::{Time, rfc3339_fixed};
use ferry_engine::containers::logs::LogStream;
use ferry_engine::containers::options::LogLine;
use ferry_engine::images::view::{Progress, ProgressStream};
use futures_util::{Stream, StreamExt};
use hyper::header::ACCEPT;
use serde::Serialize;
use std::io;

/// How many log lines are put into one piece when they are there anyway.
const BATCH: usize = 64;

/// What begins a text of `application/json-seq`.
pub const RECORD_SEPARATOR: u8 = 0x1e;

/// One stdcopy frame: the stream, three zero bytes, the length as 32 bits, highest byte first, then the bytes.
pub fn frame(stream: u8, text: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend([stream, 0, 0, 0]);
    out.extend(length.to_be_bytes());
    out.extend(text);
}

/// What a log line looks like to this client.
#[derive(Clone, Copy, Debug)]
pub struct LineStyle {
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Each line carries its attributes.
    pub details: bool,
    /// No frames: there is a terminal.
    pub raw: bool,
}

fn write_line(line: &LogLine, style: LineStyle, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(line.text.len() + 32);
    if style.timestamps {
        text.extend(rfc3339_fixed(line.at).into_bytes());
        text.push(b' ');
    }
    if style.details {
        let pairs = line
            .attrs
            .iter()
            .map(|(k, v)| format!("{}={}", escape(k), escape(v)));
        text.extend(pairs.collect::<Vec<_>>().join(",").into_bytes());
        text.push(b' ');
    }
    text.extend(&line.text);
    if style.raw {
        out.extend(text);
    } else {
        frame(line.stream, &text, out);
    }
}

/// Escapes as in a query.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A log as bytes; an error ends it with a sentence in band, since the status is long sent.
pub fn log_bytes(lines: LogStream, style: LineStyle) -> impl Stream<Item = io::Result<Bytes>> {
    lines.ready_chunks(BATCH).map(move |batch| {
        let mut out = Vec::new();
        for line in batch {
            match line {
                Ok(line) => write_line(&line, style, &mut out),
                Err(e) => {
                    let text = format!("Error grabbing logs: {e}\n");
                    if style.raw {
                        out.extend(text.into_bytes());
                    } else {
                        frame(3, text.as_bytes(), &mut out);
                    }
                }
            }
        }
        Ok(Bytes::from(out))
    })
}

/// JSON texts of RFC 7464: each begins with a record separator.
pub const JSON_SEQUENCE: &str = "application/json-seq";

/// The first of the JSON streams that `Accept` names; wild cards do not count.
pub fn accepted(call: &Call) -> Option<&'static str> {
    let accept = call
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let mut asked = accept
        .split(',')
        .filter_map(|part| match part.split(';').next().unwrap_or("").trim() {
            "application/jsonl" => Some("application/jsonl"),
            "application/x-ndjson" => Some("application/x-ndjson"),
            JSON_SEQUENCE => Some(JSON_SEQUENCE),
            _ => None,
        });
    asked.next()
}

/// A log line as a JSON document.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonLine {
    #[serde(skip_serializing_if = "String::is_empty")]
    line: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    timestamp: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attrs: Vec<JsonAttr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct JsonAttr {
    key: String,
    value: String,
}

/// A log as JSON documents; `sequence` is RFC 7464's form.
pub fn log_documents(
    lines: LogStream,
    details: bool,
    sequence: bool,
) -> impl Stream<Item = io::Result<Bytes>> {
    lines.map(move |line| {
        let line = match line {
            Ok(line) => JsonLine {
                line: String::from_utf8_lossy(&line.text).into_owned(),
                source: if line.stream == 2 {
                    "stderr".into()
                } else {
                    "stdout".into()
                },
                timestamp: line.at.into(),
                attrs: line
                    .attrs
                    .into_iter()
                    .filter(|_| details)
                    .map(|(key, value)| JsonAttr { key, value })
                    .collect(),
                error: String::new(),
            },
            Err(e) => JsonLine {
                line: String::new(),
                source: String::new(),
                timestamp: Time(None),
                attrs: Vec::new(),
                error: e.to_string(),
            },
        };
        let mut bytes = if sequence {
            vec![RECORD_SEPARATOR]
        } else {
            Vec::new()
        };
        bytes.extend(document(&line, "\n")?);
        Ok(Bytes::from(bytes))
    })
}

/// A JSON document and what ends it.
pub fn document(value: &impl Serialize, end: &str) -> io::Result<Bytes> {
    let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    bytes.extend(end.as_bytes());
    Ok(bytes.into())
}

fn message(progress: Progress) -> JsonMessage {
    let Progress {
        id,
        status,
        current,
        total,
        aux,
        stream,
    } = progress;
    let clamp = |n: Option<u64>| i64::try_from(n.unwrap_or(0)).unwrap_or(i64::MAX);
    let plain = aux.is_some() || stream.is_some();
    let detail = match (id.is_some(), current.is_some() || total.is_some()) {
        (_, true) => Some(ProgressDetail {
            current: clamp(current),
            total: clamp(total),
        }),
        (true, false) if !plain => Some(ProgressDetail::default()),
        _ => None,
    };
    JsonMessage {
        stream: stream.unwrap_or_default(),
        status,
        progress_detail: detail,
        id: id.unwrap_or_default(),
        aux,
        ..JsonMessage::default()
    }
}

/// The last document of a stream that failed.
pub fn failure(error: &ApiError) -> JsonMessage {
    JsonMessage {
        error_detail: Some(ErrorDetail {
            code: 0,
            message: error.message.clone(),
        }),
        error: error.message.clone(),
        ..JsonMessage::default()
    }
}

/// Progress as `\r\n`-ended documents; an error is the last of them.
pub fn progress_bytes(steps: ProgressStream) -> impl Stream<Item = io::Result<Bytes>> {
    steps.map(|step| match step {
        Ok(step) => document(&message(step), "\r\n"),
        Err(e) => document(&failure(&ApiError::from(e)), "\r\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn line() -> LogLine {
        LogLine {
            stream: 2,
            at: UNIX_EPOCH + Duration::from_nanos(5),
            text: b"hi\n".to_vec(),
            attrs: vec![("a b".into(), "c=d".into()), ("e".into(), "f".into())],
            partial: false,
        }
    }

    #[test]
    fn lines_are_framed() {
        let mut out = Vec::new();
        write_line(
            &line(),
            LineStyle {
                timestamps: false,
                details: false,
                raw: false,
            },
            &mut out,
        );
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03hi\n");
    }

    #[test]
    fn times_come_before_details() {
        let mut out = Vec::new();
        write_line(
            &line(),
            LineStyle {
                timestamps: true,
                details: true,
                raw: true,
            },
            &mut out,
        );
        assert_eq!(out, b"1970-01-01T00:00:00.000000005Z a+b=c%3Dd,e=f hi\n");
    }

    #[test]
    fn progress_reads_as_dockers() {
        let text = |p: Progress| String::from_utf8(document(&message(p), "\r\n").unwrap().to_vec()).unwrap();
        assert_eq!(
            text(Progress::of("abc", "Pulling fs layer")),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(Progress::of("abc", "Downloading").at(1, 2)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(Progress::status("Digest: x")),
            "{\"status\":\"Digest: x\"}\r\n"
        );
        let failed = failure(&ApiError::invalid("no"));
        let text = String::from_utf8(document(&failed, "\r\n").unwrap().to_vec()).unwrap();
        assert_eq!(
            text,
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }
}
