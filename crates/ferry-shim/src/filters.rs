//! Compiled system call filters, made once by the launcher for the usual containers.

use ferry_oci::runtime::{Seccomp, Syscall};
use ferry_runtime::seccomp::{self, Facts, Filter, SeccompError};
use ferry_shim_proto::SeccompChoice;
use ferry_sys::seccomp::Instruction;

/// What Docker gives a container of capabilities that does not ask for others.
const USUAL: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a monitor calls once its container runs: its own descriptors, its log and records, its cgroup, its memory.
const MONITORS: &str = "accept4 brk clock_gettime clock_nanosleep close dup exit exit_group fcntl fstat fstatfs ftruncate \
    futex getdents64 getpid getrandom gettid inotify_rm_watch ioctl kill lseek madvise mmap mprotect mremap munmap \
    newfstatat openat openat2 pidfd_open pidfd_send_signal poll ppoll prctl pread64 pwrite64 read readv recvfrom recvmsg \
    rename renameat renameat2 restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn rmdir sched_yield sendmsg sendto \
    shutdown sigaltstack statx tgkill unlink unlinkat wait4 waitid write writev";

/// The filters that are compiled already.
#[derive(Debug)]
pub struct Filters {
    facts: Option<Facts>,
    usual: Option<Filter>,
    bare: Option<Filter>,
    monitors: Option<Filter>,
}

/// A filter, compiled before or just now.
#[derive(Debug)]
pub enum Program<'a> {
    /// The launcher's.
    Shared(&'a Filter),
    /// Of this container alone.
    Own(Filter),
}

impl Program<'_> {
    /// The program and the flags of seccomp(2).
    pub fn parts(&self) -> (&[Instruction], u32) {
        let filter = match self {
            Program::Shared(filter) => filter,
            Program::Own(filter) => filter,
        };
        (&filter.program, filter.flags)
    }
}

impl Filters {
    /// Compiles what most containers use. On an architecture whose calls are not known there are none.
    ///
    /// # Errors
    /// When the default profile cannot be compiled.
    pub fn compile() -> Result<Filters, SeccompError> {
        let facts = Facts::detect();
        let usual: Vec<String> = USUAL.iter().map(|&name| name.to_owned()).collect();
        let compiled = |capabilities: &[String]| {
            facts
                .as_ref()
                .map(|facts| seccomp::compile(&seccomp::default_profile(capabilities, facts)))
                .transpose()
        };
        let (usual, bare) = (compiled(&usual)?, compiled(&[])?);
        let monitors = facts
            .as_ref()
            .map(|_| seccomp::compile(&monitors()))
            .transpose()?;
        Ok(Filters {
            facts,
            usual,
            bare,
            monitors,
        })
    }

    /// What a monitor loads.
    pub fn monitors(&self) -> Option<&Filter> {
        self.monitors.as_ref()
    }

    /// The filter of a container with this bounding set; `profile` is the specification's.
    ///
    /// # Errors
    /// A profile that cannot be compiled, by the value that is wrong; the default on an unknown architecture.
    pub fn choose(
        &self,
        choice: &SeccompChoice,
        bounding: &[String],
        profile: Option<&Seccomp>,
    ) -> Result<Option<Program<'_>>, SeccompError> {
        match (choice, profile) {
            (SeccompChoice::Unconfined, _) | (SeccompChoice::Spec, None) => Ok(None),
            (SeccompChoice::Spec, Some(profile)) => Ok(Some(Program::Own(seccomp::compile(profile)?))),
            (SeccompChoice::Default, _) => {
                let prepared = match bounding {
                    [] => &self.bare,
                    _ if is_usual(bounding) => &self.usual,
                    _ => &None,
                };
                if let Some(filter) = prepared {
                    return Ok(Some(Program::Shared(filter)));
                }
                let profile = self
                    .facts
                    .as_ref()
                    .map(|facts| seccomp::default_profile(bounding, facts));
                // Without facts `compile` says which architecture it does not know.
                Ok(Some(Program::Own(seccomp::compile(
                    &profile.unwrap_or_default(),
                )?)))
            }
        }
    }
}

fn is_usual(bounding: &[String]) -> bool {
    bounding.len() == USUAL.len() && bounding.iter().all(|name| USUAL.contains(&name.as_str()))
}

/// Refuses with EPERM rather than killing: a container's exit must be told even by a monitor that wants something odd.
fn monitors() -> Seccomp {
    let names = MONITORS.split_whitespace().map(str::to_owned).collect();
    let allowed = Syscall {
        names,
        action: "SCMP_ACT_ALLOW".into(),
        ..Syscall::default()
    };
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(1),
        syscalls: vec![allowed],
        ..Seccomp::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_is_shared_and_the_rest_compiled() {
        let filters = Filters::compile().expect("compiles");
        let mut bounding: Vec<String> = USUAL.iter().rev().map(|&name| name.to_owned()).collect();
        let chosen = filters
            .choose(&SeccompChoice::Default, &bounding, None)
            .expect("choice");
        assert!(matches!(chosen, Some(Program::Shared(_))));
        bounding.push("CAP_SYS_ADMIN".into());
        let chosen = filters
            .choose(&SeccompChoice::Default, &bounding, None)
            .expect("choice");
        assert!(matches!(chosen, Some(Program::Own(_))));
        assert!(
            filters
                .choose(&SeccompChoice::Unconfined, &bounding, None)
                .expect("choice")
                .is_none()
        );
        assert!(
            filters
                .choose(&SeccompChoice::Spec, &bounding, None)
                .expect("choice")
                .is_none()
        );
        let monitors = filters.monitors().expect("known architecture");
        assert!(monitors.unknown.is_empty(), "{:?}", monitors.unknown);
    }
}
