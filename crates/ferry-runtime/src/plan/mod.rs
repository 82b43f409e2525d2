//! From a specification to a plan: pure, so that what will be done can be compared as text.
//!
//! [`compile`] decides everything that can be decided without touching the kernel; [`crate::launch`] and
//! [`crate::exec`] only carry the plan out. What a plan cannot do is an error here, by the field's name.

mod devices;
mod mounts;
mod namespaces;
mod process;
mod security;
mod step;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use mounts::option_names as mount_option_names;
pub(crate) use namespaces::flag;
pub(crate) use process::{limit_name, program};
pub(crate) use security::MODES as MEMORY_MODES;
pub use step::{Bind, CgroupMount, Device, FileSystem, HookPoint, Limit, Step, Terminal};

use crate::host::HostFacts;
use ferry_oci::runtime::{Hooks, NamespaceKind, Process, Seccomp, Spec};
use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How a plan is to be carried out, beside the specification.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Move and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Where the host lacks a privilege (raising limits, lowering the OOM score), do what is allowed and warn.
    pub lenient: bool,
    /// Process 1 is a reaper that runs the program as its child.
    pub init: bool,
    /// Do not bring the loopback interface of a new network namespace up: the caller does.
    pub keep_loopback_down: bool,
    /// `user[:group]`, looked up in the image's files; overrides the specification's ids.
    pub user: Option<String>,
    /// Further groups, by name or number, looked up in the image's files.
    pub groups: Vec<String>,
}

/// What will be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `CLONE_NEW…` flags of the first clone.
    pub clone: u64,
    /// Namespaces to join, by path.
    pub joined: Vec<(NamespaceKind, PathBuf)>,
    /// The maps of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// What the new process does, in order.
    pub steps: Arc<[Step]>,
    /// What it becomes.
    pub program: Arc<Program>,
    /// The hooks, with their timing by name.
    pub hooks: Hooks,
    /// The filter, not yet compiled.
    pub seccomp: Option<Seccomp>,
    /// The root file system, as the specification says it.
    pub root: PathBuf,
    /// What the caller should be told once.
    pub warnings: Vec<String>,
    /// As in [`Options::init`].
    pub init: bool,
    /// Every namespace kind that the container does not share with the runtime.
    pub namespaces: Vec<NamespaceKind>,
}

/// What is written to `uid_map` and `gid_map` (user_namespaces(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: String,
    /// Groups.
    pub gids: String,
}

/// The program and who runs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The arguments, the first being what is executed.
    pub arguments: Vec<CString>,
    /// `NAME=value`.
    pub environment: Vec<CString>,
    /// Where it may be, in the order of `$PATH`.
    pub candidates: Vec<CString>,
    /// Who runs it.
    pub user: User,
    /// Whether `HOME` is set from the image's passwd file.
    pub find_home: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// Who runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By number.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// By the image's files.
    Lookup {
        /// `user[:group]`.
        user: String,
        /// Further groups.
        groups: Vec<String>,
    },
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The field is known, and this kernel or this version of Ferry cannot do it.
    Unsupported {
        /// By its name in the specification.
        field: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The value cannot be.
    Invalid {
        /// By its name in the specification.
        field: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Unsupported { field, reason } => write!(f, "{field} is not supported: {reason}"),
            PlanError::Invalid { field, reason } => write!(f, "{field} is invalid: {reason}"),
        }
    }
}

impl std::error::Error for PlanError {}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> PlanError {
    PlanError::Invalid {
        field: field.into(),
        reason: reason.into(),
    }
}

fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> PlanError {
    PlanError::Unsupported {
        field: field.into(),
        reason: reason.into(),
    }
}

/// A string for the kernel; `field` is blamed for a NUL byte.
fn cstring(field: &str, text: &str) -> Result<CString, PlanError> {
    CString::new(text).map_err(|_| invalid(field, "contains a NUL byte"))
}

/// A path relative to the root, `.` for the root itself. What `..` does in it, the kernel decides inside the root.
fn beneath(field: &str, path: &str) -> Result<CString, PlanError> {
    if path.is_empty() {
        return Err(invalid(field, "is empty"));
    }
    let relative = path.trim_start_matches('/').trim_end_matches('/');
    cstring(field, if relative.is_empty() { "." } else { relative })
}

