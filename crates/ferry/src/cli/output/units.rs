//! Sizes and durations for people, and sizes that people type (go-units' rules).

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// `1.24MB`: powers of 1000, four digits.
pub(crate) fn human_size(bytes: f64) -> String {
    human_size_precise(bytes, 4)
}

/// The same with so many digits.
pub(crate) fn human_size_precise(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, digits)
}

/// `1.2MiB`: powers of 1024, four digits.
pub(crate) fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(mut size: f64, base: f64, names: &[&str; 9], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit < names.len() - 1 {
        size /= base;
        unit += 1;
    }
    format!("{}{}", general(size, digits), names[unit])
}

/// C's and Go's `%.{digits}g`.
pub(crate) fn general(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// `2 hours`, `About a minute`, from seconds.
pub(crate) fn human_duration(seconds: f64) -> String {
    let whole = seconds as i64;
    let minutes = (seconds / 60.0) as i64;
    let hours = (seconds / 3600.0 + 0.5) as i64;
    match () {
        () if whole < 1 => "Less than a second".into(),
        () if whole == 1 => "1 second".into(),
        () if whole < 60 => format!("{whole} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", (seconds / 3600.0) as i64 / 24 / 365),
    }
}

/// Reads `512m`, `1.5GiB`, `100`: powers of 1024, the `b` optional.
pub(crate) fn ram_in_bytes(text: &str) -> Result<i64, String> {
    let bad = || format!("invalid size: '{text}'");
    let at = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(bad)?;
    let (number, suffix) = match text.as_bytes()[at] {
        b' ' => (&text[..at], &text[at + 1..]),
        _ => (&text[..=at], &text[at + 1..]),
    };
    let value: f64 = number.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            super::quote(number)
        )
    })?;
    if value < 0.0 {
        return Err(bad());
    }
    if suffix.is_empty() {
        return Ok(value as i64);
    }
    let bad_suffix = |suffix: &str| Err(format!("invalid suffix: '{suffix}'"));
    if suffix.len() > 3 {
        return bad_suffix(suffix);
    }
    let suffix = suffix.to_ascii_lowercase();
    if suffix == "b" {
        return Ok(value as i64);
    }
    let power = match "kmgtp".find(&suffix[..1]) {
        Some(index) if matches!(&suffix[1..], "" | "b" | "ib") => index as i32 + 1,
        _ => return bad_suffix(&suffix),
    };
    Ok((value * 1024_f64.powi(power)) as i64)
}

/// Reads Go's durations: `1h2m3.5s`, `300ms`. Nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = |why: &str| format!("time: {why} {}", super::quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad("invalid duration"));
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| bad("missing unit in duration"))?;
        let number: f64 = rest[..end].parse().map_err(|_| bad("invalid duration"))?;
        rest = &rest[end..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    super::quote(other),
                    super::quote(text)
                ));
            }
        };
        total += number * scale;
        rest = &rest[unit..];
    }
    Ok(if negative { -total } else { total } as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_digits_of_gos_g_verb() {
        for (bytes, four, three) in [
            (0.0, "0B", "0B"),
            (12.0, "12B", "12B"),
            (999.0, "999B", "999B"),
            (1000.0, "1kB", "1kB"),
            (1_240_000.0, "1.24MB", "1.24MB"),
            (4_261_502.0, "4.262MB", "4.26MB"),
            (187_654_321.0, "187.7MB", "188MB"),
            (999_950.0, "1000kB", "1e+03kB"),
            (999_949.0, "999.9kB", "1e+03kB"),
        ] {
            assert_eq!(human_size(bytes), four);
            assert_eq!(human_size_precise(bytes, 3), three);
        }
        assert_eq!(bytes_size(1_300_234_240.0), "1.211GiB");
    }

    #[test]
    fn durations_are_vague_in_the_known_way() {
        for (s, want) in [
            (0.4, "Less than a second"),
            (1.0, "1 second"),
            (59.0, "59 seconds"),
            (61.0, "About a minute"),
            (3599.0, "59 minutes"),
            (3600.0, "About an hour"),
            (2.6 * 3600.0, "3 hours"),
            (50.0 * 3600.0, "2 days"),
            (15.0 * 86400.0, "2 weeks"),
            (70.0 * 86400.0, "2 months"),
            (800.0 * 86400.0, "2 years"),
        ] {
            assert_eq!(human_duration(s), want, "{s}");
        }
    }

    #[test]
    fn typed_sizes() {
        for (text, want) in [
            ("32", 32),
            ("32b", 32),
            ("32k", 32768),
            ("32KiB", 32768),
            ("1.5g", 1_610_612_736),
            ("1 m", 1 << 20),
        ] {
            assert_eq!(ram_in_bytes(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", "invalid size: ''"),
            ("x", "invalid size: 'x'"),
            ("-5m", "invalid size: '-5m'"),
            ("5x", "invalid suffix: 'x'"),
            ("5kbb", "invalid suffix: 'kbb'"),
        ] {
            assert_eq!(
                ram_in_bytes(text).as_ref().err().map(String::as_str),
                Some(want),
                "{text}"
            );
        }
    }

    #[test]
    fn typed_durations() {
        assert_eq!(parse_duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(parse_duration("300ms"), Ok(300_000_000));
        assert_eq!(
            parse_duration("10").unwrap_err(),
            "time: missing unit in duration \"10\""
        );
        assert_eq!(parse_duration("x").unwrap_err(), "time: invalid duration \"x\"");
    }
}
