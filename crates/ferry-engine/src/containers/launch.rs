//! Making a container: everything a shim is given, and the frames that start it.
//!
//! Nothing here waits for the disk. What blocks shortly (files, the kernel) is one hop to the blocking pool.

use super::core::Core;
use super::merge::host_name;
use super::mounts;
use super::record::Record;
use super::spec::{NamespaceMode, NetworkMode};
use super::table::{Container, Run, RunFacts};
use super::to_oci::{self, Inputs, Joins, devices, security};
use super::{log_options, view::EndpointView};
use crate::networks::{Attachment, Wanted};
use crate::supervisor::launch_memfd;
use crate::{Error, Kind, Result, blocking};
use ferry_net::files::{self, DnsOverrides, DnsReach, Hosts, ResolvConf};
use ferry_oci::runtime::Spec;
use ferry_shim_proto::{LaunchRequest, Rootfs, SeccompChoice, ToShim};
use std::fs::{self, DirBuilder};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the blocking part makes.
struct Prepared {
    request: OwnedFd,
    binds: Vec<OwnedFd>,
}

/// Has a shim forked and told to start. The run is in the container's cell from here on.
pub(crate) async fn launch(core: &Arc<Core>, container: &Arc<Container>) -> Result<Arc<Run>> {
    let record = container.record();
    let spec = &record.spec;
    let wanted = Wanted {
        id: &record.id,
        name: &record.name,
        hostname: &spec.hostname,
        network: &spec.network,
        exposed: &spec.exposed_ports,
    };
    let network = core.networks.attach(&wanted).await?;
    match launch_attached(core, container, network.clone()).await {
        Ok(run) => {
            core.networks
                .publish_endpoints(&record.id, &network.endpoints, "connect");
            Ok(run)
        }
        Err(error) => {
            if container.run().is_none() {
                core.networks.detach(&network).await;
            }
            Err(error)
        }
    }
}

async fn launch_attached(
    core: &Arc<Core>,
    container: &Arc<Container>,
    network: Attachment,
) -> Result<Arc<Run>> {
    let facts = RunFacts {
        network,
        cgroup: cgroup(core, container),
        hostname: hostname(core, &container.record())?,
    };
    let (of, target, known) = (Arc::clone(core), Arc::clone(container), facts.clone());
    let prepared = blocking::run("prepare a container", move || prepare(&of, &target, &known)).await?;
    let mut forking = core.supervisor.launch(prepared.request, &prepared.binds).await?;
    let run = Arc::new(Run {
        link: forking.link.clone(),
        pidfd: Mutex::default(),
        facts,
    });
    let waiting = {
        let mut cell = container.cell();
        cell.run = Some(Arc::clone(&run));
        std::mem::take(&mut cell.waiting)
    };
    for client in waiting {
        let (stdin, stdout, stderr) = client.streams;
        let frame = ToShim::Attach {
            stdin,
            stdout,
            stderr,
        };
        run.link
            .send(&frame, &[client.stream.as_fd()])
            .await
            .map_err(gone)?;
    }
    let size = container.cell().size.take();
    if let Some((height, width)) = size {
        run.link
            .send(&ToShim::Resize { height, width }, &[])
            .await
            .map_err(gone)?;
    }
    run.link.send(&ToShim::Start, &[]).await.map_err(gone)?;
    forking.forked().await?;
    Ok(run)
}

fn gone(error: std::io::Error) -> Error {
    Error::internal("the shim ended before the container's program ran", error).with_exit_code(128)
}

/// `/ferry/<id>`, or below the parent that was asked for.
pub(crate) fn cgroup(core: &Core, container: &Container) -> String {
    let own = &container.record().spec.isolation.cgroup_parent;
    let parent = [own.as_str(), &core.config.cgroup_parent]
        .into_iter()
        .find(|p| !p.is_empty())
        .unwrap_or("/ferry");
    format!(
        "{}/{}",
        super::validate::clean_path(parent).trim_end_matches('/'),
        container.id
    )
}

