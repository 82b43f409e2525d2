//! A container's endpoints and published ports, for the time of one run.

use super::{Networks, Shared};
use crate::containers::spec::{NetworkMode, NetworkSpec, PortBinding};
use crate::containers::view::{EndpointView, PublishedPort};
use crate::supervisor::netd::HeldPort;
use crate::{Error, Kind, Result, blocking, ids};
use ferry_net::{Driver, Endpoint, EndpointPlan, MacAddr, NetworkConfig, Proto, Published, plan_endpoint};
use ferry_shim_proto::netd as frames;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who wants to be attached.
pub(crate) struct Wanted<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its host name.
    pub hostname: &'a str,
    /// What was asked.
    pub network: &'a NetworkSpec,
    /// `80/tcp`, for publishing all.
    pub exposed: &'a [String],
}

/// Endpoints and ports of one run. Written to the runtime directory, so that a new engine knows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attachment {
    /// For the shim.
    pub plans: Vec<EndpointPlan>,
    /// For views, in the same order.
    pub endpoints: Vec<EndpointView>,
    /// For the rules and netd.
    pub published: Vec<Published>,
    /// For views.
    pub ports: Vec<PublishedPort>,
}

/// Names of the networks that a container is on.
pub(super) fn networks_of(network: &NetworkSpec) -> BTreeSet<String> {
    let own = match &network.mode {
        NetworkMode::Bridge => Some("bridge".to_owned()),
        NetworkMode::Network(name) => Some(name.clone()),
        NetworkMode::Host => Some("host".to_owned()),
        NetworkMode::None => Some("none".to_owned()),
        NetworkMode::Container(_) => None,
    };
    if network.endpoints.is_empty() {
        return own.into_iter().collect();
    }
    network
        .endpoints
        .keys()
        .map(|k| {
            if k == "default" {
                "bridge".to_owned()
            } else {
                k.clone()
            }
        })
        .collect()
}

impl Networks {
    /// Gives addresses and ports to a container that is about to start. On failure nothing is kept.
    ///
    /// # Errors
    /// Docker's words for a port or address that is taken.
    pub(crate) async fn attach(&self, wanted: &Wanted<'_>) -> Result<Attachment> {
        let mut made = Attachment::default();
        if matches!(wanted.network.mode, NetworkMode::Container(_)) {
            return Ok(made);
        }
        for name in networks_of(wanted.network) {
            if let Err(error) = self.plan(wanted, &name, &mut made) {
                self.shared.forget(&made);
                return Err(setup_failed(&error, None));
            }
        }
        if let Err(error) = self.publish_all(wanted, &mut made).await {
            let endpoint = made
                .endpoints
                .first()
                .map(|e| (wanted.name.to_owned(), e.endpoint_id.clone()));
            self.detach(&made).await;
            return Err(setup_failed(&error, endpoint));
        }
        Ok(made)
    }

