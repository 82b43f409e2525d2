//! An old `POST /containers/create` lifted to the newest.

use super::super::error::{ApiError, Result};
use super::super::version::ApiVersion;
use super::v;
use ferry_api::docker::config::CreateRequest;
use ferry_api::docker::hostconfig::{HostConfig, PortBinding};
use ferry_api::docker::mount::Mount;
use ferry_api::docker::network::{EndpointSettings, NetworkingConfig};

/// The driver option that carries per-interface kernel parameters.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// A network mode that names a network of the user's.
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// Makes `request` what the newest version would have said, and tells what the client should know.
pub fn lift(version: ApiVersion, request: &mut CreateRequest) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    default_network(request);
    if version < v(40) {
        to_1_40(&mut request.host_config);
    }
    if version == v(40)
        && request
            .host_config
            .capabilities
            .as_ref()
            .is_some_and(|c| !c.is_empty())
    {
        return Err(ApiError::invalid(
            "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities",
        ));
    }
    request.host_config.capabilities = None;
    mounts(version, &mut request.host_config)?;
    if version < v(43) {
        request.host_config.annotations.clear();
    }
    if version < v(44) {
        to_1_44(request)?;
    }
    if version < v(48) {
        for endpoint in request.networking_config.endpoints_config.values_mut().flatten() {
            endpoint.gw_priority = 0;
        }
    }
    warnings.extend(mac_address(version, request)?);
    warnings.extend(sysctls(version, request)?);
    warnings.extend(volume_driver(version, &request.host_config));
    warnings.extend(port_bindings(version, &mut request.host_config));
    Ok(warnings)
}

/// `default` and nothing are the bridge, in endpoints too.
fn default_network(request: &mut CreateRequest) {
    let mode = &mut request.host_config.network_mode;
    if !matches!(mode.as_str(), "" | "default") {
        return;
    }
    *mode = "bridge".into();
    let endpoints = &mut request.networking_config.endpoints_config;
    if let Some(endpoint) = endpoints.remove("default") {
        endpoints.insert("bridge".into(), endpoint);
    }
}

/// 1.40 brought non-recursive binds, and made ipc private.
fn to_1_40(host: &mut HostConfig) {
    for mount in host.mounts.iter_mut().flatten() {
        if let Some(options) = &mut mount.bind_options {
            options.non_recursive = false;
        }
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".into();
    }
}

fn options_of_another_kind(mount: &Mount) -> Option<&'static str> {
    [
        (
            mount.volume_options.is_some() && mount.kind != "volume",
            "VolumeOptions",
        ),
        (
            mount.bind_options.is_some() && mount.kind != "bind",
            "BindOptions",
        ),
        (
            mount.tmpfs_options.is_some() && mount.kind != "tmpfs",
            "TmpfsOptions",
        ),
    ]
    .into_iter()
    .find(|(wrong, _)| *wrong)
    .map(|(_, name)| name)
}