/// Whether `path` is `directory` or lies in it, once `.`, `..` and doubled slashes are resolved by text.
fn lies_in(path: &str, directory: &str) -> bool {
    let clean = clean(path);
    clean == directory
        || clean
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Compiles the plan of a new container.
pub fn compile(spec: &Spec, facts: &HostFacts, options: &Options) -> Result<Plan, PlanError> {
    let linux = spec.linux.clone().unwrap_or_default();
    let root = spec.root.as_ref().ok_or_else(|| invalid("root", "is missing"))?;
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| invalid("process", "is missing"))?;
    refuse_unsupported(&linux)?;
    let layout = namespaces::Layout::of(&linux, facts)?;
    let mut warnings = Vec::new();

    let mut steps = layout.first_steps();
    mounts::prepare(spec, &layout, &mut steps)?;
    for (index, mount) in spec.mounts.iter().enumerate() {
        steps.push(mounts::step(index, mount, &linux.mount_label, &layout, facts)?);
    }
    devices::steps(spec, &layout, process, &mut steps)?;
    layout.settings(spec, options, &mut steps)?;
    if has_early_hooks(spec.hooks.as_ref()) {
        steps.push(Step::Hooks(HookPoint::BeforePivot));
    }
    security::paths(spec, &mut steps)?;
    mounts::finish(spec, options, &mut steps)?;
    process::steps(process, (&layout, facts), options, &mut steps, &mut warnings)?;
    if let Some(policy) = &linux.memory_policy {
        security::memory_policy(policy, &mut steps)?;
    }
    if let Some(personality) = &linux.personality {
        security::personality(personality, &mut steps)?;
    }
    process::last_steps(
        process,
        linux.seccomp.is_some(),
        (&layout, facts),
        &mut steps,
        &mut warnings,
    )?;

    Ok(Plan {
        clone: layout.clone_flags(),
        joined: layout.joined.clone(),
        id_maps: layout.id_maps.clone(),
        steps: steps.into(),
        program: Arc::new(process::program(process, options)?),
        hooks: spec.hooks.clone().unwrap_or_default(),
        seccomp: linux.seccomp,
        root: PathBuf::from(&root.path),
        warnings,
        init: options.init,
        namespaces: layout.kinds(),
    })
}

/// Compiles the plan of one more process in a container that `spec` describes.
pub fn compile_exec(
    spec: &Spec,
    process: &Process,
    facts: &HostFacts,
    options: &Options,
) -> Result<Plan, PlanError> {
    let linux = spec.linux.clone().unwrap_or_default();
    let layout = namespaces::Layout::of(&linux, facts)?;
    let mut steps = Vec::new();
    if process.terminal {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        steps.push(Step::Terminal(Terminal { size, console: false }));
    }
    let mut warnings = Vec::new();
    process::steps(process, (&layout, facts), options, &mut steps, &mut warnings)?;
    if let Some(personality) = &linux.personality {
        security::personality(personality, &mut steps)?;
    }
    process::last_steps(
        process,
        linux.seccomp.is_some(),
        (&layout, facts),
        &mut steps,
        &mut warnings,
    )?;
    Ok(Plan {
        clone: 0,
        joined: Vec::new(),
        id_maps: None,
        steps: steps.into(),
        program: Arc::new(process::program(process, options)?),
        hooks: Hooks::default(),
        seccomp: linux.seccomp,
        root: PathBuf::from("/"),
        warnings,
        init: false,
        namespaces: layout.kinds(),
    })
}

fn has_early_hooks(hooks: Option<&Hooks>) -> bool {
    hooks.is_some_and(|h| {
        !h.prestart.is_empty() || !h.create_runtime.is_empty() || !h.create_container.is_empty()
    })
}

fn refuse_unsupported(linux: &ferry_oci::runtime::Linux) -> Result<(), PlanError> {
    if linux.intel_rdt.is_some() {
        return Err(unsupported(
            "linux.intelRdt",
            "cache and bandwidth allocation is not there yet",
        ));
    }
    if !linux.net_devices.is_empty() {
        return Err(unsupported(
            "linux.netDevices",
            "moving interfaces is not there yet",
        ));
    }
    Ok(())
}
