//! Ports and endpoints, both ways.

use super::super::error::{ApiError, Result};
use ferry_api::docker::container::PortSummary;
use ferry_api::docker::hostconfig::{PortBinding as WireBinding, PortMap};
use ferry_api::docker::network::{EndpointIpamConfig, EndpointSettings};
use ferry_engine::containers::spec::{EndpointSpec, PortBinding};
use ferry_engine::containers::view::{EndpointView, PublishedPort};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn port(text: &str) -> Result<(u16, String)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let refused = |why| ApiError::invalid(format!("invalid JSON: invalid port '{number}': {why}"));
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused("invalid syntax"));
    }
    let number = number.parse().map_err(|_| refused("value out of range"))?;
    let protocol = protocol.to_ascii_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((number, protocol)),
        _ => Err(ApiError::invalid(format!(
            "invalid port '{text}': unknown protocol {protocol:?}: use tcp, udp or sctp"
        ))),
    }
}

/// `80` as `80/tcp`.
pub fn port_text(text: &str) -> Result<String> {
    let (number, protocol) = port(text)?;
    Ok(format!("{number}/{protocol}"))
}

/// `""`, `8080` or `8080-8090`.
fn host_ports(text: &str) -> Result<(u16, u16)> {
    let refused = || ApiError::invalid(format!("invalid port specification: {text:?}"));
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (
        first.parse().map_err(|_| refused())?,
        last.parse().map_err(|_| refused())?,
    );
    if first > last {
        Err(refused())
    } else {
        Ok((first, last))
    }
}

/// Published ports of a request.
pub fn bindings(map: PortMap) -> Result<Vec<PortBinding>> {
    let mut out = Vec::new();
    for (key, bindings) in map {
        let (container_port, protocol) = port(&key)?;
        for WireBinding { host_ip, host_port } in bindings.unwrap_or_default() {
            if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
                return Err(ApiError::invalid(format!(
                    "invalid JSON: ParseAddr({host_ip:?}): unable to parse IP"
                )));
            }
            let host_ports = host_ports(&host_port)?;
            out.push(PortBinding {
                container_port,
                protocol: protocol.clone(),
                host_ip,
                host_ports,
            });
        }
    }
    Ok(out)
}

