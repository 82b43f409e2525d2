//! Acting on the kernel: bridges, endpoints, knobs. Without opinions: what to do stands in the plan.
//!
//! Everything happens in the network namespace of the calling thread, except what is done inside a sandbox. To act there
//! the thread enters the sandbox's namespace for as long as it takes to open a socket and write the knobs, and returns:
//! threads other than the caller never move, but the caller must not share its work with async tasks meanwhile.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::Batch;
use crate::plan::mac_of;
use crate::rtnl::{self, LOOPBACK_INDEX, Rtnl, VethSpec};
use crate::{Driver, EndpointPlan, NetError, NetworkConfig, Sysctl};

pub use crate::rtnl::Link;

/// Brings a bridge network's bridge into the state that the network describes: there, with the gateways' addresses and
/// no others, up, IPv4 forwarding on, packets for 127.0.0.1 allowed to be sent through it (they are filtered by the
/// packet rules), IPv6 off unless the network has it. Doing it again changes nothing.
///
/// Fails if the name belongs to a link that is no bridge.
pub fn ensure_bridge(network: &NetworkConfig) -> Result<(), NetError> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    let name = &network.bridge;
    let mut rtnl = Rtnl::open()?;
    if rtnl.index_of(name)?.is_none() {
        let mut batch = Batch::new();
        rtnl::create_bridge(&mut batch, name, mac_of(&network.id));
        rtnl.run(batch)?;
    }
    let link = rtnl.links()?.into_iter().find(|link| link.name == *name);
    let link =
        link.ok_or_else(|| NetError::Invalid(format!("bridge {name} vanished while it was set up")))?;
    if link.kind != "bridge" {
        return Err(NetError::Invalid(format!(
            "link {name} exists and is no bridge: remove it or give the network another bridge name"
        )));
    }
    for sysctl in bridge_sysctls(network) {
        write_sysctl(&sysctl)?;
    }
    set_addresses(&mut rtnl, network, link.index)?;
    ensure_forwarding(network.enable_ipv6)?;
    Ok(())
}