/// The name inside: none of its own in the host's uts namespace, the other one's where a network is shared.
fn hostname(core: &Core, record: &Record) -> Result<String> {
    let spec = &record.spec;
    if spec.isolation.uts == NamespaceMode::Host {
        return Ok(host_name());
    }
    match &spec.network.mode {
        NetworkMode::Container(key) => {
            let (other, _) = mounts::joined(core, &record.id, key, "network")?;
            Ok(other.run().map_or_else(String::new, |r| r.facts.hostname.clone()))
        }
        _ => Ok(spec.hostname.clone()),
    }
}

/// Everything that blocks.
fn prepare(core: &Core, container: &Container, facts: &RunFacts) -> Result<Prepared> {
    let record = container.record();
    let spec = &record.spec;
    directories(core, container, facts)?;
    let snapshot = core.store.layers().prepare(&record.id, &record.image.layers)?;
    let rootfs = Rootfs::Overlay {
        lowers: snapshot.lowers,
        upper: snapshot.upper,
        work: snapshot.work,
        volatile: spec.auto_remove,
    };
    let (oci, seccomp) = specification(core, container, facts)?;
    let (binds, trees) = open_binds(core, &oci)?;
    let image_id = record.image.id.to_string();
    let author = log_options::Author {
        id: &record.id,
        name: &record.name,
        image_id: &image_id,
    };
    let own_pids = !matches!(
        spec.isolation.pid,
        NamespaceMode::Host | NamespaceMode::Container(_)
    );
    let request = LaunchRequest {
        id: record.id.clone(),
        runtime_dir: core.runtime_dir(&record.id),
        spec: oci,
        user: spec.process.user.clone(),
        groups: spec.isolation.group_add.clone(),
        rootfs,
        binds,
        seccomp,
        log: log_options::target(spec, core.log_path(&record.id), &author)?,
        open_stdin: spec.process.open_stdin,
        stdin_once: spec.process.stdin_once,
        init: own_pids && spec.isolation.init.unwrap_or(core.config.init),
        endpoints: facts.network.plans.clone(),
        loopback: !matches!(spec.network.mode, NetworkMode::Host | NetworkMode::Container(_)),
    };
    Ok(Prepared {
        request: launch_memfd(&request)?,
        binds: trees,
    })
}

/// The directories, and in them what the container and the next engine read.
fn directories(core: &Core, container: &Container, facts: &RunFacts) -> Result<()> {
    let (dir, runtime) = (core.dir(&container.id), core.runtime_dir(&container.id));
    for dir in [&dir, &runtime] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed("making", dir))?;
    }
    for stale in ["exit.json", "shim.json", "shim.sock"] {
        match fs::remove_file(runtime.join(stale)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("removing", &runtime.join(stale))(e));
            }
            _ => {}
        }
    }
    let text = serde_json::to_vec(facts).map_err(|e| Error::internal("writing run.json", e))?;
    write(&runtime.join("run.json"), &text)?;
    let record = container.record();
    if record.spec.isolation.ipc == NamespaceMode::Shareable {
        let shm = runtime.join("shm");
        DirBuilder::new()
            .recursive(true)
            .create(&shm)
            .map_err(failed("making", &shm))?;
        fs::set_permissions(&shm, fs::Permissions::from_mode(0o1777)).map_err(failed("opening", &shm))?;
    }
    if !matches!(record.spec.network.mode, NetworkMode::Container(_)) {
        network_files(core, &record, facts, &dir)?;
    }
    Ok(())
}

fn failed<'a>(op: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |e| Error::internal(format!("{op} {}", path.display()), e)
}

/// In place: the file may be mounted in a container that shares this one's network.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).map_err(failed("writing", path))
}

