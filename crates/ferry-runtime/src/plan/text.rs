//! The stable text form of a plan, one step a line: what golden tests compare and people read.

use super::{Plan, Step, User};
use crate::capability;
use ferry_sys::mount::MountAttr;
use std::ffi::CStr;
use std::fmt;

fn show(text: &CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clone != 0 {
            writeln!(f, "clone {:#x}", self.clone)?;
        }
        for (kind, path) in &self.joined {
            writeln!(f, "open {kind:?} namespace {}", path.display())?;
        }
        if let Some(maps) = &self.id_maps {
            writeln!(f, "map uids {:?} gids {:?}", maps.uids, maps.gids)?;
        }
        for step in self.steps.iter() {
            writeln!(f, "{step}")?;
        }
        match &self.program.user {
            User::Ids { uid, gid, groups } => writeln!(f, "user {uid}:{gid} groups {groups:?}")?,
            User::Lookup { user, groups } => writeln!(f, "user {user:?} groups {groups:?}")?,
        }
        writeln!(
            f,
            "run {:?} from {:?}",
            self.program.arguments, self.program.candidates
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::JoinCgroups => write!(f, "join cgroups"),
            Step::UnshareCgroup => write!(f, "new cgroup namespace"),
            Step::Join(kind) => write!(f, "join {kind:?} namespace"),
            Step::BecomeMapped => write!(f, "wait for id maps"),
            Step::Propagate(flags) => write!(f, "propagate / {flags:#x}"),
            Step::AttachRoot { private_parent } => {
                write!(
                    f,
                    "attach root{}",
                    if *private_parent {
                        " below a private mount"
                    } else {
                        ""
                    }
                )
            }
            Step::TimeNamespace(offsets) => write!(f, "new time namespace {offsets:?}"),
            Step::OpenProc => write!(f, "open procfs"),
            Step::FileSystem(m) => {
                write!(
                    f,
                    "mount {} {} on {}",
                    show(&m.kind),
                    show(&m.source),
                    show(&m.destination)
                )?;
                write!(f, " attributes {:#x}", m.attributes)?;
                for (key, value) in &m.parameters {
                    match value {
                        Some(value) => write!(f, " {}={}", show(key), show(value))?,
                        None => write!(f, " {}", show(key))?,
                    }
                }
                propagation(f, m.propagation)?;
                if m.copy_up { write!(f, " copy-up") } else { Ok(()) }
            }
            Step::Bind(b) => {
                let verb = if b.recursive { "rbind" } else { "bind" };
                write!(f, "{verb} {} on {}", show(&b.source), show(&b.destination))?;
                attributes(f, "", &b.attributes)?;
                attributes(f, "recursive ", &b.recursive_attributes)?;
                propagation(f, b.propagation)
            }
            Step::Cgroups(c) => write!(
                f,
                "cgroups {}{} on {} attributes {:#x}",
                if c.v1 { "v1" } else { "v2" },
                if c.private { " private" } else { "" },
                show(&c.destination),
                c.attributes
            ),
            Step::Device(d) => {
                let (major, minor) = d.number;
                write!(
                    f,
                    "device {} {:o} {major}:{minor} {}:{}",
                    show(&d.path),
                    d.mode,
                    d.owner.0,
                    d.owner.1
                )?;
                if d.bind.is_some() {
                    write!(f, " bound")
                } else {
                    Ok(())
                }
            }
            Step::Link { path, target } => write!(f, "link {} -> {}", show(path), show(target)),
            Step::Terminal(t) => write!(f, "terminal {:?} console {}", t.size, t.console),
            other => other.fmt_settings(f),
        }
    }
}

impl Step {
    fn fmt_settings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Loopback => write!(f, "loopback up"),
            Step::Hostname(name) => write!(f, "hostname {}", show(name)),
            Step::Domainname(name) => write!(f, "domainname {}", show(name)),
            Step::Sysctl(path, value) => write!(f, "sysctl {} = {}", show(path), show(value)),
            Step::Hooks(point) => write!(f, "hooks {point:?}"),
            Step::Mask(path) => write!(f, "mask {}", show(path)),
            Step::ReadOnly(path) => write!(f, "read-only {}", show(path)),
            Step::RootReadOnly => write!(f, "root read-only"),
            Step::RootPropagation(flags) => write!(f, "root propagation {flags:#x}"),
            Step::Pivot => write!(f, "pivot"),
            Step::MoveRoot => write!(f, "move root"),
            Step::Limit(l) => {
                write!(
                    f,
                    "limit {} {:?}",
                    super::process::limit_name(l.resource),
                    l.values
                )?;
                if l.lenient { write!(f, " lenient") } else { Ok(()) }
            }
            Step::OomScore { value, lenient } => {
                write!(
                    f,
                    "oom score {}{}",
                    show(value),
                    if *lenient { " lenient" } else { "" }
                )
            }
            Step::Personality(domain) => write!(f, "personality {domain}"),
            Step::Scheduler(s) => write!(
                f,
                "scheduler {} nice {} priority {}",
                s.policy, s.nice, s.priority
            ),
            Step::IoPriority(class, level) => write!(f, "io priority {class} {level}"),
            Step::MemoryPolicy(mode, nodes) => write!(f, "memory policy {mode:#x} {nodes:?}"),
            Step::Label(file, value) => write!(f, "label {} {}", show(file), show(value)),
            Step::Identity => write!(f, "read identity"),
            Step::WorkDir(path) => write!(f, "cwd {}", show(path)),
            Step::WorkDirAsUser(path) => write!(f, "cwd {} as user", show(path)),
            Step::Descriptors => write!(f, "arrange descriptors"),
            Step::FindProgram => write!(f, "find program"),
            Step::Filter => write!(f, "load filter"),
            Step::Credentials(None) => write!(f, "credentials"),
            Step::Credentials(Some(s)) => {
                write!(f, "credentials")?;
                let sets = [
                    ("bounding", s.bounding),
                    ("effective", s.effective),
                    ("permitted", s.permitted),
                    ("inheritable", s.inheritable),
                    ("ambient", s.ambient),
                ];
                for (name, mask) in sets {
                    write!(f, " {name} {}", capability::names(mask).count())?;
                    write!(f, "/{mask:#x}")?;
                }
                Ok(())
            }
            Step::NoNewPrivileges => write!(f, "no new privileges"),
            Step::Umask(mask) => write!(f, "umask {mask:03o}"),
            other => unreachable_step(f, other),
        }
    }
}

/// The mounts are told by `Display` itself; this keeps its match exhaustive without a panic.
fn unreachable_step(f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
    write!(f, "{step:?}")
}

fn attributes(f: &mut fmt::Formatter<'_>, prefix: &str, attributes: &MountAttr) -> fmt::Result {
    if attributes.is_empty() {
        return Ok(());
    }
    write!(
        f,
        " {prefix}set {:#x} clear {:#x}",
        attributes.set, attributes.clear
    )
}

fn propagation(f: &mut fmt::Formatter<'_>, flags: u64) -> fmt::Result {
    if flags == 0 {
        Ok(())
    } else {
        write!(f, " propagation {flags:#x}")
    }
}
