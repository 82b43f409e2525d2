//! Looking at containers (list, inspect), and what follows from looking: prune and update.

use super::core::Core;
use super::options::{Filter, PruneFilter, PruneReport, RemoveOptions, Update};
use super::record::Record;
use super::spec::{ContainerSpec, NetworkMode, NetworkSpec, Resources, RestartPolicy};
use super::state::{Event, Phase};
use super::table::{Container, Run};
use super::view::{self, ContainerView, EndpointView, FilePaths, PublishedPort, Status};
use super::{launch, lifecycle, merge, remove, to_oci, validate};
use crate::filters::Filters;
use crate::{Error, Kind, Result, blocking};
use ferry_oci::{Digest, Platform};
use ferry_store::{Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Everything there is to tell of a container, but for sizes. Reads the store: for the blocking pool.
pub(crate) fn view(core: &Core, container: &Container) -> ContainerView {
    let mut view = snapshot(core, container);
    match core.store.layers().mounts(&container.id) {
        Ok(mounts) => {
            let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
            view.files.lowers = mounts.lowers.iter().map(|p| text(p)).collect();
            view.files.upper = text(&mounts.upper);
            view.files.work = text(&mounts.work);
        }
        // Not prepared before the first start.
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => tracing::warn!(container = container.id, %error, "where its layers lie is not known"),
    }
    view
}

/// What memory knows: everything but where the layers lie.
fn snapshot(core: &Core, container: &Container) -> ContainerView {
    let cell = container.cell();
    let (record, state) = (Arc::clone(&cell.record), cell.state.clone());
    let (run, health, execs) = (
        cell.run.clone(),
        cell.health.clone(),
        cell.execs.iter().cloned().collect(),
    );
    drop(cell);
    let alive = state.alive();
    let run = run.filter(|_| alive);
    let pid = if alive { state.pid } else { 0 };
    let [entrypoint, cmd] = merge::command(&record.spec.process);
    let mut words = entrypoint.into_iter().chain(cmd);
    let path = words.next().unwrap_or_default();
    let cgroup_path = run
        .as_ref()
        .map_or_else(|| launch::cgroup(core, container), |r| r.facts.cgroup.clone());
    let sandbox = if alive {
        (record.id.clone(), format!("/proc/{pid}/ns/net"))
    } else {
        Default::default()
    };
    ContainerView {
        id: record.id.clone(),
        name: record.name.clone(),
        created: record.created,
        spec: Arc::clone(&record.spec),
        image: record.image.clone(),
        state: view::State {
            status: state.status(),
            pid,
            exit_code: state.exit_code,
            error: state.error,
            oom_killed: state.oom_killed,
            started_at: state.started_at,
            finished_at: state.finished_at,
            health,
        },
        mounts: record.mounts.clone(),
        endpoints: match &run {
            Some(run) => run.facts.network.endpoints.clone(),
            None => wanted_endpoints(core, &record.spec.network),
        },
        ports: run.as_deref().map(|r| ports(&record.spec, r)).unwrap_or_default(),
        restart_count: state.restart_count,
        manually_stopped: state.manually_stopped,
        path,
        args: words.collect(),
        files: files(core, &record),
        execs,
        size: None,
        cgroup_path,
        sandbox,
    }
}

/// What a stopped container will have: its networks, without addresses.
fn wanted_endpoints(core: &Core, network: &NetworkSpec) -> Vec<EndpointView> {
    let mut names: BTreeSet<&str> = network.endpoints.keys().map(String::as_str).collect();
    if names.is_empty() {
        match &network.mode {
            NetworkMode::Bridge => names.insert("bridge"),
            NetworkMode::Host => names.insert("host"),
            NetworkMode::None => names.insert("none"),
            NetworkMode::Network(name) => names.insert(name),
            NetworkMode::Container(_) => false,
        };
    }
    let endpoint = |asked: &str| {
        let key = if asked == "default" { "bridge" } else { asked };
        // A network that was removed meanwhile is told by the name alone.
        let found = core.networks.find(key).ok().map(|e| (e.config.name, e.config.id));
        let (name, network_id) = found.unwrap_or_else(|| (key.to_owned(), String::new()));
        let aliases = network
            .endpoints
            .get(asked)
            .map(|e| e.aliases.clone())
            .unwrap_or_default();
        EndpointView {
            network: name,
            network_id,
            aliases,
            ..EndpointView::default()
        }
    };
    names.into_iter().map(endpoint).collect()
}

/// Published ports, then those that are only exposed, where the container has a link to be reached by.
fn ports(spec: &ContainerSpec, run: &Run) -> Vec<PublishedPort> {
    let network = &run.facts.network;
    let mut all = network.ports.clone();
    if network.plans.is_empty() {
        return all;
    }
    for (first, last, protocol) in spec.exposed_ports.iter().filter_map(|p| port_range(p)) {
        for container_port in first..=last {
            if !all
                .iter()
                .any(|p| p.container_port == container_port && p.protocol == protocol)
            {
                all.push(PublishedPort {
                    container_port,
                    protocol: protocol.clone(),
                    host: None,
                });
            }
        }
    }
    all
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn port_range(text: &str) -> Option<(u16, u16, String)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let known = ["tcp", "udp", "sctp"].contains(&protocol);
    (known && first <= last).then(|| (first, last, protocol.to_owned()))
}

/// Those of the other container where the network is another's.
fn files(core: &Core, record: &Record) -> FilePaths {
    let dir = match &record.spec.network.mode {
        NetworkMode::Container(key) => core.table.find(key).ok().map(|other| core.dir(&other.id)),
        _ => Some(core.dir(&record.id)),
    };
    let file = |name: &str| {
        dir.as_ref()
            .map(|d| d.join(name).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let logs = record.spec.log.driver != "none";
    let log = if logs {
        core.log_path(&record.id).to_string_lossy().into_owned()
    } else {
        String::new()
    };
    FilePaths {
        log,
        hostname: file("hostname"),
        hosts: file("hosts"),
        resolv_conf: file("resolv.conf"),
        ..FilePaths::default()
    }
}

/// One container, with the sizes of its layers where asked for.
pub(crate) async fn inspect(core: &Arc<Core>, key: &str, size: bool) -> Result<ContainerView> {
    let (core, container) = (Arc::clone(core), core.table.find(key)?);
    blocking::run("inspect a container", move || -> Result<ContainerView> {
        let mut view = view(&core, &container);
        if size {
            view.size = Some(sizes(&core.store, &view)?);
        }
        Ok(view)
    })
    .await
}

/// Bytes of its own layer, and of all.
fn sizes(store: &Store, view: &ContainerView) -> Result<(u64, u64)> {
    let own = usage(store, &view.id)?;
    let mut all = own;
    for layer in &view.image.layers {
        all += store.layers().size(layer)?;
    }
    Ok((own, all))
}

fn usage(store: &Store, id: &str) -> Result<u64> {
    match store.layers().usage(id) {
        // Never started, or removed meanwhile.
        Err(StoreError::NotFound { .. }) => Ok(0),
        other => Ok(other?),
    }
}

/// What `list` can be asked for.
const KEYS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];

/// Containers, newest first. Where their layers lie is not told.
pub(crate) async fn list(core: &Arc<Core>, filter: &Filter) -> Result<Vec<ContainerView>> {
    let mut selection = Selection::new(&filter.filters)?;
    let place = |key: &str| -> Result<Vec<(SystemTime, String)>> {
        let found = selection.filters.values(key).iter().map(|k| core.table.find(k));
        found
            .map(|c| c.map(|c| (c.record().created, c.id.clone())))
            .collect()
    };
    (selection.before, selection.since) = (place("before")?, place("since")?);
    let asked = selection.filters.values("ancestor").to_vec();
    if !asked.is_empty() {
        let store = core.store.clone();
        selection.ancestors = blocking::run("look up ancestors", move || {
            asked.iter().map(|a| ancestor(&store, a)).collect::<Result<_>>()
        })
        .await?;
    }
    let all = filter.all || filter.limit.is_some_and(|l| l > 0) || selection.everything();
    let here = |c: &Arc<Container>| {
        let state = c.state();
        let running = matches!(
            state.status(),
            Status::Running | Status::Paused | Status::Restarting
        );
        state.phase != Phase::Removed && (all || running)
    };
    let containers = core.table.all().into_iter().filter(here);
    let mut views: Vec<ContainerView> = containers
        .map(|c| snapshot(core, &c))
        .filter(|v| selection.takes(v))
        .collect();
    views.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    if let Some(limit) = filter.limit.filter(|l| *l > 0) {
        views.truncate(limit);
    }
    if !filter.size {
        return Ok(views);
    }
    let store = core.store.clone();
    blocking::run("measure containers", move || -> Result<Vec<ContainerView>> {
        for view in &mut views {
            view.size = Some(sizes(&store, view)?);
        }
        Ok(views)
    })
    .await
}

/// An image's id and layers; none where there is no such image.
fn ancestor(store: &Store, key: &str) -> Result<Option<(Digest, Vec<Digest>)>> {
    let found = match store.images().find(key) {
        Err(StoreError::NotFound { .. }) => return Ok(None),
        found => found?.target.digest,
    };
    match store.images().resolve(&found, &Platform::host()) {
        Err(StoreError::NoPlatform { .. } | StoreError::NotFound { .. }) => Ok(Some((found, Vec::new()))),
        image => Ok(Some((found, image?.diff_ids()))),
    }
}

/// The filters of a list, read.
struct Selection<'a> {
    filters: Filters<'a>,
    task: Option<bool>,
    exited: Vec<i32>,
    published: Vec<(u16, u16, String)>,
    exposed: Vec<(u16, u16, String)>,
    before: Vec<(SystemTime, String)>,
    since: Vec<(SystemTime, String)>,
    ancestors: Vec<Option<(Digest, Vec<Digest>)>>,
}

impl<'a> Selection<'a> {
    fn new(filters: &'a BTreeMap<String, Vec<String>>) -> Result<Self> {
        let filters = Filters::new(filters, &KEYS)?;
        let bad = |key: &str, value: &str| Error::invalid(format!("invalid filter '{key}={value}'"));
        let statuses = [
            "created",
            "restarting",
            "running",
            "removing",
            "paused",
            "exited",
            "dead",
        ];
        let healths = ["none", "starting", "healthy", "unhealthy"];
        for (key, known) in [("status", statuses.as_slice()), ("health", healths.as_slice())] {
            if let Some(value) = filters.values(key).iter().find(|v| !known.contains(&v.as_str())) {
                return Err(bad(key, value));
            }
        }
        for key in ["name", "id"] {
            if let Some(value) = filters
                .values(key)
                .iter()
                .find(|v| v.contains(|c| "*+?|()[]{}\\".contains(c)))
            {
                let hint =
                    "regular expressions are not supported: give a part of it, with ^ and $ for its ends";
                return Err(Error::unsupported(format!(
                    "invalid filter '{key}={value}': {hint}"
                )));
            }
        }
        let ports = |key: &str| -> Result<Vec<_>> {
            filters
                .values(key)
                .iter()
                .map(|v| port_range(v).ok_or_else(|| bad(key, v)))
                .collect()
        };
        let exited = filters
            .values("exited")
            .iter()
            .map(|v| v.parse().map_err(|_| bad("exited", v)));
        Ok(Self {
            task: filters.boolean("is-task")?,
            exited: exited.collect::<Result<_>>()?,
            published: ports("publish")?,
            exposed: ports("expose")?,
            before: Vec::new(),
            since: Vec::new(),
            ancestors: Vec::new(),
            filters,
        })
    }

    /// Whether it asks for containers that do not run.
    fn everything(&self) -> bool {
        !self.exited.is_empty() || !self.filters.values("status").is_empty()
    }

    fn takes(&self, view: &ContainerView) -> bool {
        let filters = &self.filters;
        let named = format!("/{}", view.name);
        let health = view.state.health.as_ref().map_or("none", |h| h.status.as_str());
        let mounted = |v: &str| {
            view.mounts
                .iter()
                .any(|m| m.name == v || m.source == v || m.destination == v)
        };
        // There are no tasks here.
        self.task != Some(true)
            && filters.any("id", |v| matches(v, &view.id))
            && filters.any("name", |v| matches(v, &named) || matches(v, &view.name))
            && filters.any("status", |v| v == status_word(view.state.status))
            && filters.any("health", |v| v == health)
            && filters.any("volume", mounted)
            && filters.any("network", |v| {
                view.endpoints.iter().any(|e| e.network == v || e.network_id == v)
            })
            && filters.labels(&view.spec.labels)
            && self.ended(view)
            && self.in_time(view)
            && self.reachable(view)
            && self.descends(view)
    }

    fn ended(&self, view: &ContainerView) -> bool {
        let state = &view.state;
        let running = matches!(
            state.status,
            Status::Running | Status::Paused | Status::Restarting
        );
        self.exited.is_empty()
            || !running && state.started_at.is_some() && self.exited.contains(&state.exit_code)
    }

    fn in_time(&self, view: &ContainerView) -> bool {
        let (created, id) = (view.created, &view.id);
        self.before.iter().all(|(at, other)| (created, id) < (*at, other))
            && self.since.iter().all(|(at, other)| (created, id) > (*at, other))
    }

    fn reachable(&self, view: &ContainerView) -> bool {
        let within = |ranges: &[(u16, u16, String)], port: u16, protocol: &str| {
            ranges
                .iter()
                .any(|(first, last, p)| (*first..=*last).contains(&port) && p == protocol)
        };
        let bound = view
            .spec
            .network
            .ports
            .iter()
            .map(|p| (p.container_port, p.protocol.as_str()));
        let open = view
            .ports
            .iter()
            .filter(|p| p.host.is_some())
            .map(|p| (p.container_port, p.protocol.as_str()));
        let published = || {
            bound
                .chain(open)
                .any(|(port, protocol)| within(&self.published, port, protocol))
        };
        let exposed = || {
            let mut ranges = view.spec.exposed_ports.iter().filter_map(|p| port_range(p));
            ranges.any(|(first, last, protocol)| {
                (first..=last).any(|port| within(&self.exposed, port, &protocol))
            })
        };
        (self.published.is_empty() || published()) && (self.exposed.is_empty() || exposed())
    }

    fn descends(&self, view: &ContainerView) -> bool {
        let from = |(id, layers): &(Digest, Vec<Digest>)| {
            view.image.id == *id || !layers.is_empty() && view.image.layers.starts_with(layers)
        };
        self.ancestors.is_empty() || self.ancestors.iter().flatten().any(from)
    }
}

/// A part of the text, or with `^` and `$` its beginning and end.
fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(rest), Some(_)) => rest.strip_suffix('$') == Some(text),
        (Some(rest), None) => text.starts_with(rest),
        (None, Some(rest)) => text.ends_with(rest),
        (None, None) => text.contains(pattern),
    }
}

