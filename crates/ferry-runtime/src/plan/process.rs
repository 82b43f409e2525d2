//! The process: who it is, what it may, how it is limited, what it runs.

use super::namespaces::Layout;
use super::{Limit, Options, PlanError, Program, Step, User, cstring, invalid, unsupported};
use crate::capability::{self, Sets};
use crate::host::HostFacts;
use ferry_oci::runtime::{Capabilities, IoPriority, Process, Scheduler};
use ferry_sys::process::SchedAttr;
use std::ffi::CString;

/// Where programs are looked for when `$PATH` is not set; execvp(3)'s own default.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// `RLIMIT_…` by number (asm-generic/resource.h).
const LIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

pub(super) fn steps(
    process: &Process,
    host: (&Layout, &HostFacts),
    options: &Options,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(), PlanError> {
    let (layout, facts) = host;
    for limit in &process.rlimits {
        steps.push(Step::Limit(rlimit(limit, options)?));
    }
    if !process.rlimits.is_empty() && options.lenient && !facts.can_raise_limits() {
        warnings.push(
            "this host has no CAP_SYS_RESOURCE: resource limits above the engine's own are lowered to them"
                .into(),
        );
    }
    if let Some(score) = process.oom_score_adj {
        if !(-1000..=1000).contains(&score) {
            return Err(invalid(
                "process.oomScoreAdj",
                format!("{score} is not between -1000 and 1000"),
            ));
        }
        steps.push(Step::OomScore {
            value: cstring("process.oomScoreAdj", &score.to_string())?,
            // A user namespace cannot lower it either, whoever asks.
            lenient: options.lenient || layout.in_user_namespace(),
        });
    }
    if let Some(wanted) = &process.scheduler {
        steps.push(Step::Scheduler(scheduler(wanted)?));
    }
    if let Some(wanted) = &process.io_priority {
        let (class, level) = io_priority(wanted)?;
        steps.push(Step::IoPriority(class, level));
    }
    let find_home = !process.env.iter().any(|e| e.starts_with("HOME="));
    if find_home || options.user.is_some() || !options.groups.is_empty() {
        steps.push(Step::Identity);
    }
    if !process.cwd.starts_with('/') {
        return Err(invalid(
            "process.cwd",
            format!("{:?} is not an absolute path", process.cwd),
        ));
    }
    steps.push(Step::Umask(process.user.umask.unwrap_or(0o022) & 0o777));
    steps.push(Step::WorkDir(cstring("process.cwd", &process.cwd)?));
    labels(process, facts, steps)
}

/// Credentials last, and the filter around them: before, while loading it needs a capability; after, where it does not.
pub(super) fn last_steps(
    process: &Process,
    filtered: bool,
    host: (&Layout, &HostFacts),
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<(), PlanError> {
    let (layout, facts) = host;
    let sets = match &process.capabilities {
        Some(wanted) => Some(sets(wanted, layout, facts, warnings)?),
        None => None,
    };
    steps.push(Step::Descriptors);
    if filtered && !process.no_new_privileges {
        steps.push(Step::Filter);
    }
    steps.push(Step::Credentials(sets));
    steps.push(Step::WorkDirAsUser(cstring("process.cwd", &process.cwd)?));
    steps.push(Step::FindProgram);
    if process.no_new_privileges {
        steps.push(Step::NoNewPrivileges);
        if filtered {
            steps.push(Step::Filter);
        }
    }
    Ok(())
}

fn rlimit(limit: &ferry_oci::runtime::Rlimit, options: &Options) -> Result<Limit, PlanError> {
    let resource = LIMITS
        .iter()
        .position(|name| *name == limit.kind)
        .ok_or_else(|| invalid("process.rlimits", format!("type {:?} is unknown", limit.kind)))?;
    if limit.soft > limit.hard {
        return Err(invalid(
            "process.rlimits",
            format!(
                "{}: the soft limit {} is above the hard limit {}",
                limit.kind, limit.soft, limit.hard
            ),
        ));
    }
    Ok(Limit {
        resource: u32::try_from(resource).unwrap_or(u32::MAX),
        values: [limit.soft, limit.hard],
        lenient: options.lenient,
    })
}

/// The name of a resource limit, for messages.
pub(crate) fn limit_name(resource: u32) -> &'static str {
    LIMITS.get(resource as usize).copied().unwrap_or("RLIMIT_?")
}

/// R12: what is asked for and can be had; what the host lacks is left out with a warning, as everyone else does.
fn sets(
    wanted: &Capabilities,
    layout: &Layout,
    facts: &HostFacts,
    warnings: &mut Vec<String>,
) -> Result<Sets, PlanError> {
    let known = (1u64 << (facts.last_capability + 1).min(63)) - 1;
    // In a new user namespace all capabilities are had, over that namespace.
    let available = if layout.in_user_namespace() {
        known
    } else {
        facts.bounding & known
    };
    let mut missing = 0u64;
    let mut mask = |names: &[String]| {
        let mut mask = 0u64;
        for name in names {
            match capability::number(name) {
                Some(number) => mask |= 1 << number,
                None => warnings.push(format!("capability {name} is unknown and left out")),
            }
        }
        missing |= mask & !available;
        mask & available
    };
    let sets = Sets {
        bounding: mask(&wanted.bounding),
        effective: mask(&wanted.effective),
        permitted: mask(&wanted.permitted),
        inheritable: mask(&wanted.inheritable),
        ambient: mask(&wanted.ambient),
    };
    if sets.effective & !sets.permitted != 0 {
        return Err(invalid(
            "process.capabilities.effective",
            "has what permitted lacks",
        ));
    }
    if sets.ambient & !(sets.permitted & sets.inheritable) != 0 {
        return Err(invalid(
            "process.capabilities.ambient",
            "has what permitted or inheritable lacks",
        ));
    }
    if missing != 0 {
        let names: Vec<_> = capability::names(missing).collect();
        warnings.push(format!("this host cannot give {}: left out", names.join(", ")));
    }
    Ok(sets)
}

fn scheduler(wanted: &Scheduler) -> Result<SchedAttr, PlanError> {
    let field = "process.scheduler";
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" | "" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(invalid(field, format!("policy {other:?} is unknown"))),
    };
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(invalid(field, format!("flag {other:?} is unknown"))),
        };
    }
    let priority = u32::try_from(wanted.priority).map_err(|_| invalid(field, "priority is negative"))?;
    Ok(SchedAttr {
        policy,
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..SchedAttr::default()
    })
}

