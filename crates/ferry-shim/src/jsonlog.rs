//! Lines of a json-file log, byte for byte as Docker writes them. Pure.
//!
//! `{"log":"text\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}` and a newline. The escapes are
//! those of Go's encoder: `<`, `>`, `&` and U+2028, U+2029 as `\u`, each invalid byte of UTF-8 as `\ufffd`.

use std::io::Write;

/// One of a container's outputs; the number is stdcopy's and the file descriptor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Stream {
    /// As a log names it.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A moment: seconds since the epoch and nanoseconds of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Moment {
    /// Now, by the wall clock.
    pub fn now() -> Moment {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Moment {
            seconds: now.tv_sec,
            nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0),
        }
    }

    /// Nanoseconds since the epoch; 0 before it.
    pub fn as_nanoseconds(self) -> u128 {
        u128::try_from(i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)).unwrap_or(0)
    }
}

/// Appends one entry. `text` carries its own newline, or none when it is a part of a line. `attributes` is the encoded
/// object of [`attributes`], or empty.
pub fn entry(out: &mut Vec<u8>, stream: Stream, text: &[u8], attributes: &[u8], at: Moment) {
    out.push(b'{');
    if !text.is_empty() {
        out.extend_from_slice(b"\"log\":");
        string(out, text, Escapes::Log);
        out.push(b',');
    }
    out.extend_from_slice(b"\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",");
    if !attributes.is_empty() {
        out.extend_from_slice(b"\"attrs\":");
        out.extend_from_slice(attributes);
        out.push(b',');
    }
    out.extend_from_slice(b"\"time\":\"");
    rfc3339(out, at);
    out.extend_from_slice(b"\"}\n");
}

/// The object of extra attributes, in the order given; empty for none.
pub fn attributes(pairs: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, (name, value)) in pairs.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        string(&mut out, name.as_bytes(), Escapes::Json);
        out.push(b':');
        string(&mut out, value.as_bytes(), Escapes::Json);
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// Which short escapes are used beside `\"`, `\\`, `\n` and `\r`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// None: the writer of log lines.
    Log,
    /// `\t`, `\b`, `\f`: Go's `encoding/json`, which writes the attributes.
    Json,
}

fn string(out: &mut Vec<u8>, text: &[u8], escapes: Escapes) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut start = 0;
        let mut at = 0;
        while at < valid.len() {
            let length = if needs_escape(valid[at]) {
                1
            } else if valid[at] == 0xe2 && matches!(valid[at..], [_, 0x80, 0xa8 | 0xa9, ..]) {
                3
            } else {
                at += 1;
                continue;
            };
            out.extend_from_slice(&valid[start..at]);
            escape(out, &valid[at..at + length], escapes);
            at += length;
            start = at;
        }
        out.extend_from_slice(&valid[start..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// One control character, one of `"\<>&`, or U+2028 or U+2029 in UTF-8.
fn escape(out: &mut Vec<u8>, character: &[u8], escapes: Escapes) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match character[0] {
        b'"' | b'\\' => Some(character[0]),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' if escapes == Escapes::Json => Some(b't'),
        0x08 if escapes == Escapes::Json => Some(b'b'),
        0x0c if escapes == Escapes::Json => Some(b'f'),
        _ => None,
    };
    match (short, character) {
        (Some(letter), _) => out.extend_from_slice(&[b'\\', letter]),
        (None, [_, _, last]) => {
            out.extend_from_slice(&[b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(last & 0xf)]])
        }
        (None, _) => {
            let byte = character[0];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
    }
}

/// RFC 3339 in UTC with as many digits of the second as are not trailing zeros, as Go's RFC3339Nano.
fn rfc3339(out: &mut Vec<u8>, at: Moment) {
    let (days, seconds) = (at.seconds.div_euclid(86_400), at.seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let written = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    debug_assert!(written.is_ok(), "a Vec takes everything");
    if at.nanoseconds != 0 {
        let written = write!(out, ".{:09}", at.nanoseconds);
        debug_assert!(written.is_ok(), "a Vec takes everything");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years start in March here, so that the
/// leap day is a year's last; 400 years have 146,097 days and 719,468 days lie between 0000-03-01 and 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, text, Escapes::Log);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    fn time(seconds: i64, nanoseconds: u32) -> String {
        let mut out = Vec::new();
        rfc3339(&mut out, Moment { seconds, nanoseconds });
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn escapes_are_those_of_go() {
        assert_eq!(
            encoded(b"a\"b\\c\n\r\t\x08\x00\x1f\x7f"),
            "\"a\\\"b\\\\c\\n\\r\\u0009\\u0008\\u0000\\u001f\x7f\""
        );
        assert_eq!(encoded(b"<a>&b"), r#""\u003ca\u003e\u0026b""#);
        assert_eq!(
            encoded("é\u{2028}\u{2029}\u{2027}€".as_bytes()),
            "\"é\\u2028\\u2029\u{2027}€\""
        );
        // Go decodes byte by byte: every byte of a broken sequence is one replacement.
        assert_eq!(
            encoded(b"\xff\xe2\x80\xf0\x9f\x98z"),
            r#""\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdz""#
        );
        assert_eq!(
            attributes(&[("a".into(), "\t\x08\x0c<".into()), ("b".into(), "2".into())]),
            br#"{"a":"\t\b\f\u003c","b":"2"}"#
        );
        assert!(attributes(&[]).is_empty());
    }

    #[test]
    fn entries_have_dockers_order() {
        let mut out = Vec::new();
        entry(
            &mut out,
            Stream::Stderr,
            b"hi\n",
            b"{\"tag\":\"x\"}",
            Moment {
                seconds: 1_700_000_000,
                nanoseconds: 120_000_000,
            },
        );
        let expected = "{\"log\":\"hi\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2023-11-14T22:13:20.12Z\"}\n";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
        let mut out = Vec::new();
        entry(
            &mut out,
            Stream::Stdout,
            b"",
            b"",
            Moment {
                seconds: 0,
                nanoseconds: 0,
            },
        );
        assert_eq!(
            out,
            b"{\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }

    #[test]
    fn times_are_rfc3339nano() {
        assert_eq!(time(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(time(4_107_542_399, 999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(time(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(time(1_735_689_599, 0), "2024-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn a_parser_reads_back_what_was_written(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let line = encoded(&text);
            let parsed: String = serde_json::from_str(&line).expect("valid JSON");
            // Go's decoder and ours agree: every invalid byte alone is one U+FFFD.
            let mut expected = String::new();
            for chunk in text.utf8_chunks() {
                expected.push_str(chunk.valid());
                chunk.invalid().iter().for_each(|_| expected.push('\u{fffd}'));
            }
            prop_assert_eq!(parsed, expected);
            prop_assert!(!line.bytes().any(|b| b < 0x20 || b"<>&".contains(&b)), "one line, nothing a page would run");
            let separators = ['\u{2028}', '\u{2029}'];
            prop_assert!(!line.contains(separators));
        }
    }
}