/// Docker's word.
fn status_word(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Removing => "removing",
        Status::Exited => "exited",
        Status::Dead => "dead",
    }
}

/// One prune at a time, until it is dropped.
struct Pruning<'a>(&'a AtomicBool);

impl<'a> Pruning<'a> {
    fn begin(flag: &'a AtomicBool) -> Result<Self> {
        match flag.swap(true, Ordering::SeqCst) {
            true => Err(Error::conflict("a prune operation is already running")),
            false => Ok(Self(flag)),
        }
    }
}

impl Drop for Pruning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Removes containers that do not run. One that cannot be removed stays and is logged.
pub(crate) async fn prune(core: &Arc<Core>, filter: PruneFilter) -> Result<PruneReport> {
    let filters = Filters::new(&filter.filters, &["label", "label!", "until"])?;
    let until = filters.until(SystemTime::now())?;
    let _guard = Pruning::begin(&core.pruning)?;
    let mut report = PruneReport::default();
    for container in core.table.all() {
        let (record, phase) = (container.record(), container.state().phase);
        let stopped = matches!(phase, Phase::Created | Phase::Exited | Phase::Dead);
        if !stopped || until.is_some_and(|u| record.created > u) || !filters.labels(&record.spec.labels) {
            continue;
        }
        let (store, id) = (core.store.clone(), container.id.clone());
        let size = blocking::run("measure a container", move || usage(&store, &id)).await;
        let removed = match size {
            Ok(size) => remove::remove(core, &container, &RemoveOptions::default())
                .await
                .map(|()| size),
            Err(error) => Err(error),
        };
        match removed {
            Ok(size) => {
                report.deleted.push(container.id.clone());
                report.reclaimed += size;
            }
            Err(error) => tracing::warn!(container = container.id, %error, "it could not be pruned"),
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), report.reclaimed.to_string())]);
    core.events.publish("container", "prune", "", attributes);
    Ok(report)
}

