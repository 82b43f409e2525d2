//! Log drivers and their options.

use super::spec::{ContainerSpec, LogConfig};
use crate::{Error, Result};
use ferry_shim_proto::LogTarget;
use std::path::PathBuf;

/// Drivers that there are.
pub(crate) const DRIVERS: [&str; 2] = ["json-file", "none"];
/// Bytes of a log by default: five files of twenty megabytes, so that no container fills the disk.
const DEFAULT_SIZE: u64 = 20 << 20;
const DEFAULT_FILES: u32 = 5;
/// Bytes kept in memory by `mode=non-blocking`.
const DEFAULT_BUFFER: u64 = 1 << 20;

/// The parsed options of `json-file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogOptions {
    max_size: u64,
    max_file: u32,
    non_blocking: bool,
    max_buffer: u64,
}

/// `10m`, `1g`, `-1`: binary multiples, as Docker's.
pub(crate) fn size(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower
        .strip_suffix("ib")
        .or_else(|| lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (digits, shift) = match bare.chars().last()? {
        'k' => (&bare[..bare.len() - 1], 10),
        'm' => (&bare[..bare.len() - 1], 20),
        'g' => (&bare[..bare.len() - 1], 30),
        't' => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * f64::from(1 << (shift.min(30))) * if shift == 40 { 1024.0 } else { 1.0 };
    #[allow(clippy::cast_possible_truncation)]
    (bytes.is_finite() && bytes.abs() < 9e18).then_some(bytes as i64)
}

/// Checks driver and options.
///
/// # Errors
/// [`crate::Kind::Invalid`] for a driver or option that is not there, by name.
pub(crate) fn parse(log: &LogConfig) -> Result<Option<LogOptions>> {
    let driver = log.driver.as_str();
    if driver == "none" {
        return match log.options.keys().next() {
            Some(key) => Err(Error::invalid(format!(
                "unknown log opt '{key}' for none log driver"
            ))),
            None => Ok(None),
        };
    }
    if !DRIVERS.contains(&driver) {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{driver}' is registered: there are {}",
            DRIVERS.join(", ")
        )));
    }
    let get = |key: &str| log.options.get(key).map(String::as_str);
    for key in log.options.keys() {
        let known = [
            "max-size",
            "max-file",
            "mode",
            "max-buffer-size",
            "labels",
            "env",
            "tag",
        ];
        match key.as_str() {
            key if known.contains(&key) => {}
            "compress" | "labels-regex" | "env-regex" => {
                return Err(Error::unsupported(format!(
                    "log opt '{key}' is not supported for json-file log driver"
                )));
            }
            key => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{key}' for json-file log driver"
                )));
            }
        }
    }
    let wrong =
        |key: &str, value: &str| Error::invalid(format!("invalid value for log opt {key}: {value:?}"));
    let max_size = match get("max-size") {
        None => DEFAULT_SIZE,
        Some(text) => size(text)
            .map(|n| u64::try_from(n).unwrap_or(0))
            .ok_or_else(|| wrong("max-size", text))?,
    };
    let default_files = if get("max-size").is_some() {
        1
    } else {
        DEFAULT_FILES
    };
    let max_file = match get("max-file") {
        None => default_files,
        Some(text) => text.parse().map_err(|_| wrong("max-file", text))?,
    };
    if max_file < 1 {
        return Err(Error::invalid("max-file cannot be less than 1"));
    }
    let non_blocking = match get("mode") {
        None | Some("" | "blocking") => false,
        Some("non-blocking") => true,
        Some(other) => {
            return Err(Error::invalid(format!(
                "logger: logging mode not supported: {other}"
            )));
        }
    };
    let max_buffer = match get("max-buffer-size") {
        Some(_) if !non_blocking => {
            return Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        None => DEFAULT_BUFFER,
        Some(text) => size(text)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| wrong("max-buffer-size", text))?,
    };
    Ok(Some(LogOptions {
        max_size,
        max_file,
        non_blocking,
        max_buffer,
    }))
}

/// Who writes the log, for attributes and tags.
pub(crate) struct Author<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The image's id.
    pub image_id: &'a str,
}

/// The shim's log; `None` for driver `none`.
///
/// # Errors
/// As [`parse`], and for a tag with unknown fields.
pub(crate) fn target(spec: &ContainerSpec, path: PathBuf, author: &Author<'_>) -> Result<Option<LogTarget>> {
    let Some(options) = parse(&spec.log)? else {
        return Ok(None);
    };
    let LogOptions {
        max_size,
        max_file,
        non_blocking,
        max_buffer,
    } = options;
    let attrs = attributes(spec, author)?;
    Ok(Some(LogTarget {
        path,
        max_size,
        max_file,
        attrs,
        non_blocking,
        max_buffer,
    }))
}