/// Published ports, told again as they were asked.
pub fn bindings_told(ports: &[PortBinding]) -> PortMap {
    let mut map = PortMap::new();
    for PortBinding {
        container_port,
        protocol,
        host_ip,
        host_ports,
    } in ports
    {
        let host_port = match *host_ports {
            (0, 0) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let key = format!("{container_port}/{protocol}");
        let list = map.entry(key).or_default().get_or_insert_default();
        list.push(WireBinding {
            host_ip: host_ip.clone(),
            host_port,
        });
    }
    map
}

/// Ports in force, as inspection tells them.
pub fn ports(published: &[PublishedPort]) -> PortMap {
    let mut map = PortMap::new();
    for PublishedPort {
        container_port,
        protocol,
        host,
    } in published
    {
        let entry = map.entry(format!("{container_port}/{protocol}")).or_default();
        if let Some((address, port)) = host {
            let binding = WireBinding {
                host_ip: address.to_string(),
                host_port: port.to_string(),
            };
            entry.get_or_insert_default().push(binding);
        }
    }
    map
}

/// Ports in force, as lists tell them.
pub fn port_rows(published: &[PublishedPort]) -> Vec<PortSummary> {
    let row = |PublishedPort {
                   container_port,
                   protocol,
                   host,
               }: &PublishedPort| PortSummary {
        ip: host.map_or_else(String::new, |(address, _)| address.to_string()),
        private_port: *container_port,
        public_port: host.map_or(0, |(_, port)| port),
        kind: protocol.clone(),
    };
    published.iter().map(row).collect()
}

fn address(text: &str, what: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed: Option<IpAddr> = text.parse().ok();
    match parsed.filter(|ip| ip.is_ipv4() == (what == "IPv4")) {
        Some(ip) => Ok(Some(ip)),
        None => Err(ApiError::invalid(format!("invalid {what} address: {text}"))),
    }
}

/// An endpoint that is asked for. What only inspection tells is passed over: clients send back what they were told.
pub fn spec(settings: EndpointSettings) -> Result<EndpointSpec> {
    #[rustfmt::skip]
    let EndpointSettings {
        ipam_config, links, aliases, driver_opts, gw_priority, mac_address, network_id: _, endpoint_id: _,
        gateway: _, ip_address: _, ip_prefix_len: _, ipv6_gateway: _, global_ipv6_address: _,
        global_ipv6_prefix_len: _, dns_names: _,
    } = settings;
    let EndpointIpamConfig {
        ipv4_address,
        ipv6_address,
        link_local_ips,
    } = ipam_config.unwrap_or_default();
    let link_local = link_local_ips.unwrap_or_default().into_iter().map(|text| {
        text.parse()
            .map_err(|_| ApiError::invalid(format!("invalid link-local IP address: {text}")))
    });
    if !mac_address.is_empty() && !is_mac(&mac_address) {
        return Err(ApiError::invalid(format!("invalid MAC address: {mac_address}")));
    }
    Ok(EndpointSpec {
        aliases: aliases.unwrap_or_default(),
        links: links.unwrap_or_default(),
        ipv4: address(&ipv4_address, "IPv4")?,
        ipv6: address(&ipv6_address, "IPv6")?,
        link_local: link_local.collect::<Result<_>>()?,
        mac_address,
        driver_opts: driver_opts.unwrap_or_default(),
        gw_priority,
    })
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok())
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// An endpoint as it is, beside what was asked; `user_defined` networks have names in DNS.
pub fn told(view: &EndpointView, asked: Option<&EndpointSpec>, user_defined: bool) -> EndpointSettings {
    #[rustfmt::skip]
    let EndpointView {
        network: _key, network_id, endpoint_id, ipv4, ipv6, gateway, gateway6, mac, aliases, dns_names,
    } = view;
    let text = |ip: &Option<IpAddr>| ip.map_or_else(String::new, |ip| ip.to_string());
    let mut settings = asked.map(as_asked).unwrap_or_default();
    settings.aliases = settings
        .aliases
        .or_else(|| list(aliases).filter(|_| user_defined));
    settings.network_id = network_id.clone();
    settings.endpoint_id = endpoint_id.clone();
    settings.gateway = text(gateway);
    settings.ip_address = ipv4.map_or_else(String::new, |(ip, _)| ip.to_string());
    settings.ip_prefix_len = ipv4.map_or(0, |(_, length)| length);
    settings.mac_address = mac.clone();
    settings.ipv6_gateway = text(gateway6);
    settings.global_ipv6_address = ipv6.map_or_else(String::new, |(ip, _)| ip.to_string());
    settings.global_ipv6_prefix_len = ipv6.map_or(0, |(_, length)| length);
    settings.dns_names = list(dns_names).filter(|_| user_defined);
    settings
}

fn as_asked(spec: &EndpointSpec) -> EndpointSettings {
    let EndpointSpec {
        aliases,
        links,
        ipv4,
        ipv6,
        link_local,
        mac_address,
        driver_opts,
        gw_priority,
    } = spec;
    let text = |ip: &Option<IpAddr>| ip.map_or_else(String::new, |ip| ip.to_string());
    let ipam = EndpointIpamConfig {
        ipv4_address: text(ipv4),
        ipv6_address: text(ipv6),
        link_local_ips: (!link_local.is_empty())
            .then(|| link_local.iter().map(ToString::to_string).collect()),
    };
    let map = |m: &BTreeMap<String, String>| (!m.is_empty()).then(|| m.clone());
    EndpointSettings {
        ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
        links: list(links),
        aliases: list(aliases),
        driver_opts: map(driver_opts),
        gw_priority: *gw_priority,
        mac_address: mac_address.clone(),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_told() {
        let text = r#"{"53/udp":[{"HostIp":"::1","HostPort":"5353"}],"80/tcp":[{"HostIp":"","HostPort":""},{"HostIp":"","HostPort":"8000-8010"}]}"#;
        let map: PortMap = serde_json::from_str(text).unwrap();
        let ports = bindings(map).unwrap();
        assert_eq!(ports.len(), 3);
        assert_eq!(serde_json::to_string(&bindings_told(&ports)).unwrap(), text);
        assert_eq!(port_text("80").unwrap(), "80/tcp");
        for bad in ["", "x", "80/foo", "99999", "-1"] {
            assert!(port_text(bad).is_err(), "{bad}");
        }
        assert!(host_ports("9-8").is_err() && host_ports("a").is_err());
    }

    #[test]
    fn endpoints_are_read_and_told() {
        let text = r#"{"IPAMConfig":{"IPv4Address":"10.0.0.9","IPv6Address":"fd00::9"},"Links":["a:b"],"Aliases":["x"],"DriverOpts":{"k":"v"},"GwPriority":3,"MacAddress":"02:42:00:00:00:01"}"#;
        let wire: EndpointSettings = serde_json::from_str(text).unwrap();
        let again = as_asked(&spec(wire.clone()).unwrap());
        assert_eq!(again, wire);
        let bad: EndpointSettings =
            serde_json::from_str(r#"{"IPAMConfig":{"IPv4Address":"fd00::1"}}"#).unwrap();
        assert_eq!(spec(bad).unwrap_err().message, "invalid IPv4 address: fd00::1");
    }
}