/// Changes limits and policy, of a running container too. Answers warnings.
pub(crate) async fn update(core: &Arc<Core>, key: &str, update: Update) -> Result<Vec<String>> {
    let container = core.table.find(key)?;
    let (core, of) = (Arc::clone(core), Arc::clone(&container));
    blocking::owned(async move { change(&core, &of, update).await })
        .await
        .map_err(|e| Error::new(e.kind(), format!("Cannot update container {}: {e}", container.id)))
}

async fn change(core: &Arc<Core>, container: &Arc<Container>, update: Update) -> Result<Vec<String>> {
    while container.state().phase == Phase::Starting {
        lifecycle::settle(container).await?;
    }
    if matches!(
        container.state().phase,
        Phase::Removing | Phase::Removed | Phase::Dead
    ) {
        return Err(Error::conflict(
            "Container is marked for removal and cannot be \"update\".",
        ));
    }
    let restarts = update.restart.as_ref().is_some_and(|r| *r != RestartPolicy::No);
    if restarts && container.record().spec.auto_remove {
        let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
        return Err(Error::invalid(text));
    }
    let mut warnings = Vec::new();
    if let Some(asked) = update.resources {
        let (of, target) = (Arc::clone(core), Arc::clone(container));
        warnings = blocking::run("update a container's limits", move || limit(&of, &target, asked)).await?;
    }
    if let Some(policy) = update.restart {
        change_spec(container, |spec| spec.restart = policy.clone());
        core.apply(container, Event::Policy(policy))
            .map_err(|c| super::core::refused(c, &container.id, &container.state()))?;
    }
    core.save_durably(container).await?;
    core.publish(&container.cell(), "update", &[]);
    Ok(warnings)
}