    fn plan(&self, wanted: &Wanted<'_>, name: &str, made: &mut Attachment) -> Result<()> {
        let config = self.find(name)?.config;
        let asked = wanted.network.endpoints.get(name).cloned().unwrap_or_default();
        let mut view = EndpointView {
            network: config.name.clone(),
            network_id: config.id.clone(),
            endpoint_id: ids::random()?,
            aliases: asked.aliases.clone(),
            ..EndpointView::default()
        };
        if config.driver != Driver::Bridge {
            made.endpoints.push(view);
            return Ok(());
        }
        if config.name == "bridge" && !asked.aliases.is_empty() {
            return Err(Error::invalid(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
        let mac = [&asked.mac_address, &wanted.network.mac_address]
            .into_iter()
            .find(|m| !m.is_empty());
        let endpoint = Endpoint {
            id: view.endpoint_id.clone(),
            sandbox: wanted.id.to_owned(),
            ipv4: asked
                .ipv4
                .and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
            ipv6: asked
                .ipv6
                .and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
            mac: mac.map(|m| m.parse::<MacAddr>()).transpose()?,
            link: Some(format!("eth{}", made.plans.len())),
            default_route: made.plans.is_empty(),
        };
        let plan = self.shared.claim(&config, &endpoint)?;
        describe(&mut view, &plan, &config, wanted);
        made.plans.push(plan);
        made.endpoints.push(view);
        Ok(())
    }

    async fn publish_all(&self, wanted: &Wanted<'_>, made: &mut Attachment) -> Result<()> {
        let Some(plan) = made.plans.first().cloned() else {
            return Ok(());
        };
        let config = self.find(&plan.network_id)?.config;
        for binding in bindings(wanted.network, wanted.exposed)? {
            let proto: Proto = binding.protocol.parse()?;
            let ips = host_addresses(&binding, &config)?;
            let (first, last) = binding.host_ports;
            let port = self
                .shared
                .netd
                .reserve(wire(proto), ips.clone(), first, last.max(first))
                .await?;
            for ip in ips {
                let target = match (ip, plan.ipv6()) {
                    (IpAddr::V6(_), Some(six)) => Some(six.addr()),
                    _ => plan.ipv4().or(plan.ipv6()).map(|n| n.addr()),
                };
                let Some(container_ip) = target else { continue };
                let container_port = binding.container_port;
                made.published.push(Published {
                    proto,
                    host_ip: ip,
                    host_port: port,
                    container_ip,
                    container_port,
                });
                let protocol = binding.protocol.clone();
                made.ports.push(PublishedPort {
                    container_port,
                    protocol,
                    host: Some((ip, port)),
                });
            }
        }
        self.open_ports(&made.published).await
    }

    /// Rules, then relays for what rules cannot carry.
    async fn open_ports(&self, published: &[Published]) -> Result<()> {
        if published.is_empty() {
            return Ok(());
        }
        let (this, ports) = (self.clone(), published.to_vec());
        blocking::run("publish ports", move || this.shared.publish_ports(&ports)).await?;
        for port in published
            .iter()
            .filter(|p| p.needs_relay() && p.proto != Proto::Sctp)
        {
            let target = SocketAddr::new(port.container_ip, port.container_port);
            self.shared.netd.relay(host_port(port), Some(target)).await?;
        }
        Ok(())
    }

    /// Takes everything back. What fails is logged: the rest goes on.
    pub(crate) async fn detach(&self, made: &Attachment) {
        self.shared.forget(made);
        if made.published.is_empty() {
            return;
        }
        let (this, ports) = (self.clone(), made.published.clone());
        let removed = blocking::run("unpublish ports", move || this.shared.unpublish_ports(&ports)).await;
        let released = self
            .shared
            .netd
            .release(made.published.iter().map(host_port).collect())
            .await;
        for error in [removed.err(), released.err()].into_iter().flatten() {
            tracing::error!(%error, "published ports could not be taken back whole");
        }
    }

    /// Takes note of what a container that runs already has.
    pub(crate) fn adopt(&self, made: &Attachment) {
        let mut addresses = self.shared.addresses();
        for plan in &made.plans {
            let own = addresses.entry(plan.network_id.clone()).or_default();
            own.extend(plan.addresses.iter().map(ipnet::IpNet::addr));
        }
    }

    /// Lets netd's ports go that no running container has.
    pub(crate) async fn release_stale_ports(&self, running: &[Published]) -> Result<()> {
        let wanted: BTreeSet<frames::HostPort> = running.iter().map(host_port).collect();
        let held = self.shared.netd.held().await?;
        let stale = held
            .into_iter()
            .map(|HeldPort { port, .. }| port)
            .filter(|p| !wanted.contains(p))
            .collect();
        self.shared.netd.release(stale).await
    }

    /// Tells of the events `connect` or `disconnect`.
    pub(crate) fn publish_endpoints(&self, container: &str, endpoints: &[EndpointView], action: &str) {
        for endpoint in endpoints {
            if let Ok(entry) = self.find(&endpoint.network_id) {
                let attributes = BTreeMap::from([("container".to_owned(), container.to_owned())]);
                self.publish(&entry.config, action, attributes);
            }
        }
    }
}

fn describe(view: &mut EndpointView, plan: &EndpointPlan, config: &NetworkConfig, wanted: &Wanted<'_>) {
    let pair = |net: ipnet::IpNet| (net.addr(), net.prefix_len());
    view.ipv4 = plan.ipv4().map(pair);
    view.ipv6 = plan.ipv6().map(pair);
    view.gateway = plan.gateways.iter().copied().find(IpAddr::is_ipv4);
    view.gateway6 = plan.gateways.iter().copied().find(IpAddr::is_ipv6);
    view.mac = plan.mac.to_string();
    if config.name != "bridge" {
        let short = wanted.id.get(..12).unwrap_or(wanted.id).to_owned();
        let names = [wanted.name.to_owned()]
            .into_iter()
            .chain(view.aliases.iter().cloned())
            .chain([short]);
        let mut seen = BTreeSet::new();
        let all = names.chain((!wanted.hostname.is_empty()).then(|| wanted.hostname.to_owned()));
        view.dns_names = all.filter(|n| seen.insert(n.clone())).collect();
    }
}

fn setup_failed(error: &Error, endpoint: Option<(String, String)>) -> Error {
    let driver = match endpoint {
        Some((name, id)) => {
            format!("driver failed programming external connectivity on endpoint {name} ({id}): ")
        }
        None => String::new(),
    };
    Error::new(
        Kind::Internal,
        format!("failed to set up container networking: {driver}{error}"),
    )
}

/// What is to be published: as asked, and every exposed port that nobody asked for where all are.
pub(super) fn bindings(network: &NetworkSpec, exposed: &[String]) -> Result<Vec<PortBinding>> {
    let mut all = network.ports.clone();
    if network.publish_all {
        for text in exposed {
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let (first, last) = port.split_once('-').unwrap_or((port, port));
            let range = first.parse::<u16>().and_then(|f| Ok((f, last.parse::<u16>()?)));
            let (first, last) = range.map_err(|_| Error::invalid(format!("invalid exposed port: {text}")))?;
            for container_port in first..=last {
                let known = network
                    .ports
                    .iter()
                    .any(|p| p.container_port == container_port && p.protocol == protocol);
                if !known {
                    let (host_ip, host_ports) = (String::new(), (0, 0));
                    all.push(PortBinding {
                        container_port,
                        protocol: protocol.into(),
                        host_ip,
                        host_ports,
                    });
                }
            }
        }
    }
    all.sort_by_key(|p| (p.host_ports == (0, 0), p.host_ports.0 != p.host_ports.1));
    Ok(all)
}

/// Every address of both families where none is named, IPv6 only where the host has it.
fn host_addresses(binding: &PortBinding, config: &NetworkConfig) -> Result<Vec<IpAddr>> {
    if !binding.host_ip.is_empty() {
        let ip = binding
            .host_ip
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse();
        return Ok(vec![ip.map_err(|_| {
            Error::invalid(format!("invalid IP address: {}", binding.host_ip))
        })?]);
    }
    if let Some(ip) = config.host_binding.filter(|ip| !ip.is_unspecified()) {
        return Ok(vec![ip]);
    }
    let mut all = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let six = std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|t| !t.trim().is_empty());
    if six && config.host_binding.is_none() {
        all.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    Ok(all)
}

fn wire(proto: Proto) -> frames::Proto {
    match proto {
        Proto::Tcp => frames::Proto::Tcp,
        Proto::Udp => frames::Proto::Udp,
        Proto::Sctp => frames::Proto::Sctp,
    }
}

fn host_port(port: &Published) -> frames::HostPort {
    frames::HostPort {
        proto: wire(port.proto),
        ip: port.host_ip,
        port: port.host_port,
    }
}

impl Shared {
    /// Decides on addresses and takes them, in one go.
    fn claim(&self, config: &NetworkConfig, endpoint: &Endpoint) -> Result<EndpointPlan> {
        let mut addresses = self.addresses();
        let used = addresses.entry(config.id.clone()).or_default();
        let plan = plan_endpoint(config, endpoint, used)?;
        used.extend(plan.addresses.iter().map(ipnet::IpNet::addr));
        Ok(plan)
    }

    /// Lets the addresses go.
    fn forget(&self, made: &Attachment) {
        let mut addresses = self.addresses();
        for plan in &made.plans {
            if let Some(used) = addresses.get_mut(&plan.network_id) {
                used.retain(|used| plan.addresses.iter().all(|net| net.addr() != *used));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(container_port: u16, host_ports: (u16, u16)) -> PortBinding {
        PortBinding {
            container_port,
            protocol: "tcp".into(),
            host_ip: String::new(),
            host_ports,
        }
    }

    #[test]
    fn exposed_ports_are_published_where_all_are_and_fixed_ones_come_first() {
        let network = NetworkSpec {
            ports: vec![port(80, (0, 0)), port(81, (9000, 9010)), port(82, (8080, 8080))],
            publish_all: true,
            ..NetworkSpec::default()
        };
        let exposed = ["80/tcp", "53/udp", "7000-7001"].map(String::from);
        let all = bindings(&network, &exposed).unwrap();
        let ports: Vec<u16> = all.iter().map(|p| p.container_port).collect();
        assert_eq!(ports, [82, 81, 80, 53, 7000, 7001]);
        assert!(bindings(&network, &["x/tcp".into()]).is_err());
    }

    #[test]
    fn addresses_on_the_host_are_as_asked() {
        let network = NetworkConfig::bridge("n", "bridge", "ferry0", Vec::new());
        let at = |ip: &str| {
            host_addresses(
                &PortBinding {
                    host_ip: ip.into(),
                    ..port(80, (0, 0))
                },
                &network,
            )
        };
        assert_eq!(at("127.0.0.1").unwrap(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(at("[::1]").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        assert!(at("localhost").is_err());
        assert!(at("").unwrap().contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let bound = NetworkConfig {
            host_binding: Some("10.0.0.1".parse().unwrap()),
            ..network
        };
        let any = host_addresses(&port(80, (0, 0)), &bound).unwrap();
        assert_eq!(any, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn endpoints_say_which_networks() {
        let mut network = NetworkSpec {
            mode: NetworkMode::Network("front".into()),
            ..NetworkSpec::default()
        };
        assert_eq!(networks_of(&network), BTreeSet::from(["front".to_owned()]));
        network.endpoints.insert("front".into(), Default::default());
        network.endpoints.insert("back".into(), Default::default());
        assert_eq!(networks_of(&network).len(), 2);
    }
}
