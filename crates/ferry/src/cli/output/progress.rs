//! Progress of pull, push and load: live lines on a terminal, plain ones elsewhere.
//!
//! The engine sends JSON objects `{status,id,progressDetail{current,total},stream,aux,errorDetail,error}`, one after
//! another. Messages with an id and a progress object own a line each; anything else starts the picture anew.

use super::json::Json;
use super::units;
use crate::cli::failure::{Failure, Outcome};
use std::collections::HashMap;
use std::io::{BufReader, IsTerminal, Read, Write};

/// Width assumed when the terminal does not tell.
const DEFAULT_WIDTH: usize = 200;

/// Where progress goes, and what is known of it.
pub(crate) struct Display<'a> {
    out: &'a mut dyn Write,
    terminal: Option<usize>,
    lines: HashMap<String, usize>,
}

impl<'a> Display<'a> {
    /// To standard output.
    pub(crate) fn stdout(out: &'a mut std::io::Stdout) -> Self {
        let terminal = out.is_terminal().then(|| width(&*out));
        Display {
            out,
            terminal,
            lines: HashMap::new(),
        }
    }

    /// To standard error.
    pub(crate) fn stderr(out: &'a mut std::io::Stderr) -> Self {
        let terminal = out.is_terminal().then(|| width(&*out));
        Display {
            out,
            terminal,
            lines: HashMap::new(),
        }
    }

    /// As to a file.
    pub(crate) fn plain(out: &'a mut dyn Write) -> Self {
        Display {
            out,
            terminal: None,
            lines: HashMap::new(),
        }
    }

    /// Shows every message of the stream; the engine's error ends it.
    pub(crate) fn run(&mut self, stream: impl Read, mut aux: impl FnMut(&Json)) -> Outcome {
        let messages = serde_json::Deserializer::from_reader(BufReader::new(stream)).into_iter::<Json>();
        for message in messages {
            let message =
                message.map_err(|e| Failure::text(format!("reading the engine's progress: {e}")))?;
            if !matches!(message.at("aux"), Json::Null) {
                aux(message.at("aux"));
                continue;
            }
            self.show(&message)?;
        }
        Ok(())
    }

    fn show(&mut self, message: &Json) -> Outcome {
        let id = message.text("id");
        let progress = message
            .get("progressDetail")
            .filter(|p| matches!(p, Json::Object(_)));
        let mut up = 0;
        if !id.is_empty() && progress.is_some() {
            let known = self.lines.len();
            let line = *self.lines.entry(id.to_owned()).or_insert(known);
            if self.terminal.is_some() {
                if line == known {
                    self.out.write_all(b"\n")?;
                }
                up = self.lines.len() - line;
                self.out.write_all(format!("\x1b[{up}A").as_bytes())?;
            }
        } else {
            self.lines.clear();
        }
        let result = self.message(message, id, progress);
        if up > 0 {
            self.out.write_all(format!("\x1b[{up}B").as_bytes())?;
        }
        self.out.flush()?;
        result
    }

    fn message(&mut self, message: &Json, id: &str, progress: Option<&Json>) -> Outcome {
        let error = match message.text("errorDetail.message") {
            "" => message.text("error"),
            detail => detail,
        };
        if !error.is_empty() {
            return Err(Failure::text(error));
        }
        let stream = message.text("stream");
        let mut end = "";
        if let Some(progress) = progress {
            if self.terminal.is_some() && stream.is_empty() {
                self.out.write_all(b"\x1b[2K\r")?;
                end = "\r";
            } else if progress.int("current") > 0 || progress.int("total") > 0 {
                return Ok(());
            }
        }
        let prefix = if id.is_empty() {
            String::new()
        } else {
            format!("{id}: ")
        };
        let status = message.text("status");
        let text = match (progress, self.terminal) {
            (Some(progress), Some(width)) => format!("{prefix}{status} {}{end}", bar(progress, width)),
            _ if !stream.is_empty() => format!("{prefix}{stream}{end}"),
            _ => format!("{prefix}{status}{end}\n"),
        };
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }
}

fn width(terminal: impl std::os::fd::AsFd) -> usize {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => DEFAULT_WIDTH,
    }
}

/// `[====>      ]  1.2MB/3.4MB`; the bar only where the terminal is wider than 110 columns.
fn bar(progress: &Json, width: usize) -> String {
    let (current, total) = (progress.int("current"), progress.int("total"));
    let unit = progress.text("units");
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let size = |n: i64| units::human_size(n as f64);
    if total <= 0 {
        return if unit.is_empty() {
            format!("{:>8}", size(current))
        } else {
            format!("{current} {unit}")
        };
    }
    let half_percent = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
    let mut out = String::new();
    if width > 110 {
        out.push_str(&format!(
            "[{}>{}] ",
            "=".repeat(half_percent),
            " ".repeat(50 - half_percent)
        ));
    }
    if !progress.is_true("hidecounts") {
        out.push_str(&match (unit.is_empty(), current > total) {
            (true, false) => format!("{:>8}/{}", size(current), size(total)),
            (true, true) => format!("{:>8}", size(current)),
            (false, false) => format!("{current}/{total} {unit}"),
            (false, true) => format!("{current} {unit}"),
        });
    }
    let start = progress.int("start");
    if width > 50 && current > 0 && start > 0 && half_percent < 50 {
        let each = (super::clock::now() - start as f64) / current as f64;
        out.push_str(&format!(
            " {}s",
            (each * (total - current) as f64).round().max(0.0)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n",
        "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"a1\"}\r\n",
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":500,\"total\":1000},\"id\":\"a1\"}\r\n",
        "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"a1\"}\r\n",
        "{\"status\":\"Status: done\"}\r\n"
    );

    fn show(terminal: Option<usize>, stream: &str) -> (String, Outcome) {
        let mut out = Vec::new();
        let result = Display {
            out: &mut out,
            terminal,
            lines: HashMap::new(),
        }
        .run(stream.as_bytes(), |_| {});
        (String::from_utf8(out).expect("utf-8"), result)
    }

    #[test]
    fn plain_output_has_one_line_a_state() {
        let (text, result) = show(None, STREAM);
        assert!(result.is_ok());
        assert_eq!(
            text,
            "latest: Pulling from library/busybox\na1: Pulling fs layer\na1: Pull complete\nStatus: done\n"
        );
    }

    #[test]
    fn a_terminal_gets_lines_that_are_rewritten() {
        let (text, _) = show(Some(80), STREAM);
        assert_eq!(
            text,
            "latest: Pulling from library/busybox\n\
             \n\x1b[1A\x1b[2K\ra1: Pulling fs layer \r\x1b[1B\
             \x1b[1A\x1b[2K\ra1: Downloading     500B/1kB\r\x1b[1B\
             \x1b[1A\x1b[2K\ra1: Pull complete \r\x1b[1B\
             Status: done\n"
        );
    }

    #[test]
    fn bars_need_room() {
        let p = Json::parse(br#"{"current":250,"total":1000}"#).expect("json");
        assert_eq!(
            bar(&p, 120),
            format!("[{}>{}]     250B/1kB", "=".repeat(12), " ".repeat(38))
        );
        assert_eq!(bar(&p, 40), "    250B/1kB");
    }

    #[test]
    fn errors_end_it() {
        let (_, result) = show(
            None,
            "{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}",
        );
        assert_eq!(result.unwrap_err().message, "manifest unknown");
    }
}