fn change_spec(container: &Container, change: impl FnOnce(&mut ContainerSpec)) {
    let mut cell = container.cell();
    let record = Arc::make_mut(&mut cell.record);
    change(Arc::make_mut(&mut record.spec));
}

/// New limits: checked, then in the kernel, then in the record.
fn limit(core: &Core, container: &Container, mut asked: Resources) -> Result<Vec<String>> {
    let warnings = validate::resources(&mut asked, core.kernel.host(), true)?;
    let have = container.record().spec.resources.clone();
    agree(&asked, &have)?;
    let mut whole = have;
    take_over(&mut whole, &asked);
    if let Some(run) = container.run().filter(|_| container.state().alive()) {
        // Memory and swap are one limit to the kernel's newer interface: it needs both.
        if asked.memory != 0 || asked.memory_swap != 0 {
            (asked.memory, asked.memory_swap) = (whole.memory, whole.memory_swap);
        }
        asked.pids_limit = asked.pids_limit.map(|l| if l == 0 { -1 } else { l });
        let block = to_oci::devices::block_devices(&asked)?;
        core.kernel
            .cgroup_update(&run.facts.cgroup, &to_oci::resources(&asked, &block))
            .map_err(|e| Error::internal("changing the limits of its cgroup", e))?;
    }
    change_spec(container, |spec| take_over(&mut spec.resources, &asked));
    Ok(warnings)
}

