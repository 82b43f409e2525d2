//! Everything that the new process finds ready: descriptors out of the way of the numbers it will need, strings for the kernel.

use super::{Channel, Launch, LaunchError, Rootfs, Stdio};
use crate::apply::wires::{CgroupTree, Root, Sibling, Wires};
use crate::cgroup::{Controller, Group, Version};
use crate::plan::{Plan, Step, User};
use crate::user::{Buffers, Identity, Request};
use ferry_oci::runtime::NamespaceKind;
use ferry_sys::exec::Strings;
use ferry_sys::fd;
use ferry_sys::mem::SharedWords;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// fsconfig(2) takes strings shorter than this.
const STRING: usize = 256;

/// Prepared, and the descriptors that must stay open until the clone.
pub(super) struct Prepared<'a> {
    pub wires: Wires<'a>,
    channel: Channel,
    console: Option<OwnedFd>,
    net: Option<OwnedFd>,
    held: Vec<OwnedFd>,
}

/// Finds room for descriptors above those that the child will fill.
pub(crate) struct Numbers {
    lowest: RawFd,
    held: Vec<OwnedFd>,
}

impl Numbers {
    pub fn new(kept: usize) -> Numbers {
        Numbers {
            lowest: 3 + i32::try_from(kept).unwrap_or(0),
            held: Vec::new(),
        }
    }

    /// Takes a descriptor for the child's use.
    pub fn take(&mut self, fd: OwnedFd) -> Result<RawFd, LaunchError> {
        let number = self.number(fd.as_raw_fd())?;
        if number == fd.as_raw_fd() {
            self.held.push(fd);
        }
        Ok(number)
    }

    /// A number for a descriptor that somebody else keeps open: its own, or a duplicate's above.
    pub fn number(&mut self, number: RawFd) -> Result<RawFd, LaunchError> {
        if number >= self.lowest {
            return Ok(number);
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(fd::borrow(number), self.lowest)
            .map_err(|e| LaunchError::io("duplicate a descriptor", e.into()))?;
        let number = copy.as_raw_fd();
        self.held.push(copy);
        Ok(number)
    }

    /// As `number`, unless it is in its place already.
    pub fn stream(&mut self, number: RawFd, place: RawFd) -> Result<RawFd, LaunchError> {
        if number == place {
            Ok(number)
        } else {
            self.number(number)
        }
    }
}

impl<'a> Prepared<'a> {
    /// `placed`: the clone itself puts the child into its cgroup.
    pub fn new(
        mut launch: Launch<'a>,
        sibling: Option<&'a SharedWords>,
        placed: bool,
    ) -> Result<Prepared<'a>, LaunchError> {
        let plan = launch.plan;
        let mut numbers = Numbers::new(launch.keep.len());
        launch
            .channel
            .above(numbers.lowest)
            .map_err(|e| LaunchError::io("arrange descriptors", e))?;
        let (report, gate) = launch.channel.far();
        let (report, gate) = (Some(report.as_raw_fd()), Some(gate.as_raw_fd()));
        let joins = match launch.group {
            Some(group) if !placed => group
                .join_fds()
                .iter()
                .map(|f| numbers.number(f.as_raw_fd()))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let (namespaces, net) = open_namespaces(plan, &mut numbers)?;
        let pid_ns = namespaces
            .iter()
            .find(|(k, _)| *k == NamespaceKind::Pid)
            .map(|(_, n)| *n);
        let binds = std::mem::take(&mut launch.binds)
            .into_iter()
            .map(|(index, tree)| Ok((index, numbers.take(tree)?)))
            .collect::<Result<Vec<_>, LaunchError>>()?;
        let (stdio, console, far_console) = streams(&launch.stdio, &mut numbers)?;
        let keep = launch
            .keep
            .iter()
            .map(|k| numbers.number(*k))
            .collect::<Result<Vec<_>, _>>()?;
        let init = match (plan.init, launch.init) {
            (true, Some(binary)) => Some(numbers.number(binary.as_raw_fd())?),
            (true, None) => return Err(LaunchError::other("an init was asked for without its binary")),
            (false, _) => None,
        };
        let (arguments, environment) = strings(plan);
        let mut wires = Wires {
            plan,
            report,
            gate,
            console: far_console,
            joins,
            namespaces,
            binds,
            root: root(launch.rootfs, launch.bundle, &mut numbers)?,
            cgroups: cgroup_trees(plan, launch.group)?,
            stdio,
            keep,
            gaps: Vec::new(),
            await_maps: plan.id_maps.is_some(),
            filter: filter(plan, launch.filter)?,
            arguments,
            environment,
            request: request(plan),
            identity: identity(plan),
            files: Buffers::new(),
            init,
            sibling: sibling.map(|words| Sibling {
                pid_ns,
                target: None,
                pid: words.word(0),
                fault: None,
            }),
        };
        wires.gaps = gaps(&wires);
        Ok(Prepared {
            wires,
            channel: launch.channel,
            console,
            net,
            held: numbers.held,
        })
    }

