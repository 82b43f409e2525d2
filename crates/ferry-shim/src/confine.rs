//! What a monitor gives up once its container runs: privileges, and most of the kernel's interface.
//!
//! A monitor reads what a container writes, so it is worth an attack. It keeps user 0's files without user 0's powers: no
//! capability, no new privilege, no debugger, and system calls for its own descriptors, its log and its cgroup alone. It can
//! neither execute, fork, connect, mount nor trace.

use crate::host::Host;
use ferry_sys::{process, seccomp};
use rustix::process::DumpableBehavior;
use std::io;

const CAP_KILL: u32 = 5;

/// Gives up what is not needed. `kills`: whether processes that outlive the first one are to be killed, which may be
/// other users'.
///
/// # Errors
/// The first refusal; what came before it is given up.
pub fn confine(host: &Host, kills: bool) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    for capability in 0..=host.facts.last_capability {
        if host.facts.bounding >> capability & 1 == 1 {
            process::drop_bounding(capability)?;
        }
    }
    process::clear_ambient()?;
    let kept = if kills {
        host.facts.effective & 1 << CAP_KILL
    } else {
        0
    };
    process::capset(kept, kept, 0)?;
    process::no_new_privileges()?;
    if let Some((program, flags)) = host.filters.monitors() {
        seccomp::load(program, *flags)?;
    }
    Ok(())
}