fn network_files(core: &Core, record: &Record, facts: &RunFacts, dir: &Path) -> Result<()> {
    let spec = &record.spec;
    let host = spec.network.mode == NetworkMode::Host;
    let ipv6 = facts.network.endpoints.iter().any(|e| e.ipv6.is_some());
    write(&dir.join("hostname"), files::hostname(&facts.hostname).as_bytes())?;
    let gateways = gateways(core, &facts.network.endpoints);
    let mut extra = Vec::new();
    for entry in &spec.network.extra_hosts {
        extra.extend(files::parse_extra_host(entry, &gateways)?);
    }
    let hosts = if host {
        let mut text = fs::read_to_string("/etc/hosts").unwrap_or_default();
        extra
            .iter()
            .for_each(|(name, ip)| text.push_str(&format!("{ip}\t{name}\n")));
        text
    } else {
        let ends = facts.network.endpoints.iter();
        let addresses = ends
            .flat_map(|e| [e.ipv4, e.ipv6])
            .flatten()
            .map(|(ip, _)| ip)
            .collect();
        let (hostname, domainname) = (facts.hostname.clone(), spec.domainname.clone());
        files::hosts(&Hosts {
            hostname,
            domainname,
            addresses,
            extra,
            ipv6: true,
        })
    };
    write(&dir.join("hosts"), hosts.as_bytes())?;
    let (text, path) = host_resolv_conf(host);
    let reach = if host {
        DnsReach::Host
    } else {
        DnsReach::Own { ipv6 }
    };
    write(
        &dir.join("resolv.conf"),
        files::resolv_conf(&text, path, &overrides(core, record)?, reach).as_bytes(),
    )
}

/// What `host-gateway` stands for: the default bridge's addresses, else the endpoint's gateways.
fn gateways(core: &Core, endpoints: &[EndpointView]) -> Vec<IpAddr> {
    match core.networks.find("bridge") {
        Ok(entry) => entry.config.subnets.iter().map(|s| s.gateway).collect(),
        Err(_) => endpoints.iter().filter_map(|e| e.gateway).collect(),
    }
}

/// The host's, and its real servers where it has a stub that a container cannot reach.
fn host_resolv_conf(host_network: bool) -> (String, &'static str) {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !host_network
        && ResolvConf::parse(&text).is_resolved_stub()
        && let Ok(real) = fs::read_to_string(files::RESOLVED_PATH)
    {
        return (real, files::RESOLVED_PATH);
    }
    (text, "/etc/resolv.conf")
}

fn overrides(core: &Core, record: &Record) -> Result<DnsOverrides> {
    let network = &record.spec.network;
    let config = &core.config;
    let own = |own: &Vec<String>, engine: &Vec<String>| {
        if own.is_empty() {
            engine.clone()
        } else {
            own.clone()
        }
    };
    let parse = |s: &String| {
        s.parse::<IpAddr>()
            .map_err(|_| Error::invalid(format!("bad nameserver address: {s}")))
    };
    Ok(DnsOverrides {
        servers: own(&network.dns, &config.dns)
            .iter()
            .map(parse)
            .collect::<Result<_>>()?,
        search: own(&network.dns_search, &config.dns_search),
        options: own(&network.dns_options, &config.dns_options),
    })
}

fn specification(core: &Core, container: &Container, facts: &RunFacts) -> Result<(Spec, SeccompChoice)> {
    let record = container.record();
    let spec = &record.spec;
    let mounts = mounts::resolve(core, container)?;
    let block = devices::block_devices(&spec.resources)?;
    let own_uts = spec.isolation.uts != NamespaceMode::Host;
    let mut made = to_oci::spec(&Inputs {
        spec,
        host: core.kernel.host(),
        cgroup: &facts.cgroup,
        joins: joins(core, &record)?,
        hostname: if own_uts { &facts.hostname } else { "" },
        mounts: &mounts,
        devices: devices::devices(spec)?,
        block: &block,
        default_ulimits: &core.config.default_ulimits,
        masked: &core.masked,
        link_env: &[],
    })?;
    if let Some(process) = made.process.as_mut().filter(|_| !own_uts) {
        for entry in process.env.iter_mut().filter(|e| *e == "HOSTNAME=") {
            *entry = format!("HOSTNAME={}", facts.hostname);
        }
    }
    let (choice, profile) = seccomp(core, spec)?;
    if let Some(linux) = made.linux.as_mut() {
        linux.seccomp = profile;
    }
    Ok((made, choice))
}

