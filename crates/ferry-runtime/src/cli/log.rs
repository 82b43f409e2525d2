//! The log, in runc's two forms, which callers parse for the last error.

use super::Failure;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where lines go.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    file: Option<PathBuf>,
    json: bool,
    debug: bool,
}

impl Log {
    pub fn open(file: Option<&str>, format: Option<&str>, debug: bool) -> Result<Log, Failure> {
        let json = match format {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(Failure::new(format!("invalid log-format: {other}"))),
        };
        Ok(Log {
            file: file.map(PathBuf::from),
            json,
            debug,
        })
    }

    /// What ends a verb: in the log, and on standard error.
    pub fn error(&self, message: &str) {
        if self.line("error", message) {
            complain(&format!("{message}\n"));
        }
    }

    /// What was left out.
    pub fn warning(&self, message: &str) {
        self.line("warning", message);
    }

    /// What only `--debug` shows.
    pub fn detail(&self, message: &str) {
        if self.debug {
            self.line("debug", message);
        }
    }

    /// Whether the line went to a file.
    fn line(&self, level: &str, message: &str) -> bool {
        let time = timestamp(SystemTime::now());
        let line = if self.json {
            format!(
                "{}\n",
                serde_json::json!({ "level": level, "msg": message, "time": time })
            )
        } else {
            format!("time=\"{time}\" level={level} msg={message:?}\n")
        };
        let Some(path) = &self.file else {
            complain(&line);
            return false;
        };
        let opened = OpenOptions::new().append(true).create(true).open(path);
        match opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            Ok(()) => true,
            Err(error) => {
                complain(&format!(
                    "cannot write the log {}: {error}\n{line}",
                    path.display()
                ));
                false
            }
        }
    }
}

fn complain(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A verb's output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::about("cannot write to standard output", e))
}

/// RFC 3339, in UTC.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_nanos()
    )
}

/// The date of a day since 1970-01-01 in the Gregorian calendar, counted in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_795_478_399), "2026-11-23T23:59:59.000000000Z");
    }
}
