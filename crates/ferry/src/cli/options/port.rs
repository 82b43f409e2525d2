//! `-p` and `--expose`: `[[ip:]host:]container[/proto]`, with ranges.

use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Published ports: the exposed set and the bindings, as the API has them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ports {
    /// `{"80/tcp":{}}`
    pub(crate) exposed: Map<String, Value>,
    /// `{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}`
    pub(crate) bindings: Map<String, Value>,
}

/// Reads every `-p` and `--expose`.
pub(crate) fn parse(publish: &[&str], expose: &[&str]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for spec in publish {
        add(&mut ports, &standard(spec)?)?;
    }
    for spec in expose {
        let (range, proto) = spec.split_once('/').unwrap_or((spec, "tcp"));
        let why = |e: String| format!("invalid range format for --expose: {spec}, error: {e}");
        let (first, last) = parse_range(range).map_err(why)?;
        let proto = protocol(proto).map_err(why)?;
        for port in first..=last {
            ports.exposed.insert(format!("{port}/{proto}"), json!({}));
        }
    }
    Ok(ports)
}

/// `published=8080,target=80,protocol=udp` in the short form.
fn standard(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut published, mut target, mut proto) = ("", "", "tcp");
    for field in spec.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => proto = value,
            Some((key, _)) if !key.is_empty() => {}
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{proto}"))
}

fn add(ports: &mut Ports, spec: &str) -> Result<(), String> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (ip, host, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [host, container] => (String::new(), *host, *container),
        [ip @ .., host, container] => (ip.join(":"), *host, *container),
        [] => (String::new(), "", ""),
    };
    let (range, proto) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let proto = protocol(if proto.is_empty() { "tcp" } else { proto })?;
    let ip = match ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (first, last) = parse_range(range).map_err(|_| format!("invalid containerPort: {range}"))?;
    let host_range = match host {
        "" => None,
        host => Some(parse_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((low, high)) = host_range
        && high - low != last - first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {range} and {host}"
        ));
    }
    for (index, port) in (first..=last).enumerate() {
        let host_port = match host_range {
            None => String::new(),
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (usize::from(low) + index).to_string(),
        };
        let key = format!("{port}/{proto}");
        ports.exposed.insert(key.clone(), json!({}));
        let list = ports.bindings.entry(key).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(json!({"HostIp": ip, "HostPort": host_port}));
        }
    }
    Ok(())
}

fn protocol(text: &str) -> Result<String, String> {
    match text.to_lowercase() {
        proto if matches!(proto.as_str(), "tcp" | "udp" | "sctp") => Ok(proto),
        other => Err(format!("invalid proto: {other}")),
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let number = |s: &str| {
        s.parse::<u16>().map_err(|_| {
            format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                crate::cli::output::quote(s)
            )
        })
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        Err(format!("invalid port range: {text}"))
    } else {
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_publish() {
        for (spec, want) in [
            ("80", json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]})),
            ("8080:80", json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})),
            (
                "127.0.0.1::80/udp",
                json!({"80/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
            ),
            (
                "[::1]:8080:80",
                json!({"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
            ),
            (
                "::1:8080:80",
                json!({"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
            ),
            (
                "9000-9001:80-81",
                json!({"80/tcp": [{"HostIp": "", "HostPort": "9000"}], "81/tcp": [{"HostIp": "", "HostPort": "9001"}]}),
            ),
            (
                "9000-9005:80",
                json!({"80/tcp": [{"HostIp": "", "HostPort": "9000-9005"}]}),
            ),
            (
                "published=8080,target=80,protocol=udp",
                json!({"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
            ),
        ] {
            let ports = parse(&[spec], &[]).unwrap_or_else(|e| panic!("{spec}: {e}"));
            assert_eq!(Value::Object(ports.bindings), want, "{spec}");
        }
        let ports = parse(&["1:80", "2:80"], &["70-72/udp"]).expect("parse");
        assert_eq!(ports.bindings["80/tcp"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            ports.exposed.keys().collect::<Vec<_>>(),
            ["70/udp", "71/udp", "72/udp", "80/tcp"]
        );
    }

    #[test]
    fn refused_forms() {
        for (spec, want) in [
            ("8080:", "no port specified: 8080:<empty>"),
            ("x:80", "invalid hostPort: x"),
            ("80:x", "invalid containerPort: x"),
            (
                "1-2:80-85",
                "invalid ranges specified for container and host Ports: 80-85 and 1-2",
            ),
            ("nope:1:80", "invalid IP address: nope"),
            ("80/icmp", "invalid proto: icmp"),
            ("90000:80", "invalid hostPort: 90000"),
        ] {
            assert_eq!(parse(&[spec], &[]).unwrap_err(), want, "{spec}");
        }
    }
}