    /// What the maker keeps once the clone is done.
    pub fn into_ends(mut self) -> (Channel, Option<OwnedFd>, Option<OwnedFd>) {
        self.channel.close_far();
        drop(self.held);
        (self.channel, self.console, self.net)
    }
}

/// All that is not named here is closed at once in the child (R4).
pub(crate) fn gaps(wires: &Wires<'_>) -> Vec<(u32, u32)> {
    let mut numbers: Vec<RawFd> = Vec::with_capacity(32);
    numbers.extend(
        [wires.report, wires.gate, wires.console, wires.init]
            .into_iter()
            .flatten(),
    );
    numbers.extend(wires.stdio.iter().flatten());
    numbers.extend(&wires.joins);
    numbers.extend(&wires.keep);
    numbers.extend(wires.namespaces.iter().map(|(_, number)| *number));
    numbers.extend(wires.binds.iter().map(|(_, number)| *number));
    if let Root::Tree(number, _) = &wires.root {
        numbers.push(*number);
    }
    if let Some(sibling) = &wires.sibling {
        numbers.extend(sibling.target.map(|(number, _)| number));
    }
    fd::gaps(3, &mut numbers)
}

type Opened = (Vec<(NamespaceKind, RawFd)>, Option<OwnedFd>);

fn open_namespaces(plan: &Plan, numbers: &mut Numbers) -> Result<Opened, LaunchError> {
    let mut opened = Vec::with_capacity(plan.joined.len());
    let mut net = None;
    for (kind, path) in &plan.joined {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
            LaunchError::other(format!(
                "cannot open the {kind:?} namespace {}: {}",
                path.display(),
                std::io::Error::from(e)
            ))
        })?;
        if *kind == NamespaceKind::Network {
            net = Some(
                file.try_clone()
                    .map_err(|e| LaunchError::io("duplicate a descriptor", e))?,
            );
        }
        opened.push((*kind, numbers.take(file)?));
    }
    Ok((opened, net))
}

type Streams = ([Option<RawFd>; 3], Option<OwnedFd>, Option<RawFd>);

/// The three streams, our end of the console's socket, and the child's.
pub(crate) fn streams(stdio: &Stdio<'_>, numbers: &mut Numbers) -> Result<Streams, LaunchError> {
    match stdio {
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } => {
            let mut all = [None; 3];
            for (place, stream) in (0..).zip([stdin, stdout, stderr]) {
                all[place as usize] = Some(numbers.stream(stream.as_raw_fd(), place)?);
            }
            Ok((all, None, None))
        }
        Stdio::TerminalTo(socket) => Ok(([None; 3], None, Some(numbers.number(socket.as_raw_fd())?))),
        Stdio::Terminal => {
            let (near, far) = rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
            .map_err(|e| LaunchError::io("make a socket for the terminal", e.into()))?;
            Ok(([None; 3], Some(near), Some(numbers.take(far)?)))
        }
    }
}

/// The program's arguments, behind the init's own when it has one, and its environment with room for `HOME`.
pub(crate) fn strings(plan: &Plan) -> (Strings, Strings) {
    let program = &plan.program;
    let mut arguments = Vec::with_capacity(program.arguments.len() + 2);
    if plan.init {
        arguments.extend([c"/sbin/docker-init".to_owned(), c"--".to_owned()]);
    }
    arguments.extend(program.arguments.iter().cloned());
    let room = if program.find_home { 4096 + 8 } else { 0 };
    (
        Strings::new(arguments, 0),
        Strings::new(program.environment.clone(), room),
    )
}

pub(crate) fn request(plan: &Plan) -> Option<Request> {
    match &plan.program.user {
        User::Lookup { user, groups } => Some(Request::new(user, groups)),
        User::Ids { .. } => None,
    }
}

pub(crate) fn identity(plan: &Plan) -> Identity {
    let mut identity = Identity::with_room();
    if let User::Ids { uid, gid, groups } = &plan.program.user {
        (identity.uid, identity.gid) = (*uid, *gid);
        identity.groups.clone_from(groups);
    }
    identity
}

type Filter = Option<(Vec<ferry_sys::seccomp::Instruction>, u32)>;

/// The given filter, or the plan's, compiled now.
pub(crate) fn filter(
    plan: &Plan,
    given: Option<(&[ferry_sys::seccomp::Instruction], u32)>,
) -> Result<Filter, LaunchError> {
    if let Some((program, flags)) = given {
        return Ok(Some((program.to_vec(), flags)));
    }
    match &plan.seccomp {
        Some(profile) => {
            let filter = crate::seccomp::compile(profile)
                .map_err(|e| LaunchError::other(format!("the seccomp profile cannot be used: {e}")))?;
            if filter.listener.is_some() {
                return Err(LaunchError::other(
                    "linux.seccomp.listenerPath is not supported yet",
                ));
            }
            Ok(Some((filter.program, filter.flags)))
        }
        None => Ok(None),
    }
}

