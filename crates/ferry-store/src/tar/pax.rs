//! PAX extended headers: `"%d %s=%s\n"` records.

use super::{TarError, malformed};
use std::collections::BTreeMap;

/// The records of one extended header, the last of a key winning.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_NUMBYTES: &[u8] = b"GNU.sparse.numbytes";

/// Reads all records. GNU sparse 0.0, which repeats its keys, becomes a 0.1 map.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, TarError> {
    let mut records = Records::new();
    let mut sparse: Vec<&[u8]> = Vec::new();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or_else(|| malformed("a PAX record is malformed"))?;
        bytes = rest;
        if key == SPARSE_OFFSET || key == SPARSE_NUMBYTES {
            let wanted = if sparse.len().is_multiple_of(2) {
                SPARSE_OFFSET
            } else {
                SPARSE_NUMBYTES
            };
            if key != wanted || value.contains(&b',') {
                return Err(malformed("the PAX records of a sparse map are out of order"));
            }
            sparse.push(value);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    if !sparse.is_empty() {
        records.insert(SPARSE_MAP.to_vec(), sparse.join(&b','));
    }
    Ok(records)
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space]).ok()?).ok()?;
    if length < 5 || length > bytes.len() || length < space + 2 {
        return None;
    }
    let (body, newline) = (&bytes[space + 1..length - 1], bytes[length - 1]);
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    let strings = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let nul = if strings {
        value.contains(&0)
    } else {
        key.contains(&0)
    };
    (newline == b'\n' && !key.is_empty() && !nul).then_some((key, value, &bytes[length..]))
}

/// A decimal number, sign allowed.
pub(super) fn decimal(text: &[u8]) -> Result<i64, TarError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| malformed(format!("{:?} is no number", String::from_utf8_lossy(text))))
}

/// `seconds[.fraction]` as seconds and nanoseconds.
pub(super) fn time(text: &[u8]) -> Result<(i64, u32), TarError> {
    let mut parts = text.splitn(2, |&b| b == b'.');
    let seconds_text = parts.next().unwrap_or(&[]);
    let seconds = decimal(seconds_text)?;
    let fraction = parts.next().unwrap_or(&[]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(malformed("a PAX time is malformed"));
    }
    let digit = |i: usize| fraction.get(i).map_or(0, |d| u32::from(d - b'0'));
    let nanos = (0..9).fold(0, |n, i| n * 10 + digit(i));
    match (seconds_text.starts_with(b"-"), nanos) {
        (true, 1..) => Ok((seconds.saturating_sub(1), 1_000_000_000 - nanos)),
        _ => Ok((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let ok = parse(b"12 path=a/b\n9 size=3\n").unwrap();
        assert_eq!(ok[&b"path"[..]], b"a/b");
        assert_eq!(ok[&b"size"[..]], b"3");
        for bad in [
            &b"11 path=a/b\n"[..],
            b"9 path=a\0b\n",
            b"5 a=\n9",
            b"99 a=b\n",
            b"-5 a=b\n",
            b"6 =abc\n",
            b"6 abcd\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"-1.5").unwrap(), (-2, 500_000_000));
        assert_eq!(time(b"7").unwrap(), (7, 0));
        assert!(time(b"1.x").is_err() && time(b"").is_err());
    }
}