fn joins(core: &Core, record: &Record) -> Result<Joins> {
    let isolation = &record.spec.isolation;
    let join = |mode: &NamespaceMode, what: &str| match mode {
        NamespaceMode::Container(key) => mounts::joined(core, &record.id, key, what).map(Some),
        _ => Ok(None),
    };
    let ipc = join(&isolation.ipc, "IPC")?;
    if let Some((other, _)) = ipc
        .as_ref()
        .filter(|(o, _)| o.record().spec.isolation.ipc != NamespaceMode::Shareable)
    {
        let name = other.record().name.clone();
        return Err(Error::new(
            Kind::Internal,
            format!(
                "failed to join IPC namespace: container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            ),
        ));
    }
    let network = match &record.spec.network.mode {
        NetworkMode::Container(key) => Some(mounts::joined(core, &record.id, key, "network")?.1),
        _ => None,
    };
    Ok(Joins {
        pid: join(&isolation.pid, "PID")?.map(|(_, pid)| pid),
        ipc: ipc.map(|(_, pid)| pid),
        network,
    })
}

/// Which filter; for an own profile, what it says on this host.
pub(crate) fn seccomp(
    core: &Core,
    spec: &super::spec::ContainerSpec,
) -> Result<(SeccompChoice, Option<ferry_oci::runtime::Seccomp>)> {
    let isolation = &spec.isolation;
    let options = security::Options::parse(&isolation.security_opt)?;
    let host = core.kernel.host();
    match options.seccomp.as_deref() {
        Some("unconfined") => return Ok((SeccompChoice::Unconfined, None)),
        None | Some("" | "builtin" | "default") if isolation.privileged || !host.seccomp => {
            return Ok((SeccompChoice::Unconfined, None));
        }
        None | Some("" | "builtin" | "default") => return Ok((SeccompChoice::Default, None)),
        Some(_) if !host.seccomp => {
            return Err(Error::invalid(
                "seccomp is not enabled in your kernel, cannot run a custom seccomp profile",
            ));
        }
        Some(_) => {}
    }
    let text = isolation
        .seccomp_profile
        .as_deref()
        .or(options.seccomp.as_deref())
        .unwrap_or_default();
    let capabilities = security::capabilities(
        &isolation.cap_add,
        &isolation.cap_drop,
        isolation.privileged,
        host,
    )?;
    let profile = core
        .kernel
        .parse_seccomp(text, &capabilities)
        .map_err(|e| Error::invalid(format!("decoding seccomp profile failed: {e}")))?;
    Ok((SeccompChoice::Spec, Some(profile)))
}

/// A tree for each bind, by its place among the mounts.
fn open_binds(core: &Core, spec: &Spec) -> Result<(Vec<usize>, Vec<OwnedFd>)> {
    let (mut places, mut trees) = (Vec::new(), Vec::new());
    for (place, mount) in spec.mounts.iter().enumerate().filter(|(_, m)| m.kind == "bind") {
        let recursive = mount.options.iter().any(|o| o == "rbind");
        let tree = core
            .kernel
            .open_tree(Path::new(&mount.source), recursive)
            .map_err(|e| {
                Error::internal(
                    format!("mounting {:?} to {:?}", mount.source, mount.destination),
                    e,
                )
            })?;
        places.push(place);
        trees.push(tree);
    }
    if trees.len() > ferry_shim_proto::MAX_FDS - 4 {
        let most = ferry_shim_proto::MAX_FDS - 4;
        return Err(Error::unsupported(format!(
            "{} binds: a container can have {most} at most",
            trees.len()
        )));
    }
    Ok((places, trees))
}