fn set_addresses(rtnl: &mut Rtnl, network: &NetworkConfig, index: u32) -> Result<(), NetError> {
    let wanted: Vec<IpNet> = network.subnets.iter().map(|ipam| ipam.gateway_net()).collect();
    let present: Vec<IpNet> = rtnl
        .addresses()?
        .into_iter()
        .filter(|(link, _)| *link == index)
        .map(|(_, net)| net)
        .collect();
    let mut batch = Batch::new();
    for net in present
        .iter()
        .filter(|net| !wanted.contains(net) && !is_link_local(net))
    {
        rtnl::delete_address(&mut batch, index, net);
    }
    for net in wanted.iter().filter(|net| !present.contains(net)) {
        rtnl::add_address(&mut batch, index, net);
    }
    rtnl::set_up(&mut batch, index, network.mtu);
    rtnl.run(batch)
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

fn bridge_sysctls(network: &NetworkConfig) -> Vec<Sysctl> {
    let name = &network.bridge;
    let knob = |key: String, value: &str| Sysctl {
        key,
        value: value.to_owned(),
    };
    let mut knobs = vec![
        knob(
            format!("ipv6/conf/{name}/disable_ipv6"),
            if network.enable_ipv6 { "0" } else { "1" },
        ),
        knob(format!("ipv6/conf/{name}/accept_ra"), "0"),
        // The bridge asks for its neighbours by its link-local address, and could not while it is unsure of that.
        knob(format!("ipv6/conf/{name}/accept_dad"), "0"),
    ];
    if network.enable_ipv4 {
        knobs.push(knob(format!("ipv4/conf/{name}/route_localnet"), "1"));
    }
    knobs
}

/// Turns the forwarding of packets between links on, for IPv4 and, if asked, IPv6. True if IPv4's was off before: then
/// the caller should see to it that the host does not become a router for others
/// (`rules::State::guard_forwarding`).
pub fn ensure_forwarding(ipv6: bool) -> Result<bool, NetError> {
    if ipv6 {
        keep_router_advertisements()?;
        write_sysctl(&Sysctl {
            key: "ipv6/conf/all/forwarding".to_owned(),
            value: "1".to_owned(),
        })?;
    }
    write_sysctl(&Sysctl {
        key: "ipv4/ip_forward".to_owned(),
        value: "1".to_owned(),
    })
}

/// A link that takes its routes from router advertisements stops to once its host forwards IPv6, unless told that this
/// is meant (`accept_ra` 2): the host would lose its way out.
fn keep_router_advertisements() -> Result<(), NetError> {
    let directory = "/proc/sys/net/ipv6/conf";
    let forwards = |link: &str| {
        fs::read_to_string(format!("{directory}/{link}/forwarding")).is_ok_and(|text| text.trim_end() != "0")
    };
    let accepts = |link: &str| {
        fs::read_to_string(format!("{directory}/{link}/accept_ra")).is_ok_and(|text| text.trim_end() == "1")
    };
    for link in Rtnl::open()?.links()? {
        if accepts(&link.name) && !forwards(&link.name) {
            write_sysctl(&Sysctl {
                key: format!("ipv6/conf/{}/accept_ra", link.name),
                value: "2".to_owned(),
            })?;
        }
    }
    Ok(())
}

/// Writes a knob of the current network namespace unless it has the value already. True if it was written. A kernel
/// without IPv6 lacks its knobs, and needs none of them.
fn write_sysctl(sysctl: &Sysctl) -> Result<bool, NetError> {
    let path = PathBuf::from("/proc/sys/net").join(&sysctl.key);
    let failed = |error| NetError::io(format!("set {} to {}", path.display(), sysctl.value), error);
    match fs::read_to_string(&path) {
        Ok(value) if value.trim_end() == sysctl.value => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && sysctl.key.starts_with("ipv6/") => {
            return Ok(false);
        }
        Err(error) => return Err(failed(error)),
    }
    fs::write(&path, &sysctl.value).map_err(failed)?;
    Ok(true)
}

/// Deletes a network's bridge. It is no error if there is none.
pub fn remove_bridge(network: &NetworkConfig) -> Result<(), NetError> {
    if network.driver == Driver::Bridge {
        delete_link(&network.bridge)
    } else {
        Ok(())
    }
}

/// Connects a sandbox: the veth pair, and inside it the loopback, addresses and routes.
///
/// The bridge must exist. `netns` is the sandbox's network namespace. On failure nothing of the pair is left behind.
/// `/proc` must be mounted, with `thread-self`.
pub fn attach(plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let mut host = Rtnl::open()?;
    let Some(master) = host.index_of(&plan.bridge)? else {
        return Err(NetError::Invalid(format!(
            "bridge {} is not there: it was deleted behind the engine's back",
            plan.bridge
        )));
    };
    let mut batch = Batch::new();
    let spec = VethSpec {
        name: &plan.host_link,
        master,
        peer: &plan.container_link,
        peer_mac: plan.mac,
        netns,
        mtu: plan.mtu,
        isolated: plan.isolated,
    };
    rtnl::create_veth(&mut batch, &spec);
    host.run(batch)?;
    configure_inside(plan, netns).inspect_err(|_| {
        // The cause is what counts; what cannot be deleted now goes with the namespace.
        let _ = detach(plan);
    })
}

fn configure_inside(plan: &EndpointPlan, netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let mut inside = open_inside(netns, || {
        plan.sysctls
            .iter()
            .try_for_each(|knob| write_sysctl(knob).map(|_| ()))
    })?;
    let Some(index) = inside.index_of(&plan.container_link)? else {
        return Err(NetError::Invalid(format!(
            "link {} vanished from the sandbox",
            plan.container_link
        )));
    };
    let mut batch = Batch::new();
    rtnl::set_up(&mut batch, LOOPBACK_INDEX, None);
    for net in &plan.addresses {
        rtnl::add_address(&mut batch, index, net);
    }
    rtnl::set_up(&mut batch, index, None);
    for route in &plan.routes {
        rtnl::add_route(&mut batch, index, route);
    }
    inside.run(batch)
}

/// Opens a netlink socket in another network namespace, does `act` there too, and comes back.
///
/// If the way back fails the thread is in the wrong place for good, so this is the one error that the caller must not
/// survive: it is reported as any other, and shims end themselves on it.
fn open_inside(netns: BorrowedFd<'_>, act: impl FnOnce() -> Result<(), NetError>) -> Result<Rtnl, NetError> {
    let home = File::open("/proc/thread-self/ns/net")
        .map_err(|error| NetError::io("open the own network namespace", error))?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(netns, network)
        .map_err(|error| NetError::io("enter the sandbox's network namespace", error))?;
    let result = Rtnl::open().and_then(|socket| act().map(|()| socket));
    move_into_link_name_space(home.as_fd(), network)
        .map_err(|error| NetError::io("return from the sandbox's network namespace", error))?;
    result
}

/// Brings the loopback of a sandbox up: all that a sandbox without networks gets.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<(), NetError> {
    let mut inside = open_inside(netns, || Ok(()))?;
    let mut batch = Batch::new();
    rtnl::set_up(&mut batch, LOOPBACK_INDEX, None);
    inside.run(batch)
}

/// Deletes an endpoint's links. It is no error if they are gone, as they are once the sandbox is.
pub fn detach(plan: &EndpointPlan) -> Result<(), NetError> {
    delete_link(&plan.host_link)
}

/// Deletes a link by name; none of that name is no error.
pub fn delete_link(name: &str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    rtnl::delete_link(&mut batch, name);
    match Rtnl::open()?.run(batch) {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Every link of the current network namespace.
pub fn list_links() -> Result<Vec<Link>, NetError> {
    Rtnl::open()?.links()
}

/// Every block of addresses that the current network namespace uses or has a route to, default routes apart: what a
/// new subnet must not overlap. Bridges of the engine itself are among them; the caller leaves its own networks out
/// by passing their bridges' names.
pub fn occupied(except_links: &[&str]) -> Result<Vec<IpNet>, NetError> {
    let mut rtnl = Rtnl::open()?;
    let mut own = Vec::new();
    for name in except_links {
        own.extend(rtnl.index_of(name)?);
    }
    let (mine, others): (Vec<_>, Vec<_>) = rtnl
        .addresses()?
        .into_iter()
        .partition(|(index, _)| own.contains(index));
    let mine: Vec<IpNet> = mine.into_iter().map(|(_, net)| net.trunc()).collect();
    let mut nets: Vec<IpNet> = others.into_iter().map(|(_, net)| net.trunc()).collect();
    nets.extend(rtnl.destinations()?.into_iter().filter(|net| !mine.contains(net)));
    nets.sort_unstable();
    nets.dedup();
    Ok(nets)
}