/// What is asked against what is set already.
fn agree(asked: &Resources, have: &Resources) -> Result<()> {
    let nano = "Conflicting options: NanoCPUs cannot be updated as";
    let set = "cannot be updated as NanoCPUs has already been set";
    let conflicts = [
        (asked.nano_cpus > 0 && have.cpu_period > 0, format!("{nano} CPU Period has already been set")),
        (asked.nano_cpus > 0 && have.cpu_quota > 0, format!("{nano} CPU Quota has already been set")),
        (asked.cpu_period > 0 && have.nano_cpus > 0, format!("Conflicting options: CPU Period {set}")),
        (asked.cpu_quota > 0 && have.nano_cpus > 0, format!("Conflicting options: CPU Quota {set}")),
        (
            asked.memory_swap == 0 && have.memory_swap > 0 && asked.memory > have.memory_swap,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time".into(),
        ),
    ];
    if let Some((_, text)) = conflicts.into_iter().find(|(wrong, _)| *wrong) {
        return Err(Error::new(Kind::Conflict, text));
    }
    let fixed = [
        ("ulimits", asked.ulimits.is_empty()),
        ("devices", asked.devices.is_empty()),
        ("device cgroup rules", asked.device_cgroup_rules.is_empty()),
    ];
    match fixed.into_iter().find(|(_, empty)| !empty) {
        Some((name, _)) => Err(Error::unsupported(format!(
            "{name} cannot be updated: make a new container with them"
        ))),
        None => Ok(()),
    }
}