fn attributes(spec: &ContainerSpec, author: &Author<'_>) -> Result<Vec<(String, String)>> {
    let names = |key: &str| {
        spec.log
            .options
            .get(key)
            .map_or("", String::as_str)
            .split(',')
            .filter(|n| !n.is_empty())
    };
    let mut all = Vec::new();
    for name in names("labels") {
        all.extend(
            spec.labels
                .get(name)
                .map(|value| (name.to_owned(), value.clone())),
        );
    }
    for name in names("env") {
        let value = spec
            .process
            .env
            .iter()
            .rev()
            .find_map(|e| e.split_once('=').filter(|(n, _)| *n == name));
        all.extend(value.map(|(_, value)| (name.to_owned(), value.to_owned())));
    }
    if let Some(tag) = spec.log.options.get("tag").filter(|t| !t.is_empty()) {
        all.push(("tag".into(), render(tag, spec, author)?));
    }
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    Ok(all)
}

/// Docker's tag fields.
fn render(tag: &str, spec: &ContainerSpec, author: &Author<'_>) -> Result<String> {
    let mut out = String::new();
    let mut rest = tag;
    let short = |id: &str| {
        id.strip_prefix("sha256:")
            .unwrap_or(id)
            .chars()
            .take(12)
            .collect::<String>()
    };
    while let Some((before, after)) = rest.split_once("{{") {
        let (field, after) = after.split_once("}}").ok_or_else(|| {
            Error::invalid(format!(
                "failed to parse log tag template {tag:?}: unclosed action"
            ))
        })?;
        out.push_str(before);
        match field.trim() {
            ".ID" => out.push_str(&short(author.id)),
            ".FullID" => out.push_str(author.id),
            ".Name" => out.push_str(author.name),
            ".ImageID" => out.push_str(&short(author.image_id)),
            ".ImageFullID" => out.push_str(author.image_id),
            ".ImageName" => out.push_str(&spec.image),
            ".DaemonName" => out.push_str("docker"),
            other => {
                return Err(Error::unsupported(format!(
                    "log tag field {{{{{other}}}}} is not supported"
                )));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        LogConfig {
            driver: driver.into(),
            options,
        }
    }

    #[test]
    fn options_are_parsed_or_refused_by_name() {
        let default = parse(&config("json-file", &[])).unwrap().unwrap();
        assert_eq!(default.max_size * u64::from(default.max_file), 100 << 20);
        let set = parse(&config(
            "json-file",
            &[
                ("max-size", "10k"),
                ("mode", "non-blocking"),
                ("max-buffer-size", "4m"),
            ],
        ));
        let set = set.unwrap().unwrap();
        assert_eq!(
            (set.max_size, set.max_file, set.max_buffer, set.non_blocking),
            (10 << 10, 1, 4 << 20, true)
        );
        assert_eq!(
            parse(&config("json-file", &[("max-size", "-1")]))
                .unwrap()
                .unwrap()
                .max_size,
            0
        );
        assert_eq!(parse(&config("none", &[])).unwrap(), None);
        for (driver, options, text) in [
            (
                "syslog",
                vec![],
                "logger: no log driver named 'syslog' is registered: there are json-file, none",
            ),
            (
                "json-file",
                vec![("nope", "1")],
                "unknown log opt 'nope' for json-file log driver",
            ),
            (
                "json-file",
                vec![("max-file", "0")],
                "max-file cannot be less than 1",
            ),
            (
                "json-file",
                vec![("max-size", "big")],
                "invalid value for log opt max-size: \"big\"",
            ),
            (
                "json-file",
                vec![("mode", "x")],
                "logger: logging mode not supported: x",
            ),
        ] {
            assert_eq!(parse(&config(driver, &options)).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn attributes_come_from_labels_environment_and_tag() {
        let mut spec = ContainerSpec {
            log: config(
                "json-file",
                &[
                    ("labels", "tier,none"),
                    ("env", "MODE"),
                    ("tag", "{{.Name}}/{{.ID}}"),
                ],
            ),
            ..ContainerSpec::default()
        };
        spec.labels.insert("tier".into(), "front".into());
        spec.process.env = vec!["MODE=a".into(), "MODE=b".into()];
        let author = Author {
            id: "0123456789abcdef",
            name: "web",
            image_id: "sha256:f",
        };
        let attrs = attributes(&spec, &author).unwrap();
        let want = [("MODE", "b"), ("tag", "web/0123456789ab"), ("tier", "front")];
        assert_eq!(attrs, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("10m", 10 << 20),
            ("1.5k", 1536),
            ("7", 7),
            ("2GiB", 2 << 30),
            ("1t", 1 << 40),
            ("-1", -1),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!(size("x"), None);
    }
}