fn mounts(version: ApiVersion, host: &mut HostConfig) -> Result<()> {
    if version < v(42) {
        host.console_size = [0, 0];
    }
    for mount in host.mounts.iter_mut().flatten() {
        if version >= v(42) {
            if let Some(name) = options_of_another_kind(mount) {
                return Err(ApiError::invalid(format!(
                    "{name} must not be specified on mount type {:?}",
                    mount.kind
                )));
            }
        } else {
            if mount.kind != "volume" {
                mount.volume_options = None;
            }
            if mount.kind != "tmpfs" {
                mount.tmpfs_options = None;
            }
            if let Some(options) = &mut mount.bind_options {
                options.create_mountpoint = false;
            }
        }
        if version < v(45)
            && mount
                .volume_options
                .as_ref()
                .is_some_and(|o| !o.subpath.is_empty())
        {
            return Err(ApiError::invalid(
                "VolumeOptions.Subpath needs API v1.45 or newer",
            ));
        }
        if version < v(48) && mount.kind == "image" {
            return Err(ApiError::invalid("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    Ok(())
}

/// 1.44 brought start intervals, recursive read-only binds and more than one endpoint.
fn to_1_44(request: &mut CreateRequest) -> Result<()> {
    if let Some(check) = &mut request.config.healthcheck {
        check.start_interval = 0;
    }
    for mount in request
        .host_config
        .mounts
        .iter_mut()
        .flatten()
        .filter(|m| m.kind == "bind")
    {
        if mount
            .bind_options
            .as_ref()
            .is_some_and(|o| o.read_only_force_recursive)
        {
            return Err(ApiError::invalid(
                "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
            ));
        }
        if mount.read_only {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
    let endpoints = &request.networking_config.endpoints_config;
    if endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(ApiError::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

/// The endpoint of the main network, made where there is none.
fn main_endpoint<'a>(
    version: ApiVersion,
    mode: &str,
    config: &'a mut NetworkingConfig,
) -> Result<&'a mut EndpointSettings> {
    let endpoints = &mut config.endpoints_config;
    // Below 1.44 at most one is there, and the mode means it whatever it is called.
    let name = match endpoints.keys().next() {
        Some(only) if version < v(44) => only.clone(),
        _ => mode.to_owned(),
    };
    if !endpoints.is_empty() && !endpoints.contains_key(&name) {
        return Err(ApiError::invalid(
            "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        ));
    }
    Ok(endpoints.entry(name).or_default().get_or_insert_default())
}

/// Until 1.44 the container had the MAC address, then its endpoints, and from 1.52 they alone.
fn mac_address(version: ApiVersion, request: &mut CreateRequest) -> Result<Option<String>> {
    let asked = std::mem::take(&mut request.config.mac_address);
    let mode = request.host_config.network_mode.clone();
    let has_endpoint = mode == "bridge" || is_user_defined(&mode);
    if version < v(44) {
        if asked.is_empty() {
            for endpoint in request.networking_config.endpoints_config.values_mut().flatten() {
                endpoint.mac_address.clear();
            }
            return Ok(None);
        }
        if !has_endpoint {
            return Err(ApiError::invalid(
                "conflicting options: mac-address and the network mode",
            ));
        }
        main_endpoint(version, &mode, &mut request.networking_config)?.mac_address = asked;
        return Ok(None);
    }
    if asked.is_empty() {
        return Ok(None);
    }
    if version >= v(52) {
        return Err(ApiError::invalid(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
        ));
    }
    if has_endpoint {
        let endpoint = main_endpoint(version, &mode, &mut request.networking_config)
            .map_err(|e| e.context("unable to migrate container-wide MAC address to a specific network"))?;
        if endpoint.mac_address.is_empty() {
            endpoint.mac_address = asked;
        } else if !endpoint.mac_address.eq_ignore_ascii_case(&asked) {
            return Err(ApiError::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
    }
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.".into(),
    ))
}

/// `net.*.*.eth0.*`: which interface that is cannot be known, so it belongs to the endpoint; until 1.47 it is moved there.
fn sysctls(version: ApiVersion, request: &mut CreateRequest) -> Result<Option<String>> {
    let mode = request.host_config.network_mode.clone();
    if mode == "host" || mode.starts_with("container:") {
        return Ok(None);
    }
    let mut moved = Vec::new();
    for (key, value) in &request.host_config.sysctls {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        let [net, family, kind, interface, rest] = parts[..] else {
            continue;
        };
        if net != "net" || !interface.starts_with("eth") {
            continue;
        }
        if version > v(47) {
            return Err(ApiError::invalid(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
            )));
        }
        if interface != "eth0" {
            return Err(ApiError::invalid(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{ENDPOINT_SYSCTLS}' to set per-interface sysctls"
            )));
        }
        moved.push((key.clone(), format!("net.{family}.{kind}.IFNAME.{rest}={value}")));
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let names = moved
        .iter()
        .map(|(k, _)| k.as_str())
        .collect::<Vec<_>>()
        .join(",");
    let option = moved
        .iter()
        .map(|(_, v)| v.as_str())
        .collect::<Vec<_>>()
        .join(",");
    let warning = format!("Migrated sysctl {names:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{option:?}}}.");
    for (key, _) in &moved {
        request.host_config.sysctls.remove(key);
    }
    let endpoint = main_endpoint(version, &mode, &mut request.networking_config)?;
    let own = endpoint
        .driver_opts
        .get_or_insert_default()
        .entry(ENDPOINT_SYSCTLS.into())
        .or_default();
    *own = if own.is_empty() {
        option
    } else {
        format!("{option},{own}")
    };
    Ok(Some(warning))
}

fn volume_driver(version: ApiVersion, host: &HostConfig) -> Option<String> {
    let unnamed = |m: &&Mount| {
        let options = m.volume_options.as_ref().and_then(|o| o.driver_config.as_ref());
        m.kind == "volume" && options.is_none_or(|d| d.name.is_empty())
    };
    let ignored = !host.volume_driver.is_empty() && host.mounts.iter().flatten().any(|m| unnamed(&m));
    (ignored && version >= v(48)).then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".into()
    })
}

/// An empty list of bindings means a free port up to 1.52, and nothing from 1.53.
fn port_bindings(version: ApiVersion, host: &mut HostConfig) -> Option<String> {
    if version > v(52) {
        return None;
    }
    let mut filled = Vec::new();
    for (port, bindings) in host.port_bindings.iter_mut().flatten() {
        if bindings.as_ref().is_none_or(Vec::is_empty) {
            *bindings = Some(vec![PortBinding::default()]);
            filled.push(port.clone());
        }
    }
    (version == v(52) && !filled.is_empty()).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            filled.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> CreateRequest {
        CreateRequest::decode(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_default_network_is_the_bridge() {
        let mut r =
            request(r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}"#);
        lift(v(56), &mut r).unwrap();
        assert_eq!(r.host_config.network_mode, "bridge");
        assert!(r.networking_config.endpoints_config.contains_key("bridge"));
    }

    #[test]
    fn old_ipc_is_shareable_and_bindings_are_filled() {
        let body = r#"{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":null}}}"#;
        let mut r = request(body);
        assert!(lift(v(39), &mut r).unwrap().is_empty());
        assert_eq!(r.host_config.ipc_mode, "shareable");
        assert_eq!(
            r.host_config.port_bindings.unwrap()["80/tcp"],
            Some(vec![PortBinding::default()])
        );
        let mut r = request(body);
        assert_eq!(lift(v(52), &mut r).unwrap().len(), 1);
        let mut r = request(body);
        assert!(lift(v(53), &mut r).unwrap().is_empty());
        assert_eq!(r.host_config.port_bindings.unwrap()["80/tcp"], None);
    }

    #[test]
    fn the_mac_address_moves() {
        let body = r#"{"Image":"a","MacAddress":"02:42:ac:11:00:02"}"#;
        for (version, warnings) in [(30, 0), (43, 0), (44, 1), (51, 1)] {
            let mut r = request(body);
            assert_eq!(lift(v(version), &mut r).unwrap().len(), warnings, "{version}");
            let endpoint = r.networking_config.endpoints_config["bridge"].as_ref().unwrap();
            assert_eq!(endpoint.mac_address, "02:42:ac:11:00:02");
        }
        assert!(lift(v(52), &mut request(body)).is_err());
    }

    #[test]
    fn interface_sysctls_move_until_1_47() {
        let body = r#"{"Image":"a","HostConfig":{"Sysctls":{"net.ipv6.conf.eth0.forwarding":"1"}}}"#;
        let mut r = request(body);
        assert_eq!(lift(v(47), &mut r).unwrap().len(), 1);
        let endpoint = r.networking_config.endpoints_config["bridge"].as_ref().unwrap();
        assert_eq!(
            endpoint.driver_opts.as_ref().unwrap()[ENDPOINT_SYSCTLS],
            "net.ipv6.conf.IFNAME.forwarding=1"
        );
        assert!(lift(v(48), &mut request(body)).is_err());
    }

    #[test]
    fn what_came_later_is_refused_or_passed_over() {
        let two = r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"x":{},"y":{}}}}"#;
        assert!(lift(v(43), &mut request(two)).is_err());
        assert!(lift(v(44), &mut request(two)).is_ok());
        let sub = r#"{"Image":"a","HostConfig":{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"a"}}]}}"#;
        assert!(lift(v(44), &mut request(sub)).is_err());
        assert!(lift(v(45), &mut request(sub)).is_ok());
        let wrong = r#"{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","TmpfsOptions":{}}]}}"#;
        assert!(lift(v(41), &mut request(wrong)).is_ok());
        assert!(lift(v(42), &mut request(wrong)).is_err());
        let caps = r#"{"Image":"a","HostConfig":{"Capabilities":["CAP_KILL"]}}"#;
        assert!(lift(v(40), &mut request(caps)).is_err());
    }
}