/// What is zero or empty stays as it is.
fn take_over(have: &mut Resources, asked: &Resources) {
    fn set<T: Clone + Default + PartialEq>(have: &mut T, asked: &T) {
        if *asked != T::default() {
            have.clone_from(asked);
        }
    }
    set(&mut have.memory, &asked.memory);
    set(&mut have.memory_reservation, &asked.memory_reservation);
    set(&mut have.memory_swap, &asked.memory_swap);
    set(&mut have.memory_swappiness, &asked.memory_swappiness);
    set(&mut have.oom_kill_disable, &asked.oom_kill_disable);
    set(&mut have.nano_cpus, &asked.nano_cpus);
    set(&mut have.cpu_shares, &asked.cpu_shares);
    set(&mut have.cpu_period, &asked.cpu_period);
    set(&mut have.cpu_quota, &asked.cpu_quota);
    set(&mut have.cpu_realtime_period, &asked.cpu_realtime_period);
    set(&mut have.cpu_realtime_runtime, &asked.cpu_realtime_runtime);
    set(&mut have.cpuset_cpus, &asked.cpuset_cpus);
    set(&mut have.cpuset_mems, &asked.cpuset_mems);
    set(&mut have.pids_limit, &asked.pids_limit);
    set(&mut have.blkio_weight, &asked.blkio_weight);
    set(&mut have.blkio_weight_device, &asked.blkio_weight_device);
    set(&mut have.blkio_read_bps, &asked.blkio_read_bps);
    set(&mut have.blkio_write_bps, &asked.blkio_write_bps);
    set(&mut have.blkio_read_iops, &asked.blkio_read_iops);
    set(&mut have.blkio_write_iops, &asked.blkio_write_iops);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::ImageIdentity;
    use std::time::Duration;

    fn sample() -> ContainerView {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let image = ImageIdentity {
            id: digest.clone(),
            manifest: digest.clone(),
            layers: vec![digest],
            platform: String::new(),
        };
        let spec = ContainerSpec {
            labels: BTreeMap::from([("tier".into(), "web".into())]),
            exposed_ports: vec!["80/tcp".into(), "7000-7009/udp".into()],
            ..ContainerSpec::default()
        };
        ContainerView {
            id: "c0ffee".into(),
            name: "web-1".into(),
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            spec: Arc::new(spec),
            image,
            state: view::State {
                status: Status::Exited,
                exit_code: 3,
                started_at: Some(SystemTime::UNIX_EPOCH),
                ..view::State::default()
            },
            mounts: Vec::new(),
            endpoints: vec![EndpointView {
                network: "front".into(),
                ..EndpointView::default()
            }],
            ports: Vec::new(),
            restart_count: 0,
            manually_stopped: false,
            path: String::new(),
            args: Vec::new(),
            files: FilePaths::default(),
            execs: Vec::new(),
            size: None,
            cgroup_path: String::new(),
            sandbox: Default::default(),
        }
    }

    fn takes(key: &str, value: &str) -> Result<bool> {
        let map = BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]);
        Ok(Selection::new(&map)?.takes(&sample()))
    }

    #[test]
    fn filters_choose() {
        for (key, value, expected) in [
            ("name", "web", true),
            ("name", "^/web-1$", true),
            ("name", "^eb", false),
            ("name", "1$", true),
            ("id", "c0", true),
            ("status", "exited", true),
            ("status", "running", false),
            ("exited", "3", true),
            ("exited", "0", false),
            ("health", "none", true),
            ("health", "healthy", false),
            ("label", "tier=web", true),
            ("label", "tier=db", false),
            ("network", "front", true),
            ("network", "fro", false),
            ("expose", "80", true),
            ("expose", "7005/udp", true),
            ("expose", "7005", false),
            ("publish", "80", false),
            ("is-task", "true", false),
            ("is-task", "false", true),
            ("volume", "v", false),
        ] {
            assert_eq!(takes(key, value).unwrap(), expected, "{key}={value}");
        }
        for (key, value, text) in [
            ("colour", "red", "invalid filter 'colour'"),
            ("status", "gone", "invalid filter 'status=gone'"),
            ("exited", "x", "invalid filter 'exited=x'"),
            ("publish", "9-1", "invalid filter 'publish=9-1'"),
        ] {
            assert_eq!(takes(key, value).unwrap_err().to_string(), text);
        }
        assert_eq!(takes("name", "a.*").unwrap_err().kind(), Kind::Unsupported);
    }

    #[test]
    fn before_since_and_ancestor_choose() {
        let map = BTreeMap::new();
        let at = |s| (SystemTime::UNIX_EPOCH + Duration::from_secs(s), String::new());
        let choose = |before, since| {
            Selection {
                before,
                since,
                ..Selection::new(&map).unwrap()
            }
            .takes(&sample())
        };
        assert!(choose(vec![at(101)], vec![at(99)]));
        assert!(!choose(vec![at(99)], vec![]) && !choose(vec![], vec![at(101)]));
        let from = |ancestors| {
            Selection {
                ancestors,
                ..Selection::new(&map).unwrap()
            }
            .takes(&sample())
        };
        let (same, other) = (
            sample().image.id,
            format!("sha256:{}", "b".repeat(64)).parse::<Digest>().unwrap(),
        );
        assert!(
            from(vec![Some((same.clone(), Vec::new()))])
                && from(vec![None, Some((other.clone(), vec![same]))])
        );
        assert!(!from(vec![None]) && !from(vec![Some((other, Vec::new()))]));
    }

    #[test]
    fn an_update_keeps_what_it_does_not_say() {
        let mut have = Resources {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            cpu_shares: 512,
            ..Resources::default()
        };
        let asked = Resources {
            memory: 96 << 20,
            pids_limit: Some(9),
            ..Resources::default()
        };
        agree(&asked, &have).unwrap();
        take_over(&mut have, &asked);
        assert_eq!(
            (have.memory, have.memory_swap, have.cpu_shares, have.pids_limit),
            (96 << 20, 128 << 20, 512, Some(9))
        );
        assert!(
            agree(
                &Resources {
                    memory: 1 << 30,
                    ..Resources::default()
                },
                &have
            )
            .is_err()
        );
        assert!(
            agree(
                &Resources {
                    nano_cpus: 1,
                    ..Resources::default()
                },
                &Resources {
                    cpu_quota: 1000,
                    ..have
                }
            )
            .is_err()
        );
    }
}
