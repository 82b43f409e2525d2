//! Commands about networks.

use super::command::{Arity, Command};
use super::container::{FORMAT_HELP, INSPECT_FORMAT_HELP, confirm};
use super::failure::{Failure, Outcome};
use super::flags::{Flag, Matches, flag, switch};
use super::options::{create, values};
use super::output::json::Json;
use super::output::listing::{self, Listing};
use super::output::{self, short_id};
use super::session::Session;
use ferry_api::client::{Request, segment};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

static LISTING: Listing = Listing {
    columns: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    quiet: "{{.ID}}",
    kind: "network.networkContext",
};

static CREATE: [Flag; 17] = [
    switch("attachable", "Enable manual container attachment"),
    flag(
        "aux-address",
        "map",
        "Auxiliary IPv4 or IPv6 addresses used by Network driver",
    )
    .shown("map[]"),
    flag(
        "config-from",
        "string",
        "The network from which to copy the configuration",
    ),
    switch("config-only", "Create a configuration only network"),
    flag("driver", "string", "Driver to manage the Network")
        .short('d')
        .default("bridge"),
    flag("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
    switch("ingress", "Create swarm routing-mesh network"),
    switch("internal", "Restrict external access to the network"),
    flag("ip-range", "strings", "Allocate container ip from a sub-range"),
    flag("ipam-driver", "string", "IP Address Management Driver").default("default"),
    flag("ipam-opt", "map", "Set IPAM driver specific options").shown("map[]"),
    switch("ipv4", "Enable or disable IPv4 address assignment").default("true"),
    switch("ipv6", "Enable or disable IPv6 address assignment"),
    flag("label", "list", "Set metadata on a network").check(values::label),
    flag("opt", "map", "Set driver specific options")
        .short('o')
        .shown("map[]"),
    flag("scope", "string", "Control the network's scope"),
    flag(
        "subnet",
        "strings",
        "Subnet in CIDR format that represents a network segment",
    ),
];

static CONNECT: [Flag; 7] = [
    flag("alias", "strings", "Add network-scoped alias for the container"),
    flag("driver-opt", "strings", "driver options for the network"),
    flag(
        "gw-priority",
        "int",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    )
    .default("0"),
    flag("ip", "string", "IPv4 address (e.g., \"172.30.100.104\")").check(values::plain_address),
    flag("ip6", "string", "IPv6 address (e.g., \"2001:db8::33\")").check(values::plain_address),
    flag("link", "list", "Add link to another container").check(values::link),
    flag(
        "link-local-ip",
        "strings",
        "Add a link-local address for the container",
    ),
];

static DISCONNECT: [Flag; 1] =
    [switch("force", "Force the container to disconnect from a network").short('f')];

static LS: [Flag; 4] = [
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"driver=bridge\")",
    )
    .short('f')
    .check(values::filter),
    flag("format", "string", FORMAT_HELP),
    switch("no-trunc", "Do not truncate the output"),
    switch("quiet", "Only display network IDs").short('q'),
];

static INSPECT: [Flag; 2] = [
    flag("format", "string", INSPECT_FORMAT_HELP).short('f'),
    switch("verbose", "Verbose output for diagnostics").short('v'),
];

static RM: [Flag; 1] = [switch("force", "Do not error if the network does not exist").short('f')];

static PRUNE: [Flag; 2] = [
    flag(
        "filter",
        "filter",
        "Provide filter values (e.g. \"until=<timestamp>\")",
    )
    .check(values::filter),
    switch("force", "Do not prompt for confirmation").short('f'),
];

