//! One container's cgroup, in every hierarchy at once.

use super::layout::{Hierarchy, Layout, Location, Mode};
use super::tree::{self, Dir};
use super::{
    CONTROLLERS, CgroupError, Controller, ControllerRow, Knob, Phase, Stats, Version, cpuset, devices,
    freezer, oom, unified, unsupported,
};
use ferry_oci::runtime::Resources;
use rustix::fs::{AtFlags, Mode as FileMode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long `remove` waits for the kernel to forget the last process.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup, open in every hierarchy.
#[derive(Debug)]
pub struct Group {
    path: String,
    mode: Mode,
    nodes: Vec<Node>,
    joins: Vec<OwnedFd>,
}

/// The cgroup's directory in one hierarchy.
#[derive(Debug)]
pub(crate) struct Node {
    hierarchy: Arc<Hierarchy>,
    relative: String,
    pub dir: Dir,
}

impl Node {
    pub fn version(&self) -> Version {
        self.hierarchy.version()
    }

    pub fn has(&self, controller: Controller) -> bool {
        self.hierarchy.controllers().contains(&controller)
    }
}

impl Group {
    /// Makes the cgroup in every hierarchy and writes the limits. Nothing is left of it when that fails.
    ///
    /// An empty cgroup of that path is removed first, since a used one keeps charges and meters; one with processes is
    /// [`CgroupError::Busy`].
    pub fn create(layout: &Layout, path: &str, resources: &Resources) -> Result<Group, CgroupError> {
        let location = Location::parse(path)?;
        let settings = Settings::plan(layout, resources)?;
        let mut made = Made::default();
        let mut nodes = Vec::with_capacity(layout.shared().len());
        for hierarchy in layout.shared() {
            let relative = location.beneath(hierarchy);
            if hierarchy.version() == Version::V2 {
                unified::delegate(
                    hierarchy,
                    &relative,
                    &settings.delegated(layout, hierarchy),
                    &mut made,
                )?;
            }
            made.leaf(hierarchy, &relative)?;
            let dir = Dir::open(hierarchy.root(), &relative, hierarchy.shown(&relative))?;
            nodes.push(Node {
                hierarchy: hierarchy.clone(),
                relative,
                dir,
            });
        }
        settings.write(&nodes, Phase::Create)?;
        devices::restrict(&nodes, &resources.devices, Phase::Create)?;
        let joins = join_fds(&nodes)?;
        made.keep();
        Ok(Group {
            path: path.to_owned(),
            mode: layout.mode(),
            nodes,
            joins,
        })
    }

    /// Opens a cgroup that exists. Hierarchies that lack it are left out; [`CgroupError::NotFound`] when all do.
    pub fn open(layout: &Layout, path: &str) -> Result<Group, CgroupError> {
        let location = Location::parse(path)?;
        let mut nodes = Vec::with_capacity(layout.shared().len());
        for hierarchy in layout.shared() {
            let relative = location.beneath(hierarchy);
            match Dir::open(hierarchy.root(), &relative, hierarchy.shown(&relative)) {
                Ok(dir) => nodes.push(Node {
                    hierarchy: hierarchy.clone(),
                    relative,
                    dir,
                }),
                Err(CgroupError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if nodes.is_empty() {
            return Err(CgroupError::NotFound {
                path: path.to_owned(),
            });
        }
        let joins = join_fds(&nodes)?;
        Ok(Group {
            path: path.to_owned(),
            mode: layout.mode(),
            nodes,
            joins,
        })
    }

    /// The path it was made or opened with.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How this machine's controllers are mounted.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The cgroup's path in each hierarchy, as the host sees it, by controller; the unified tree's has no controller.
    pub fn paths(&self) -> impl Iterator<Item = (&[Controller], &str)> {
        self.nodes
            .iter()
            .map(|node| (node.hierarchy.controllers(), node.dir.path()))
    }

    /// Files into which a single-threaded process writes `0` to join: v1's `tasks` of each hierarchy, and the unified
    /// tree's `cgroup.procs`. (v1's `cgroup.procs` would wait for an RCU grace period per hierarchy.)
    pub fn join_fds(&self) -> &[OwnedFd] {
        &self.joins
    }

    /// The directory for `CLONE_INTO_CGROUP`, on machines with the unified tree alone.
    pub fn v2_dir(&self) -> Option<BorrowedFd<'_>> {
        (self.mode == Mode::V2)
            .then(|| self.unified().map(|node| node.dir.as_fd()))
            .flatten()
    }

    /// Changes limits while the container runs. What `resources` leaves out stays.
    pub fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        let settings = Settings::plan_for(resources, |controller| {
            self.node(controller).map(|node| node.version())
        })?;
        settings.write(&self.nodes, Phase::Update)?;
        if resources.devices.is_empty() {
            return Ok(());
        }
        devices::restrict(&self.nodes, &resources.devices, Phase::Update)
    }

    /// Reads every meter.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = Stats::default();
        for node in &self.nodes {
            for row in CONTROLLERS {
                // v2 meters CPU time even where the controller is off.
                let always = self.mode == Mode::V2 && row.controller == Controller::Cpuacct;
                if always || node.has(row.controller) {
                    (row.stats)(&node.dir, node.version(), &mut stats)?;
                }
            }
        }
        if let Some(node) = self.unified() {
            unified::pressure(&node.dir, &mut stats)?;
        }
        Ok(stats)
    }

    /// Every process in the cgroup and in those below it, as this process's pid namespace numbers them.
    ///
    /// Processes that the reader's pid namespace does not show are left out.
    pub fn pids(&self) -> Vec<i32> {
        // Any tree tells; these are the ones that nothing inside a container has reason to subdivide.
        const ORDER: [Controller; 3] = [Controller::Pids, Controller::Devices, Controller::Freezer];
        let node = ORDER
            .iter()
            .find_map(|c| self.node(*c))
            .or_else(|| self.nodes.first());
        node.map(|node| freezer::pids(&node.dir)).unwrap_or_default()
    }

    /// Stops every process; returns when all have stopped.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let node = self.freezer()?;
        freezer::set(&node.dir, node.version(), true)
    }

    /// Lets every process run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let node = self.freezer()?;
        freezer::set(&node.dir, node.version(), false)
    }

    /// Whether its processes are stopped.
    pub fn frozen(&self) -> Result<bool, CgroupError> {
        let node = self.freezer()?;
        freezer::get(&node.dir, node.version())
    }

    /// Kills every process, frozen ones and those below included. Does not wait for them to be reaped.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let freezer = self.node(Controller::Freezer).map(|node| &node.dir);
        if let Some(node) = self.unified() {
            freezer::kill_v2(&node.dir)?;
            if self.mode == Mode::V2 {
                return Ok(());
            }
            let (all, killed) = (self.pids(), freezer::pids(&node.dir));
            if all.iter().all(|pid| killed.binary_search(pid).is_ok()) {
                // What v1 has frozen dies at its thaw only.
                return freezer.map_or(Ok(()), freezer::thaw_v1);
            }
        }
        freezer::kill_v1(freezer, &|| self.pids())
    }

    /// Removes the cgroup and those below it everywhere. Waits up to two seconds for the kernel to let go of processes that
    /// have just died; [`CgroupError::Busy`] when some still live.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut first_error = None;
        for node in self.nodes.iter().rev() {
            let (root, path) = (node.hierarchy.root(), node.dir.path());
            if let Err(error) = tree::remove(root, &node.relative, path, REMOVE_PATIENCE) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// An fd that polls readable when the cgroup runs out of memory, and at once when it is removed; drain it with one
    /// `read` of 4096 bytes, then ask [`Group::oom_kills`]. Non-blocking; an eventfd on v1, an inotify fd on v2.
    pub fn oom_watch(&self) -> Result<OwnedFd, CgroupError> {
        let node = self
            .node(Controller::Memory)
            .ok_or_else(|| unsupported("out-of-memory events", "no memory controller"))?;
        oom::watch(&node.dir, node.version())
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.node(Controller::Memory) {
            Some(node) => oom::kills(&node.dir, node.version()),
            None => Ok(0),
        }
    }

    fn node(&self, controller: Controller) -> Option<&Node> {
        self.nodes.iter().find(|node| node.has(controller))
    }

    fn unified(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.version() == Version::V2)
    }

    fn freezer(&self) -> Result<&Node, CgroupError> {
        self.node(Controller::Freezer)
            .or_else(|| self.unified())
            .ok_or_else(|| unsupported("pause", "neither the freezer controller nor cgroup2 is mounted"))
    }
}

