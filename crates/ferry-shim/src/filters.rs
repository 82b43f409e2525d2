//! Compiled system call filters, made once by the launcher for the usual containers.

use ferry_oci::runtime::{Seccomp, Syscall};
use ferry_runtime::seccomp::{self, Facts, SeccompError};
use ferry_shim_proto::SeccompChoice;
use ferry_sys::fork;
use ferry_sys::seccomp::Instruction;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

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

/// A compiled filter: its instructions and the flags of seccomp(2).
pub type Compiled = (Vec<Instruction>, u32);

/// The filters that are compiled already.
#[derive(Debug)]
pub struct Filters {
    facts: Option<Facts>,
    usual: Option<Compiled>,
    bare: Option<Compiled>,
    monitors: Option<Compiled>,
}

/// A filter, compiled before or just now.
#[derive(Debug)]
pub enum Program<'a> {
    /// The launcher's.
    Shared(&'a Compiled),
    /// Of this container alone.
    Own(Compiled),
}

impl Program<'_> {
    /// The program and the flags of seccomp(2).
    pub fn parts(&self) -> (&[Instruction], u32) {
        let (program, flags) = match self {
            Program::Shared(compiled) => compiled,
            Program::Own(compiled) => compiled,
        };
        (program, *flags)
    }
}

impl Filters {
    /// Compiles what most containers use. On an architecture whose calls are not known there are none.
    ///
    /// # Errors
    /// When a profile of our own cannot be compiled.
    pub fn compile() -> Result<Filters, SeccompError> {
        let facts = Facts::detect();
        let usual: Vec<String> = USUAL.iter().map(|&name| name.to_owned()).collect();
        let default = |capabilities: &[String]| {
            facts
                .as_ref()
                .map(|facts| compile(&seccomp::default_profile(capabilities, facts)))
                .transpose()
        };
        let (usual, bare) = (default(&usual)?, default(&[])?);
        let monitors = facts.as_ref().map(|_| compile(&monitors())).transpose()?;
        Ok(Filters {
            facts,
            usual,
            bare,
            monitors,
        })
    }

    /// As [`Filters::compile`], in a child that ends afterwards. A compiler leaves its heap in pieces, and every child
    /// of the launcher would get pages of its own by writing into the gaps.
    ///
    /// # Errors
    /// As [`Filters::compile`], and when the process cannot fork.
    pub fn compile_aside() -> io::Result<Filters> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        fork::fork(vec![writer.as_raw_fd()], move || match Filters::compile() {
            Ok(filters) => i32::from(File::from(writer).write_all(&filters.to_bytes()).is_err()),
            Err(_) => 1,
        })?;
        let mut bytes = Vec::with_capacity(16 * 1024);
        File::from(reader).read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut next = || read_compiled(&mut rest);
        let filters = Filters {
            facts: Facts::detect(),
            usual: next()?,
            bare: next()?,
            monitors: next()?,
        };
        Ok(filters)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (program, flags) in
            [&self.usual, &self.bare, &self.monitors].map(|f| f.clone().unwrap_or_default())
        {
            bytes.extend_from_slice(&u32::try_from(program.len()).unwrap_or(0).to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            for instruction in program {
                bytes.extend_from_slice(&instruction.code.to_ne_bytes());
                bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
                bytes.extend_from_slice(&instruction.k.to_ne_bytes());
            }
        }
        bytes
    }

    /// What a monitor loads.
    pub fn monitors(&self) -> Option<&Compiled> {
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
            (SeccompChoice::Spec, Some(profile)) => Ok(Some(Program::Own(compile(profile)?))),
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
                Ok(Some(Program::Own(compile(&profile.unwrap_or_default())?)))
            }
        }
    }
}

fn compile(profile: &Seccomp) -> Result<Compiled, SeccompError> {
    seccomp::compile(profile).map(|filter| (filter.program, filter.flags))
}

/// One filter as [`Filters::to_bytes`] wrote it; none when it is empty.
fn read_compiled(from: &mut &[u8]) -> io::Result<Option<Compiled>> {
    let mut word = [0; 8];
    from.read_exact(&mut word)?;
    let half =
        |word: &[u8; 8], at: usize| u32::from_ne_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]]);
    let (length, flags) = (half(&word, 0), half(&word, 4));
    let mut program = Vec::with_capacity(length as usize);
    for _ in 0..length {
        from.read_exact(&mut word)?;
        let code = u16::from_ne_bytes([word[0], word[1]]);
        program.push(Instruction {
            code,
            jt: word[2],
            jf: word[3],
            k: half(&word, 4),
        });
    }
    Ok((length > 0).then_some((program, flags)))
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
        assert!(filters.monitors().is_some());
        let compiled = ferry_runtime::seccomp::compile(&monitors()).expect("compiles");
        assert!(compiled.unknown.is_empty(), "{:?}", compiled.unknown);
    }

    #[test]
    fn what_a_child_compiles_arrives() {
        let filters = Filters::compile().expect("compiles");
        let bytes = filters.to_bytes();
        let mut rest = bytes.as_slice();
        for expected in [&filters.usual, &filters.bare, &filters.monitors] {
            assert_eq!(&read_compiled(&mut rest).expect("read"), expected);
        }
    }
}
