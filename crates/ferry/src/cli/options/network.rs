//! `--network` in its short and long form, and the endpoint options that belong to the first network.

use super::mount::split_csv;
use crate::cli::flags::Matches;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// One network to attach to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_opts: Map<String, Value>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    gw_priority: i64,
}

/// Validation of one `--network`; the text is kept.
pub(crate) fn check(text: &str) -> Result<String, String> {
    parse(text).map(|_| text.to_owned())
}

/// Whether a network's name is none of the modes built in.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

fn parse(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for field in split_csv(text)? {
        let lower = field.to_lowercase();
        let (key, value) = lower
            .split_once('=')
            .filter(|(k, _)| !k.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        let address = || {
            value
                .parse::<IpAddr>()
                .map(|a| a.to_string())
                .map_err(|_| format!("ParseAddr({value:?}): unable to parse IP"))
        };
        match key.trim() {
            "name" => attachment.target = value.to_owned(),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => attachment.ipv4 = address()?,
            "ip6" => attachment.ipv6 = address()?,
            "mac-address" => attachment.mac = value.to_owned(),
            "link-local-ip" => attachment.link_local.push(address()?),
            "driver-opt" => {
                let (k, v) = value
                    .split_once('=')
                    .filter(|(k, _)| !k.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                attachment
                    .driver_opts
                    .insert(k.trim().to_owned(), json!(v.trim()));
            }
            "gw-priority" => {
                attachment.gw_priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(attachment)
}

/// The network mode and the endpoints of a create request.
pub(crate) fn endpoints(matches: &Matches) -> Result<(String, Map<String, Value>), String> {
    let given = matches.all_of(&["network", "net"]);
    let mut attachments = given.iter().map(|t| parse(t)).collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment {
            target: "default".into(),
            ..Attachment::default()
        });
    }
    let mode = attachments[0].target.clone();
    let single = attachments.len() == 1 && !given.is_empty();
    let mut endpoints = Map::new();
    let (mut user_defined, mut built_in) = (false, false);
    for (index, attachment) in attachments.iter_mut().enumerate() {
        if !given.is_empty() {
            user_defined |= is_user_defined(&attachment.target);
            built_in |= !is_user_defined(&attachment.target);
        }
        if index == 0 {
            apply(attachment, matches)?;
        }
        let endpoint = endpoint(attachment)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!(
                "network \"{}\" is specified multiple times",
                attachment.target
            ));
        }
        if single && endpoint.as_object().is_some_and(Map::is_empty) {
            continue;
        }
        endpoints.insert(attachment.target.clone(), endpoint);
    }
    if user_defined && built_in {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
        );
    }
    Ok((mode, endpoints))
}

fn apply(attachment: &mut Attachment, matches: &Matches) -> Result<(), String> {
    let aliases = matches.all_of(&["network-alias", "net-alias"]);
    let links = matches.all("link");
    let conflict = |both: bool, flag: &str, what: &str| {
        if both {
            Err(format!(
                "conflicting options: cannot specify both {flag} and per-network {what}"
            ))
        } else {
            Ok(())
        }
    };
    conflict(
        !attachment.aliases.is_empty() && !aliases.is_empty(),
        "--network-alias",
        "alias",
    )?;
    conflict(
        !attachment.ipv4.is_empty() && matches.changed("ip"),
        "--ip",
        "IPv4 address",
    )?;
    conflict(
        !attachment.ipv6.is_empty() && matches.changed("ip6"),
        "--ip6",
        "IPv6 address",
    )?;
    conflict(
        !attachment.mac.is_empty() && matches.changed("mac-address"),
        "--mac-address",
        "MAC address",
    )?;
    conflict(
        !attachment.link_local.is_empty() && matches.changed("link-local-ip"),
        "--link-local-ip",
        "link-local IP addresses",
    )?;
    if !aliases.is_empty() {
        attachment.aliases = aliases.iter().map(|s| (*s).to_owned()).collect();
    }
    if is_user_defined(&attachment.target) {
        attachment.links = links.iter().map(|s| (*s).to_owned()).collect();
    }
    for (flag, field) in [
        ("ip", &mut attachment.ipv4),
        ("ip6", &mut attachment.ipv6),
        ("mac-address", &mut attachment.mac),
    ] {
        if matches.changed(flag) {
            *field = matches.get(flag).to_owned();
        }
    }
    if matches.changed("link-local-ip") {
        attachment.link_local = matches
            .all("link-local-ip")
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
    }
    Ok(())
}

fn endpoint(a: &Attachment) -> Result<Value, String> {
    if a.target.trim().is_empty() {
        return Err("no name set for network".into());
    }
    if !is_user_defined(&a.target) {
        if !a.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".into());
        }
        if !a.links.is_empty() {
            return Err("links are only supported for user-defined networks".into());
        }
    }
    let mut out = Map::new();
    if !a.aliases.is_empty() {
        out.insert("Aliases".into(), json!(a.aliases));
    }
    if !a.links.is_empty() {
        out.insert("Links".into(), json!(a.links));
    }
    if !a.driver_opts.is_empty() {
        out.insert("DriverOpts".into(), Value::Object(a.driver_opts.clone()));
    }
    if a.gw_priority != 0 {
        out.insert("GwPriority".into(), json!(a.gw_priority));
    }
    let mut ipam = Map::new();
    for (key, value) in [("IPv4Address", &a.ipv4), ("IPv6Address", &a.ipv6)] {
        if !value.is_empty() {
            ipam.insert(key.into(), json!(value));
        }
    }
    if !a.link_local.is_empty() {
        ipam.insert("LinkLocalIPs".into(), json!(a.link_local));
    }
    if !ipam.is_empty() {
        out.insert("IPAMConfig".into(), Value::Object(ipam));
    }
    if !a.mac.is_empty() {
        mac(&a.mac)?;
        out.insert("MacAddress".into(), json!(a.mac.trim()));
    }
    Ok(Value::Object(out))
}

/// Validation of a MAC address.
pub(crate) fn mac(text: &str) -> Result<(), String> {
    let trimmed = text.trim();
    let separator = if trimmed.contains('-') { '-' } else { ':' };
    let bytes: Option<Vec<u8>> = trimmed
        .split(separator)
        .map(|b| {
            if b.len() == 2 {
                u8::from_str_radix(b, 16).ok()
            } else {
                None
            }
        })
        .collect();
    match bytes {
        Some(bytes) if bytes.len() == 6 => Ok(()),
        _ => Err(format!("{text} is not a valid mac address")),
    }
}