fn io_priority(wanted: &IoPriority) -> Result<(u32, u32), PlanError> {
    let field = "process.ioPriority";
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(invalid(field, format!("class {other:?} is unknown"))),
    };
    match u32::try_from(wanted.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(invalid(
            field,
            format!("priority {} is not between 0 and 7", wanted.priority),
        )),
    }
}

fn labels(process: &Process, facts: &HostFacts, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let profile = process.apparmor_profile.as_str();
    if !profile.is_empty() && profile != "unconfined" {
        if !facts.has_lsm("apparmor") {
            return Err(unsupported(
                "process.apparmorProfile",
                format!("profile {profile:?} was asked for and this kernel has no active AppArmor"),
            ));
        }
        let value = cstring("process.apparmorProfile", &format!("exec {profile}"))?;
        steps.push(Step::Label(c"apparmor/exec".into(), value));
    }
    if !process.selinux_label.is_empty() {
        if !facts.has_lsm("selinux") {
            return Err(unsupported(
                "process.selinuxLabel",
                format!(
                    "label {:?} was asked for and this kernel has no active SELinux",
                    process.selinux_label
                ),
            ));
        }
        let value = cstring("process.selinuxLabel", &process.selinux_label)?;
        steps.push(Step::Label(c"exec".into(), value));
    }
    Ok(())
}

/// What is executed, by whom.
pub(crate) fn program(process: &Process, options: &Options) -> Result<Program, PlanError> {
    let first = process
        .args
        .first()
        .ok_or_else(|| invalid("process.args", "is empty"))?;
    let texts = |field: &str, texts: &[String]| -> Result<Vec<CString>, PlanError> {
        texts.iter().map(|t| cstring(field, t)).collect()
    };
    for entry in &process.env {
        if !entry.contains('=') || entry.starts_with('=') {
            return Err(invalid("process.env", format!("{entry:?} is not NAME=value")));
        }
    }
    let user = match &options.user {
        Some(user) => User::Lookup {
            user: user.clone(),
            groups: options.groups.clone(),
        },
        None if !options.groups.is_empty() => User::Lookup {
            user: format!("{}:{}", process.user.uid, process.user.gid),
            groups: options.groups.clone(),
        },
        None => User::Ids {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
        },
    };
    Ok(Program {
        candidates: candidates(first, &process.env)?,
        arguments: texts("process.args", &process.args)?,
        environment: texts("process.env", &process.env)?,
        user,
        find_home: !process.env.iter().any(|e| e.starts_with("HOME=")),
        terminal: process.terminal,
    })
}

/// A name with a slash is a path; any other is looked for along the container's own `$PATH`.
fn candidates(name: &str, environment: &[String]) -> Result<Vec<CString>, PlanError> {
    if name.contains('/') {
        return Ok(vec![cstring("process.args", name)?]);
    }
    let path = environment
        .iter()
        .rev()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|directory| {
            let directory = if directory.is_empty() {
                "."
            } else {
                directory.trim_end_matches('/')
            };
            cstring("process.args", &format!("{directory}/{name}"))
        })
        .collect()
}
