//! Networks, both ways.

use super::super::error::{ApiError, Result};
use ferry_api::docker::network::{
    ConfigReference, EndpointResource, Ipam, IpamConfig, IpamStatus, Network, NetworkCreateRequest,
    NetworkInspect, NetworkStatus, SubnetStatus,
};
use ferry_engine::containers::view::EndpointView;
use ferry_engine::networks::{NetworkRequest, NetworkView, SubnetRequest};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A network that is asked for.
pub fn request(request: NetworkCreateRequest) -> Result<NetworkRequest> {
    #[rustfmt::skip]
    let NetworkCreateRequest {
        name, check_duplicate: _always_checked, driver, scope, enable_ipv4, enable_ipv6, ipam, internal,
        attachable, ingress, config_only, config_from, options, labels,
    } = request;
    let Ipam {
        driver: ipam_driver,
        options: ipam_options,
        config,
    } = ipam.unwrap_or_default();
    Ok(NetworkRequest {
        name,
        driver,
        internal,
        attachable,
        ingress,
        enable_ipv4,
        enable_ipv6,
        ipam_driver,
        ipam_options: ipam_options.unwrap_or_default(),
        ipam: config
            .unwrap_or_default()
            .into_iter()
            .map(subnet)
            .collect::<Result<_>>()?,
        options: options.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        scope,
        config_only,
        config_from: config_from
            .map(|ConfigReference { network }| network)
            .unwrap_or_default(),
    })
}

fn subnet(config: IpamConfig) -> Result<SubnetRequest> {
    let IpamConfig {
        subnet,
        ip_range,
        gateway,
        auxiliary_addresses,
    } = config;
    let net = |text: &str, what: &str| match text {
        "" => Ok(None),
        _ => text
            .parse::<IpNet>()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("invalid {what} {text}: invalid CIDR block notation"))),
    };
    let address = |text: &str, what: &str| {
        text.parse::<IpAddr>()
            .map_err(|_| ApiError::invalid(format!("invalid {what} address: {text}")))
    };
    let reserved = auxiliary_addresses
        .into_iter()
        .map(|(name, text)| Ok((name, address(&text, "auxiliary")?)));
    Ok(SubnetRequest {
        subnet: net(&subnet, "subnet")?,
        range: net(&ip_range, "ip-range")?,
        gateway: if gateway.is_empty() {
            None
        } else {
            Some(address(&gateway, "gateway")?)
        },
        reserved: reserved.collect::<Result<_>>()?,
    })
}

/// One row of the list.
pub fn row(view: &NetworkView) -> Network {
    let NetworkView {
        config,
        created,
        scope,
        attachable,
        containers: _by_inspection,
    } = view;
    let subnets: Vec<IpamConfig> = config
        .subnets
        .iter()
        .map(|s| IpamConfig {
            subnet: s.subnet.to_string(),
            ip_range: s.range.map_or_else(String::new, |r| r.to_string()),
            gateway: s.gateway.to_string(),
            auxiliary_addresses: s
                .reserved
                .iter()
                .map(|(k, v)| (k.clone(), v.to_string()))
                .collect(),
        })
        .collect();
    let predefined = matches!(config.name.as_str(), "bridge" | "host" | "none");
    Network {
        name: config.name.clone(),
        id: config.id.clone(),
        created: (*created).into(),
        scope: (*scope).to_owned(),
        driver: config.driver.docker_name().to_owned(),
        // The networks without a bridge count as IPv4 networks with Docker.
        enable_ipv4: config.enable_ipv4 || config.bridge.is_empty(),
        enable_ipv6: config.enable_ipv6,
        ipam: Ipam {
            driver: "default".into(),
            options: (!predefined).then(BTreeMap::new),
            config: (!subnets.is_empty()).then_some(subnets),
        },
        internal: config.internal,
        attachable: *attachable,
        ingress: false,
        config_from: ConfigReference::default(),
        config_only: false,
        options: config.options.clone(),
        labels: config.labels.clone(),
    }
}

fn endpoint(name: &str, view: &EndpointView) -> EndpointResource {
    let net = |a: Option<(IpAddr, u8)>| a.map_or_else(String::new, |(ip, length)| format!("{ip}/{length}"));
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: view.endpoint_id.clone(),
        mac_address: view.mac.clone(),
        ipv4_address: net(view.ipv4),
        ipv6_address: net(view.ipv6),
    }
}

/// `GET /networks/{id}`.
pub fn inspect(view: &NetworkView) -> NetworkInspect {
    let mut subnets = BTreeMap::new();
    for s in &view.config.subnets {
        let inside = |ip: Option<(IpAddr, u8)>| ip.is_some_and(|(ip, _)| s.subnet.contains(&ip));
        let used = view
            .containers
            .iter()
            .filter(|(_, _, e)| inside(e.ipv4) || inside(e.ipv6))
            .count();
        // The network's own address, an IPv4 broadcast address, the gateway, what is kept, and the endpoints.
        let fixed = if s.subnet.addr().is_ipv4() { 3 } else { 2 };
        let used = u64::try_from(used + fixed + s.reserved.len()).unwrap_or(u64::MAX);
        let bits = u32::from(s.subnet.max_prefix_len() - s.subnet.prefix_len());
        let all = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        subnets.insert(
            s.subnet.to_string(),
            SubnetStatus {
                ips_in_use: used,
                dynamic_ips_available: all.saturating_sub(used),
            },
        );
    }
    NetworkInspect {
        network: row(view),
        containers: view
            .containers
            .iter()
            .map(|(id, name, e)| (id.clone(), endpoint(name, e)))
            .collect(),
        status: Some(NetworkStatus {
            ipam: IpamStatus { subnets },
        }),
    }
}
