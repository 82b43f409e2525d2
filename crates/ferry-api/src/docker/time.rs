//! Times as Go writes them: RFC 3339 with as many digits of the second as are needed, in UTC, and year 1 for "never".

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Go's zero time looks like.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// A time on the wire; `None` is Go's zero time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Option<SystemTime>);

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        Self(Some(at))
    }
}

impl From<Option<SystemTime>> for Time {
    fn from(at: Option<SystemTime>) -> Self {
        Self(at)
    }
}

/// Seconds and nanoseconds since 1970, the nanoseconds never negative.
pub fn unix(at: SystemTime) -> (i64, u32) {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        ),
        Err(before) => {
            let d = before.duration();
            let seconds = i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
            match d.subsec_nanos() {
                0 => (-seconds, 0),
                n => (-seconds - 1, 1_000_000_000 - n),
            }
        }
    }
}

/// The same as one number of nanoseconds, saturating.
pub fn unix_nanos(at: SystemTime) -> i64 {
    let (s, n) = unix(at);
    s.saturating_mul(1_000_000_000).saturating_add(i64::from(n))
}

/// The time so many seconds and nanoseconds after 1970; `None` when the clock cannot hold it.
pub fn from_unix(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    base?.checked_add(Duration::from_nanos(u64::from(nanos)))
}

/// Days since 1970 to year, month, day (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Year, month, day to days since 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn seconds_text(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

/// RFC 3339 with nanoseconds, trailing zeros cut (Go's `RFC3339Nano`).
pub fn rfc3339_nano(at: SystemTime) -> String {
    let (seconds, nanos) = unix(at);
    let mut text = seconds_text(seconds);
    if nanos != 0 {
        text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// RFC 3339 with exactly nine digits, as log lines carry it.
pub fn rfc3339_fixed(at: SystemTime) -> String {
    let (seconds, nanos) = unix(at);
    format!("{}.{nanos:09}Z", seconds_text(seconds))
}

/// RFC 3339 without a fraction.
pub fn rfc3339(at: SystemTime) -> String {
    format!("{}Z", seconds_text(unix(at).0))
}

/// Reads RFC 3339, any offset; Go's zero time is `Some(None)`. `None` when it is no time.
pub fn parse_rfc3339(text: &str) -> Option<Option<SystemTime>> {
    if text == ZERO {
        return Some(None);
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(r) => r.split_at(r.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let nanos: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction))
        .parse()
        .ok()?;
    let shift = match offset {
        "Z" | "z" => 0,
        _ => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            sign * (offset.get(1..3)?.parse::<i64>().ok()? * 3600
                + offset.get(4..6)?.parse::<i64>().ok()? * 60)
        }
    };
    let total = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - shift;
    Some(Some(from_unix(total, nanos)?))
}

/// Reads `seconds[.fraction]` since 1970, the form of `since` and `until` in queries.
pub fn parse_unix(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction))
        .parse()
        .ok()?;
    from_unix(seconds, nanos)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => f.write_str(&rfc3339_nano(at)),
            None => f.write_str(ZERO),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        parse_rfc3339(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("parsing time {text:?}: not RFC 3339")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_go_does() {
        let at = from_unix(1_795_478_267, 326_287_379).unwrap();
        assert_eq!(rfc3339_nano(at), "2026-11-23T23:57:47.326287379Z");
        assert_eq!(
            rfc3339_nano(from_unix(0, 120_000_000).unwrap()),
            "1970-01-01T00:00:00.12Z"
        );
        assert_eq!(
            rfc3339_nano(from_unix(951_782_400, 0).unwrap()),
            "2000-02-29T00:00:00Z"
        );
        assert_eq!(
            rfc3339_fixed(from_unix(0, 5).unwrap()),
            "1970-01-01T00:00:00.000000005Z"
        );
        assert_eq!(Time(None).to_string(), ZERO);
    }

    #[test]
    fn reads_what_it_writes() {
        for (s, n) in [
            (1_795_478_267, 326_287_379),
            (0, 0),
            (951_782_399, 1),
            (4_102_444_800, 999_999_999),
        ] {
            let at = from_unix(s, n).unwrap();
            assert_eq!(parse_rfc3339(&rfc3339_nano(at)), Some(Some(at)));
            assert_eq!(unix(at), (s, n));
        }
        assert_eq!(
            parse_rfc3339("2026-11-23T23:57:47+01:00"),
            Some(from_unix(1_795_474_667, 0))
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_unix("12.5"), from_unix(12, 500_000_000));
        assert_eq!(parse_unix("foo"), None);
    }
}