fn join_fds(nodes: &[Node]) -> Result<Vec<OwnedFd>, CgroupError> {
    let open = |node: &Node| {
        let file = if node.version() == Version::V1 {
            "tasks"
        } else {
            "cgroup.procs"
        };
        node.dir
            .open_file(file, OFlags::WRONLY)
            .map_err(|errno| node.dir.io("open", file, errno))
    };
    nodes.iter().map(open).collect()
}

/// What resources ask for, by controller; made before anything is changed.
struct Settings<'a> {
    resources: &'a Resources,
    rows: Vec<(&'static ControllerRow, Vec<Knob>)>,
    unified: Vec<Knob>,
}

impl<'a> Settings<'a> {
    fn plan(layout: &Layout, resources: &'a Resources) -> Result<Settings<'a>, CgroupError> {
        Settings::plan_for(resources, |controller| {
            layout.controller(controller).map(Hierarchy::version)
        })
    }

    /// `version` tells how a controller can be had, if it can.
    fn plan_for(
        resources: &'a Resources,
        version: impl Fn(Controller) -> Option<Version>,
    ) -> Result<Settings<'a>, CgroupError> {
        let mut rows = Vec::new();
        for row in CONTROLLERS {
            let available = version(row.controller);
            let knobs = (row.knobs)(resources, available.unwrap_or(Version::V2))?;
            if let (None, Some(knob)) = (available, knobs.iter().find(|knob| !knob.initial)) {
                let name = row.controller.name(Version::V1);
                return Err(unsupported(
                    knob.field,
                    format!("the {name} controller is not mounted or enabled"),
                ));
            }
            if available.is_some() && !knobs.is_empty() {
                rows.push((row, knobs));
            }
        }
        Ok(Settings {
            resources,
            rows,
            unified: unified::knobs(&resources.unified)?,
        })
    }