fn cstring(path: &Path) -> Result<CString, LaunchError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| LaunchError::other(format!("the path {} contains a NUL byte", path.display())))
}

fn root(rootfs: Rootfs<'_>, bundle: &Path, numbers: &mut Numbers) -> Result<Root, LaunchError> {
    match rootfs {
        Rootfs::Directory(path) => Ok(Root::Directory(cstring(path)?)),
        Rootfs::Tree(tree) => Ok(Root::Tree(numbers.take(tree)?, cstring(bundle)?)),
        Rootfs::Overlay {
            lowers,
            upper,
            work,
            volatile,
        } => overlay(lowers, upper, work, volatile),
    }
}

/// One string a layer where the kernel can (6.5); otherwise all layers in mount(2)'s single page.
fn overlay(lowers: &[&Path], upper: &Path, work: &Path, volatile: bool) -> Result<Root, LaunchError> {
    let at = cstring(upper)?;
    let mut options = Vec::with_capacity(lowers.len() + 3);
    let mut fits = overlay_takes_layers();
    let mut push = |key: &std::ffi::CStr, path: &Path| -> Result<(), LaunchError> {
        let value = cstring(path)?;
        fits &= value.as_bytes().len() < STRING;
        options.push((key.to_owned(), Some(value)));
        Ok(())
    };
    for lower in lowers {
        push(c"lowerdir+", lower)?;
    }
    push(c"upperdir", upper)?;
    push(c"workdir", work)?;
    if volatile {
        options.push((c"volatile".into(), None));
    }
    if fits {
        return Ok(Root::Overlay {
            options,
            legacy: None,
            at,
        });
    }
    let legacy = Some(overlay_data(lowers, upper, work, volatile)?);
    Ok(Root::Overlay { options, legacy, at })
}

fn overlay_data(lowers: &[&Path], upper: &Path, work: &Path, volatile: bool) -> Result<CString, LaunchError> {
    let escaped = |path: &Path| {
        let mut text = Vec::new();
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b',' | b'\\') {
                text.push(b'\\');
            }
            text.push(*byte);
        }
        text
    };
    let mut data = b"lowerdir=".to_vec();
    let all: Vec<_> = lowers.iter().map(|l| escaped(l)).collect();
    data.extend(all.join(&b':'));
    for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        data.extend(key);
        data.extend(escaped(path));
    }
    if volatile {
        data.extend(b",volatile");
    }
    if data.len() >= 4096 {
        return Err(LaunchError::other(format!(
            "the image's {} layers do not fit into one page of mount options: this kernel is older than 6.5, use shorter paths",
            lowers.len()
        )));
    }
    CString::new(data).map_err(|_| LaunchError::other("a layer's path contains a NUL byte"))
}

fn overlay_takes_layers() -> bool {
    let release = rustix::system::uname();
    crate::host::version_of(&release.release().to_string_lossy()) >= (6, 5)
}

/// What a container on cgroup v1 sees in `/sys/fs/cgroup`: its own cgroup in each tree, under the tree's usual names.
fn cgroup_trees(plan: &Plan, group: Option<&Group>) -> Result<Vec<CgroupTree>, LaunchError> {
    let wanted = plan
        .steps
        .iter()
        .any(|s| matches!(s, Step::Cgroups(mount) if mount.v1));
    if !wanted {
        return Ok(Vec::new());
    }
    let group = group.ok_or_else(|| LaunchError::other("a cgroup mount needs a cgroup to show"))?;
    let mut trees = Vec::new();
    for (controllers, path) in group.paths() {
        let below = path.strip_prefix("/sys/fs/cgroup/").unwrap_or(path);
        let name = below.split('/').next().unwrap_or(below);
        if name == "unified" || name.is_empty() {
            continue;
        }
        trees.push(cgroup_tree(name, controllers, path)?);
    }
    Ok(trees)
}

fn cgroup_tree(name: &str, controllers: &[Controller], path: &str) -> Result<CgroupTree, LaunchError> {
    let text = |text: &str| {
        CString::new(text).map_err(|_| LaunchError::other("a cgroup's path contains a NUL byte"))
    };
    let names: Vec<&str> = controllers.iter().map(|c| c.name(Version::V1)).collect();
    let parameters = if names.is_empty() {
        vec![
            (c"none".to_owned(), None),
            (c"name".to_owned(), Some(text(name)?)),
        ]
    } else {
        names
            .iter()
            .map(|n| Ok((text(n)?, None)))
            .collect::<Result<_, LaunchError>>()?
    };
    Ok(CgroupTree {
        name: text(name)?,
        links: names
            .iter()
            .filter(|n| **n != name)
            .map(|n| text(n))
            .collect::<Result<_, _>>()?,
        source: text(path)?,
        parameters,
    })
}
