//! Values of single options: their checks, and their forms in a request.

use crate::cli::output::{quote, units};
use serde_json::{Value, json};
use std::net::IpAddr;

/// `-e`: a name alone takes its value from this environment.
pub(crate) fn env(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(std::env::var(name).map_or_else(|_| text.to_owned(), |value| format!("{name}={value}")))
}

/// `-l`: `key` or `key=value`, the key without blanks.
pub(crate) fn label(text: &str) -> Result<String, String> {
    let key = text
        .split('=')
        .next()
        .unwrap_or_default()
        .trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(text.to_owned())
}

/// `--filter`: `name=value`, the name in lower case.
pub(crate) fn filter(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let (name, value) = text
        .split_once('=')
        .ok_or("bad format of filter (expected name=value)")?;
    Ok(format!("{}={}", name.trim().to_lowercase(), value.trim()))
}

/// Filters as the API takes them: `{"name":{"value":true}}`; empty when there are none.
pub(crate) fn filters(given: &[&str]) -> String {
    let mut all = serde_json::Map::new();
    for filter in given {
        if let Some((name, value)) = filter.split_once('=') {
            let values = all.entry(name).or_insert_with(|| json!({}));
            values[value] = json!(true);
        }
    }
    if all.is_empty() {
        String::new()
    } else {
        Value::Object(all).to_string()
    }
}

/// `-a`: one of the three streams.
pub(crate) fn attach(text: &str) -> Result<String, String> {
    let stream = text.to_lowercase();
    match stream.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(stream),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// A size such as `512m`, in bytes.
pub(crate) fn bytes(text: &str) -> Result<String, String> {
    units::ram_in_bytes(text).map(|n| n.to_string())
}

/// A size, or -1 for none.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<String, String> {
    if text == "-1" {
        Ok("-1".into())
    } else {
        bytes(text)
    }
}

/// A duration, in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<String, String> {
    units::parse_duration(text).map(|n| n.to_string())
}