    /// Which controllers the unified tree must hand down to this cgroup: on v2 all that exist, so that every meter works;
    /// on hybrid machines, whose root is not ours to change without need, those with a limit.
    fn delegated(&self, layout: &Layout, hierarchy: &Hierarchy) -> Vec<Controller> {
        let wanted = |c: &Controller| {
            layout.mode() == Mode::V2 || self.rows.iter().any(|(row, _)| row.controller == *c)
        };
        hierarchy.controllers().iter().copied().filter(wanted).collect()
    }

    fn write(&self, nodes: &[Node], phase: Phase) -> Result<(), CgroupError> {
        for (row, knobs) in &self.rows {
            let Some(node) = nodes.iter().find(|node| node.has(row.controller)) else {
                continue;
            };
            match phase {
                Phase::Update => (row.write)(&node.dir, node.version(), knobs, self.resources)?,
                Phase::Create => {
                    let changed: Vec<Knob> = knobs.iter().filter(|k| !k.initial).cloned().collect();
                    (row.write)(&node.dir, node.version(), &changed, self.resources)?;
                }
            }
        }
        let Some(first) = self.unified.first() else {
            return Ok(());
        };
        let Some(node) = nodes.iter().find(|node| node.version() == Version::V2) else {
            return Err(unsupported(
                format!("unified {}", first.file),
                "cgroup2 is not mounted",
            ));
        };
        unified::write(&node.dir, &self.unified)
    }
}

/// Directories made so far; removes them again unless it is told to keep them.
#[derive(Debug, Default)]
pub(crate) struct Made {
    made: Vec<(Arc<Hierarchy>, String)>,
}

impl Made {
    /// Makes the container's own directory, and its parents where needed.
    fn leaf(&mut self, hierarchy: &Arc<Hierarchy>, relative: &str) -> Result<(), CgroupError> {
        match self.mkdir(hierarchy, relative) {
            Err(Errno::NOENT) => {
                self.parents(hierarchy, relative)?;
                self.mkdir(hierarchy, relative)
            }
            Err(Errno::EXIST) => {
                tree::remove(
                    hierarchy.root(),
                    relative,
                    &hierarchy.shown(relative),
                    Duration::ZERO,
                )?;
                self.mkdir(hierarchy, relative)
            }
            other => other,
        }
        .map_err(|errno| tree::io("mkdir", hierarchy.shown(relative), errno))?;
        self.made_usable(hierarchy, relative)
    }

    /// Makes the directories above `relative`.
    pub fn parents(&mut self, hierarchy: &Arc<Hierarchy>, relative: &str) -> Result<(), CgroupError> {
        for (end, _) in relative.match_indices('/') {
            let parent = &relative[..end];
            match self.mkdir(hierarchy, parent) {
                Ok(()) => self.made_usable(hierarchy, parent)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(tree::io("mkdir", hierarchy.shown(parent), errno)),
            }
        }
        Ok(())
    }

    fn mkdir(&mut self, hierarchy: &Arc<Hierarchy>, relative: &str) -> Result<(), Errno> {
        rustix::fs::mkdirat(hierarchy.root(), relative, FileMode::from_raw_mode(0o755))?;
        self.made.push((hierarchy.clone(), relative.to_owned()));
        Ok(())
    }

    /// A new v1 cpuset has no processors, and nothing can join it before it has some.
    fn made_usable(&self, hierarchy: &Hierarchy, relative: &str) -> Result<(), CgroupError> {
        let v1 = hierarchy.version() == Version::V1;
        if v1 && hierarchy.controllers().contains(&Controller::Cpuset) {
            return cpuset::inherit(hierarchy, relative);
        }
        Ok(())
    }

    fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (hierarchy, relative) in self.made.drain(..).rev() {
            // The cause is being reported already; a parent that others use by now stays.
            let _ = rustix::fs::unlinkat(hierarchy.root(), relative.as_str(), AtFlags::REMOVEDIR);
        }
    }
}
