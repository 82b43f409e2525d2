//! The words of the specification's seccomp model, checked: actions, operations, architectures, flags, the listener.

use super::arch::Architecture;
use super::compile::Listener;
use super::program::Op;
use super::{SeccompError, bad};
use ferry_oci::runtime::{Seccomp, SyscallArg};
use ferry_sys::seccomp::NEW_LISTENER;

/// linux/seccomp.h, `SECCOMP_RET_…`.
pub(super) mod ret {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
}

const EPERM: u32 = 1;
pub(super) fn check_argument(argument: &SyscallArg) -> Result<(), SeccompError> {
    if argument.index > 5 {
        return Err(bad(
            "syscalls.args.index",
            argument.index,
            "a call has six arguments, 0 to 5",
        ));
    }
    comparison_op(&argument.op).map(|_| ()).ok_or_else(|| {
        bad(
            "syscalls.args.op",
            &argument.op,
            "SCMP_CMP_NE, LT, LE, EQ, GE, GT or MASKED_EQ is needed",
        )
    })
}

/// `None` for no operation; `Some(None)` for the masked comparison.
pub(super) fn comparison_op(name: &str) -> Option<Option<Op>> {
    Some(Some(match name {
        "SCMP_CMP_NE" => Op::NotEqual,
        "SCMP_CMP_LT" => Op::Less,
        "SCMP_CMP_LE" => Op::LessOrEqual,
        "SCMP_CMP_EQ" => Op::Equal,
        "SCMP_CMP_GE" => Op::GreaterOrEqual,
        "SCMP_CMP_GT" => Op::Greater,
        "SCMP_CMP_MASKED_EQ" => return Some(None),
        _ => return None,
    }))
}

pub(super) fn action(field: &'static str, name: &str, errno: Option<u32>) -> Result<u32, SeccompError> {
    let data = || match errno {
        Some(errno) if errno > 0xffff => Err(bad(field, errno, "the returned errno has 16 bits")),
        Some(errno) => Ok(errno),
        None => Ok(EPERM),
    };
    let plain = match name {
        "SCMP_ACT_ERRNO" => return Ok(ret::ERRNO | data()?),
        "SCMP_ACT_TRACE" => return Ok(ret::TRACE | data()?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ret::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => ret::KILL_PROCESS,
        "SCMP_ACT_TRAP" => ret::TRAP,
        "SCMP_ACT_NOTIFY" => ret::USER_NOTIF,
        "SCMP_ACT_LOG" => ret::LOG,
        "SCMP_ACT_ALLOW" => ret::ALLOW,
        _ => return Err(bad(field, name, "no such action")),
    };
    match errno {
        None => Ok(plain),
        Some(_) => Err(bad(field, name, "this action returns no errno")),
    }
}

pub(super) fn architectures(
    profile: &Seccomp,
    native: Architecture,
) -> Result<Vec<Architecture>, SeccompError> {
    let mut list = vec![native];
    for name in &profile.architectures {
        match Architecture::parse(name) {
            Some(Some(arch)) if native.family().contains(&arch) && !list.contains(&arch) => list.push(arch),
            // Known already, or one that this machine's kernel never reports.
            Some(_) => {}
            None => return Err(bad("architectures", name, "no such architecture")),
        }
    }
    Ok(list)
}

pub(super) fn flags(profile: &Seccomp, notifies: bool) -> Result<u32, SeccompError> {
    let mut flags = if notifies { NEW_LISTENER } else { 0 };
    for name in &profile.flags {
        flags |= match name.as_str() {
            // The process that loads the filter has one thread, and those that it starts inherit it.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if notifies => 32,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                return Err(bad("flags", name, "it needs a rule with SCMP_ACT_NOTIFY"));
            }
            _ => return Err(bad("flags", name, "no such flag")),
        };
    }
    Ok(flags)
}

pub(super) fn listener(profile: &Seccomp, notifies: bool) -> Result<Option<Listener>, SeccompError> {
    let (path, metadata) = (profile.listener_path.clone(), profile.listener_metadata.clone());
    match (notifies, path.is_empty()) {
        (true, true) => Err(bad(
            "listenerPath",
            "",
            "SCMP_ACT_NOTIFY needs the path of a socket",
        )),
        (true, false) => Ok(Some(Listener { path, metadata })),
        (false, _) if !metadata.is_empty() && path.is_empty() => {
            Err(bad("listenerMetadata", metadata, "it needs listenerPath"))
        }
        (false, _) => Ok(None),
    }
}