/// A number of processors, in billionths.
pub(crate) fn cpus(text: &str) -> Result<String, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1_i128, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some((over, under)) = digits.split_once('/') {
        let over: i128 = over.parse().map_err(|_| bad())?;
        let under: i128 = under.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
        return match (over * 1_000_000_000) % under {
            0 => Ok((sign * over * 1_000_000_000 / under).to_string()),
            _ => Err("value is too precise".into()),
        };
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || !all_digits(whole) || !all_digits(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let nano: i128 = format!("{whole}{fraction:0<9}").parse().map_err(|_| bad())?;
    Ok((sign * nano).to_string())
}

/// An IP address in its canonical form.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let address: Result<IpAddr, _> = text.trim().parse();
    address
        .map(|a| a.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// `--ip`, `--ip6`.
pub(crate) fn plain_address(text: &str) -> Result<String, String> {
    let address: Result<IpAddr, _> = text.trim().parse();
    address
        .map(|a| a.to_string())
        .map_err(|_| format!("failed to parse IP: {}", quote(text)))
}

/// `--dns-search`: a domain, or `.` for none.
pub(crate) fn dns_search(text: &str) -> Result<String, String> {
    let domain = text.trim_matches(' ');
    if domain == "." {
        return Ok(domain.into());
    }
    let fits = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        !bytes.is_empty()
            && bytes.len() <= 63
            && bytes.iter().all(inner)
            && !bytes[0].eq(&b'-')
            && bytes[bytes.len() - 1].is_ascii_alphanumeric()
    };
    let labels = domain.strip_suffix('.').unwrap_or(domain);
    let letters = domain.bytes().any(|b| b.is_ascii_alphabetic());
    if letters && domain.len() < 255 && labels.split('.').all(fits) {
        return Ok(domain.into());
    }
    Err(format!("{domain} is not a valid domain"))
}

/// `--add-host`: `name:address` or `name=address`; the API wants the colon.
pub(crate) fn extra_host(text: &str) -> Result<String, String> {
    let (name, value) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .unwrap_or(("", ""));
    if name.is_empty() || name.contains(':') {
        return Err(format!("bad format for add-host: {}", quote(text)));
    }
    if value == "host-gateway" {
        return Ok(format!("{name}:{value}"));
    }
    let value = value
        .strip_prefix('[')
        .and_then(|v| v.strip_suffix(']'))
        .filter(|v| !v.is_empty())
        .unwrap_or(value);
    match value.trim().parse::<IpAddr>() {
        Ok(_) => Ok(format!("{name}:{value}")),
        Err(_) => Err(format!("invalid IP address in add-host: {}", quote(value))),
    }
}

/// `--sysctl`: only those that belong to the container's namespaces.
pub(crate) fn sysctl(text: &str) -> Result<String, String> {
    const ALONE: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed =
        |key: &str| ALONE.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.");
    match text.split_once('=') {
        Some((key, _)) if allowed(key) => Ok(text.to_owned()),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// `--link`: `name` or `name:alias`.
pub(crate) fn link(text: &str) -> Result<String, String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".into()),
        1 | 2 => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// `--device-cgroup-rule`: `type major:minor mode`.
pub(crate) fn device_rule(text: &str) -> Result<String, String> {
    let number = |s: &str| s == "*" || (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    let good = match parts.as_slice() {
        ["a" | "c" | "b", device, mode] => {
            device
                .split_once(':')
                .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.bytes().all(|b| b"rwm".contains(&b))
        }
        _ => false,
    };
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

/// `--ulimit`: `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<String, String> {
    parse_ulimit(text).map(|_| text.to_owned())
}

/// The request's form of a ulimit.
pub(crate) fn parse_ulimit(text: &str) -> Result<(String, i64, i64), String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |s: &str| {
        s.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {}: invalid syntax", quote(s)))
    };
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let words = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return Err(format!("{words}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return Err(format!("{words}: {soft} > {hard}"));
    }
    Ok((name.to_owned(), soft, hard))
}

fn device_and_value(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(p, _)| !p.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `--device-read-bps` and its like: `path:rate` as JSON text.
pub(crate) fn throttle_bytes(text: &str) -> Result<String, String> {
    let (path, value) = device_and_value(text)?;
    let rate = units::ram_in_bytes(value).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}).to_string())
}

/// `--device-read-iops` and its like: `path:rate` as JSON text.
pub(crate) fn throttle_operations(text: &str) -> Result<String, String> {
    let (path, value) = device_and_value(text)?;
    let rate: u64 = value.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(json!({"Path": path, "Rate": rate}).to_string())
}

/// `--blkio-weight-device`: `path:weight` as JSON text.
pub(crate) fn weight_device(text: &str) -> Result<String, String> {
    let (path, value) = device_and_value(text)?;
    match value.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(json!({"Path": path, "Weight": weight}).to_string())
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `--device`: `host[:container][:mode]`.
pub(crate) fn device(text: &str) -> Result<Value, String> {
    let mode_like = |s: &str| {
        let mut seen = Vec::new();
        !s.is_empty()
            && s.bytes().all(|b| {
                b"rwm".contains(&b) && !seen.contains(&b) && {
                    seen.push(b);
                    true
                }
            })
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let (host, inside, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if mode_like(mode) => (*host, *host, *mode),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, mode] if mode_like(mode) => (*host, *inside, *mode),
        _ => return Err(format!("bad mode specified: {}", parts[2])),
    };
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": clean(host), "PathInContainer": clean(inside), "CgroupPermissions": mode}))
}

/// A path without `.`, `..` and doubled slashes, by text alone.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// `--restart`: `name[:count]`.
pub(crate) fn restart_policy(text: &str) -> Result<Value, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let count: i64 = match count {
        "" => 0,
        count => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        for (check, text, want) in [
            (cpus as fn(&str) -> Result<String, String>, "0.5", "500000000"),
            (cpus, "2", "2000000000"),
            (cpus, ".25", "250000000"),
            (cpus, "1/4", "250000000"),
            (extra_host, "h=::1", "h:::1"),
            (extra_host, "h:[::1]", "h:::1"),
            (extra_host, "h:host-gateway", "h:host-gateway"),
            (filter, "Label= a=b ", "label=a=b"),
            (dns_search, "example.com", "example.com"),
            (device_rule, "c 10:* rwm", "c 10:* rwm"),
            (
                throttle_bytes,
                "/dev/sda:1mb",
                r#"{"Path":"/dev/sda","Rate":1048576}"#,
            ),
            (attach, "STDIN", "stdin"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(want), "{text}");
        }
        assert_eq!(parse_ulimit("nofile=10:20"), Ok(("nofile".into(), 10, 20)));
        assert_eq!(parse_ulimit("core=-1"), Ok(("core".into(), -1, -1)));
        assert_eq!(
            device("/dev/null:/dev/x:rw").expect("device"),
            json!({"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"})
        );
        assert_eq!(
            device("/dev/null:r").expect("device")["PathInContainer"],
            "/dev/null"
        );
        assert_eq!(
            filters(&["label=a", "label=b", "id=x"]),
            r#"{"id":{"x":true},"label":{"a":true,"b":true}}"#
        );
        assert_eq!(
            (clean("/a//b/../c/."), clean("../x"), clean("")),
            ("/a/c".into(), "../x".into(), ".".into())
        );
    }

    #[test]
    fn refused_forms_have_dockers_words() {
        for (check, text, want) in [
            (
                env as fn(&str) -> Result<String, String>,
                "=x",
                "invalid environment variable: =x",
            ),
            (label, "=x", "invalid label '=x': empty name"),
            (label, "a b=x", "label 'a b' contains whitespaces"),
            (filter, "x", "bad format of filter (expected name=value)"),
            (cpus, "x", "failed to parse x as a rational number"),
            (cpus, "0.0000000001", "value is too precise"),
            (extra_host, "h", "bad format for add-host: \"h\""),
            (extra_host, "h:x", "invalid IP address in add-host: \"x\""),
            (
                sysctl,
                "kernel.pid_max=1",
                "sysctl 'kernel.pid_max=1' is not allowed",
            ),
            (device_rule, "x 1:1 r", "invalid device cgroup format 'x 1:1 r'"),
            (ulimit, "nope=1", "invalid ulimit type: nope"),
            (
                ulimit,
                "nofile=20:10",
                "ulimit soft limit must be less than or equal to hard limit: 20 > 10",
            ),
            (dns_search, "-bad-", "-bad- is not a valid domain"),
            (
                weight_device,
                "/dev/sda:5",
                "invalid weight for device: /dev/sda:5",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), want, "{text}");
        }
        assert_eq!(device("/dev/a:/dev/b:x").unwrap_err(), "bad mode specified: x");
        assert_eq!(device("/dev/a:b").unwrap_err(), "b is not an absolute path");
    }
}