/// Commands about networks.
pub(crate) static COMMANDS: [Command; 7] = [
    Command::new(
        &["network create"],
        "[OPTIONS] NETWORK",
        "Create a network",
        Arity::Exact(1),
        create_network,
    )
    .flags(&[&CREATE]),
    Command::new(
        &["network connect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        Arity::Exact(2),
        connect,
    )
    .flags(&[&CONNECT]),
    Command::new(
        &["network disconnect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        Arity::Exact(2),
        disconnect,
    )
    .flags(&[&DISCONNECT]),
    Command::new(
        &["network ls", "network list"],
        "[OPTIONS]",
        "List networks",
        Arity::None,
        ls,
    )
    .flags(&[&LS])
    .aliases("network ls, network list"),
    Command::new(
        &["network inspect"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        Arity::Min(1),
        inspect,
    )
    .flags(&[&INSPECT]),
    Command::new(
        &["network rm", "network remove"],
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        Arity::Min(1),
        rm,
    )
    .flags(&[&RM])
    .aliases("network rm, network remove"),
    Command::new(
        &["network prune"],
        "[OPTIONS]",
        "Remove all unused networks",
        Arity::None,
        prune,
    )
    .flags(&[&PRUNE]),
];

/// Values of a flag that takes lists.
fn values_of<'a>(m: &'a Matches, name: &str) -> Vec<&'a str> {
    m.all(name).into_iter().flat_map(|v| v.split(',')).collect()
}

fn create_network(session: &Session, m: &Matches) -> Outcome {
    let mut body = Map::new();
    body.insert("Name".into(), json!(m.arg(0)));
    body.insert("Driver".into(), json!(m.get("driver")));
    body.insert("Options".into(), Value::Object(create::pairs(&m.all("opt"))));
    body.insert("Labels".into(), Value::Object(create::pairs(&m.all("label"))));
    body.insert("Scope".into(), json!(m.get("scope")));
    for (key, name) in [
        ("Internal", "internal"),
        ("Attachable", "attachable"),
        ("Ingress", "ingress"),
        ("ConfigOnly", "config-only"),
    ] {
        body.insert(key.into(), json!(m.on(name)));
    }
    for (key, name) in [("EnableIPv4", "ipv4"), ("EnableIPv6", "ipv6")] {
        if m.changed(name) {
            body.insert(key.into(), json!(m.on(name)));
        }
    }
    if m.changed("config-from") {
        body.insert("ConfigFrom".into(), json!({"Network": m.get("config-from")}));
    }
    let ipam = json!({
        "Driver": m.get("ipam-driver"),
        "Options": create::pairs(&m.all("ipam-opt")),
        "Config": ipam(m)?,
    });
    body.insert("IPAM".into(), ipam);
    let answer = session.json(Request::post("/networks/create").json(&Value::Object(body)))?;
    output::line(answer.text("Id"));
    Ok(())
}

/// Ranges, gateways and auxiliary addresses, each with the subnet that it lies in.
fn ipam(m: &Matches) -> Outcome<Vec<Value>> {
    let subnets = values_of(m, "subnet");
    let (ranges, gateways) = (values_of(m, "ip-range"), values_of(m, "gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Failure::text(
            "every ip-range or gateway must have a corresponding subnet",
        ));
    }
    let mut config: Vec<(Subnet, Map<String, Value>)> = Vec::new();
    for text in subnets {
        let subnet = Subnet::parse(text)?;
        if config
            .iter()
            .any(|(other, _)| other.contains(subnet.address) || subnet.contains(other.address))
        {
            return Err(Failure::text(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        config.push((subnet, Map::from_iter([("Subnet".to_owned(), json!(text))])));
    }
    for range in ranges {
        let address = Subnet::parse(range)?.address;
        place(
            &mut config,
            address,
            "IPRange",
            range,
            &format!("no matching subnet for range {range}"),
        )?;
    }
    for gateway in gateways {
        let address = parse_address(gateway)?;
        place(
            &mut config,
            address,
            "Gateway",
            gateway,
            &format!("no matching subnet for gateway {gateway}"),
        )?;
    }
    for pair in m.all("aux-address") {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let address = parse_address(text)?;
        let found = config.iter_mut().find(|(s, _)| s.contains(address));
        let Some((_, entry)) = found else {
            return Err(Failure::text(format!(
                "no matching subnet for aux-address {text}"
            )));
        };
        entry.entry("AuxiliaryAddresses").or_insert_with(|| json!({}))[name] = json!(text);
    }
    Ok(config
        .into_iter()
        .map(|(_, entry)| Value::Object(entry))
        .collect())
}

fn place(
    config: &mut [(Subnet, Map<String, Value>)],
    address: IpAddr,
    key: &str,
    text: &str,
    missing: &str,
) -> Outcome {
    let Some((subnet, entry)) = config.iter_mut().find(|(s, _)| s.contains(address)) else {
        return Err(Failure::text(missing));
    };
    if let Some(other) = entry.get(key) {
        let (what, on) = if key == "Gateway" {
            ("gateways", "for")
        } else {
            ("ranges", "on")
        };
        return Err(Failure::text(format!(
            "cannot configure multiple {what} ({text}, {}) {on} the same subnet ({})",
            other.as_str().unwrap_or_default(),
            subnet.text
        )));
    }
    entry.insert(key.into(), json!(text));
    Ok(())
}

fn parse_address(text: &str) -> Outcome<IpAddr> {
    text.parse()
        .map_err(|_| Failure::text(format!("ParseAddr(\"{text}\"): unable to parse IP")))
}

struct Subnet {
    text: String,
    address: IpAddr,
    length: u32,
}

impl Subnet {
    fn parse(text: &str) -> Outcome<Self> {
        let bad = || Failure::text(format!("invalid subnet: invalid CIDR address: {text}"));
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u32 = length.parse().map_err(|_| bad())?;
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Subnet {
            text: text.to_owned(),
            address,
            length,
        })
    }

    fn contains(&self, other: IpAddr) -> bool {
        let bits = |a: IpAddr| match a {
            IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 4),
            IpAddr::V6(a) => (a.to_bits(), 6),
        };
        let mask = if self.length == 0 {
            0
        } else {
            u128::MAX << (128 - self.length)
        };
        let ((own, own_family), (other, family)) = (bits(self.address), bits(other));
        own_family == family && own & mask == other & mask
    }
}

fn connect(session: &Session, m: &Matches) -> Outcome {
    let mut ipam = Map::new();
    for (key, name) in [("IPv4Address", "ip"), ("IPv6Address", "ip6")] {
        if m.changed(name) {
            ipam.insert(key.into(), json!(m.get(name)));
        }
    }
    if m.changed("link-local-ip") {
        ipam.insert("LinkLocalIPs".into(), json!(values_of(m, "link-local-ip")));
    }
    let options = values_of(m, "driver-opt");
    if options
        .iter()
        .any(|o| o.split_once('=').is_none_or(|(k, _)| k.trim().is_empty()))
    {
        return Err(Failure::text("invalid key/value pair format in driver options"));
    }
    let body = json!({
        "Container": m.arg(1),
        "EndpointConfig": {
            "IPAMConfig": ipam,
            "Links": m.all("link"),
            "Aliases": values_of(m, "alias"),
            "DriverOpts": create::pairs(&options),
            "GwPriority": m.int("gw-priority"),
        },
    });
    session.call(Request::post(format!("/networks/{}/connect", segment(m.arg(0)))).json(&body))
}

fn disconnect(session: &Session, m: &Matches) -> Outcome {
    let body = json!({"Container": m.arg(1), "Force": m.on("force")});
    session.call(Request::post(format!("/networks/{}/disconnect", segment(m.arg(0)))).json(&body))
}

fn ls(session: &Session, m: &Matches) -> Outcome {
    let request = Request::get("/networks").query_some("filters", &values::filters(&m.all("filter")));
    let Json::Array(mut networks) = session.json(request)? else {
        return Err(Failure::text(
            "unexpected answer from the engine: no list of networks",
        ));
    };
    networks.sort_by_key(|n| super::container::natural_key(n.text("Name")));
    let format = match m.get("format") {
        "" if !m.on("quiet") => session.config().format("networksFormat"),
        format => format,
    };
    let rows: Vec<Json> = networks.iter().map(|n| row(n, !m.on("no-trunc"))).collect();
    output::print(&LISTING.render(&LISTING.template(format, m.on("quiet")), &rows)?);
    Ok(())
}

fn row(n: &Json, trunc: bool) -> Json {
    let id = if trunc {
        short_id(n.text("Id"))
    } else {
        n.text("Id")
    };
    listing::labelled(
        vec![
            ("ID", id.to_owned()),
            ("Name", n.text("Name").to_owned()),
            ("Driver", n.text("Driver").to_owned()),
            ("Scope", n.text("Scope").to_owned()),
            ("IPv4", n.is_true("EnableIPv4").to_string()),
            ("IPv6", n.is_true("EnableIPv6").to_string()),
            ("Internal", n.is_true("Internal").to_string()),
            ("Labels", listing::join_labels(n.at("Labels"))),
            ("CreatedAt", go_time(n.text("Created"))),
        ],
        n.at("Labels"),
    )
}

/// An RFC 3339 time as Go prints a time.
fn go_time(text: &str) -> String {
    let Some((date, time)) = text.split_once('T') else {
        return text.to_owned();
    };
    match time.strip_suffix('Z') {
        Some(time) => format!("{date} {} +0000 UTC", trim_fraction(time)),
        None => {
            let (clock, offset) = time.split_at(time.rfind(['+', '-']).unwrap_or(time.len()));
            let offset = offset.replace(':', "");
            format!("{date} {} {offset} {offset}", trim_fraction(clock))
        }
    }
}

fn trim_fraction(time: &str) -> &str {
    if time.contains('.') {
        time.trim_end_matches('0').trim_end_matches('.')
    } else {
        time
    }
}

fn inspect(session: &Session, m: &Matches) -> Outcome {
    super::container::inspect_one(m, |name| {
        session
            .json(Request::get(format!("/networks/{}", segment(name))).query_flag("verbose", m.on("verbose")))
    })
}

fn rm(session: &Session, m: &Matches) -> Outcome {
    let mut failed = false;
    for name in &m.args {
        match session.call(Request::delete(format!("/networks/{}", segment(name)))) {
            Ok(()) => output::line(name),
            Err(error) if m.on("force") && error.not_found => {}
            Err(error) => {
                eprintln!("{}", error.message);
                failed = true;
            }
        }
    }
    if failed {
        Err(Failure::text("exit status 1"))
    } else {
        Ok(())
    }
}

fn prune(session: &Session, m: &Matches) -> Outcome {
    if !m.on("force") {
        let warning = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
        confirm(warning, "network")?;
    }
    let filters = values::filters(&m.all("filter"));
    let report = session.json(Request::post("/networks/prune").query_some("filters", &filters))?;
    let deleted = report.list("NetworksDeleted");
    if !deleted.is_empty() {
        output::line("Deleted Networks:");
        for name in deleted {
            output::line(name.as_str());
        }
        output::line("");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_contain_their_addresses() {
        let subnet = Subnet::parse("10.1.0.0/16").expect("subnet");
        assert!(subnet.contains("10.1.255.1".parse().expect("ip")));
        assert!(!subnet.contains("10.2.0.1".parse().expect("ip")));
        assert!(!subnet.contains("fd00::1".parse().expect("ip")));
        assert!(Subnet::parse("10.1.0.0/33").is_err());
    }

    #[test]
    fn times_as_go_prints_them() {
        assert_eq!(
            go_time("2024-01-02T03:04:05.120Z"),
            "2024-01-02 03:04:05.12 +0000 UTC"
        );
        assert_eq!(
            go_time("2024-01-02T03:04:05+02:00"),
            "2024-01-02 03:04:05 +0200 +0200"
        );
    }
}
