//! The specification's model, checked and turned into decisions per architecture and call number.
//!
//! Semantics, where the specification leaves them open, are those of the runtimes in use: the native architecture is always
//! covered; a rule whose action is the default one adds nothing; a rule without arguments decides its calls whatever the
//! rules with arguments say; comparisons of one rule must all hold, except that several of the same argument are
//! alternatives; and where the default denies, calls newer than every call that the profile names fail with ENOSYS, so that
//! C libraries fall back to older ones.

use super::arch::{Architecture, Named, X32_BIT};
use super::program::{self, Comparison, Decision, Op, Range};
use super::words::{action, architectures, check_argument, comparison_op, flags, listener, ret};
use super::{SeccompError, bad};
use ferry_oci::runtime::{Seccomp, Syscall, SyscallArg};
use ferry_sys::seccomp::Instruction;

/// A filter that is ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For `ferry_sys::seccomp::load`.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_…`; has `NEW_LISTENER` when there is a listener.
    pub flags: u32,
    /// Who gets the listener's fd.
    pub listener: Option<Listener>,
    /// Calls that the profile names and no known kernel has; their rules have no effect.
    pub unknown: Vec<String>,
}

/// Where the fd of a filter that notifies goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The socket's path.
    pub path: String,
    /// Sent along.
    pub metadata: String,
}

const ENOSYS: u32 = 38;
/// asm/unistd.h of arm, `__ARM_NR_BASE`.
const ARM_PRIVATE: u32 = 0x000f_0000;
/// `BPF_MAXINSNS`.
const LONGEST_PROGRAM: usize = 4096;

/// Compiles for the architecture that this program was built for.
///
/// # Errors
/// A word, number or combination that the model does not have, by name; a program too long for the kernel.
pub fn compile(profile: &Seccomp) -> Result<Filter, SeccompError> {
    let native = Architecture::native().ok_or_else(|| {
        bad(
            "architecture",
            std::env::consts::ARCH,
            "its system calls are not known",
        )
    })?;
    compile_for(profile, native)
}

/// Compiles for a kernel of the architecture `native`.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(profile: &Seccomp, native: Architecture) -> Result<Filter, SeccompError> {
    let model = Model::new(profile, native)?;
    let mut programs: Vec<(u32, Vec<Range>)> = Vec::new();
    for arch in &model.architectures {
        if *arch != Architecture::X32 {
            programs.push((arch.audit(), model.ranges(*arch)));
        }
    }
    if let Some((_, ranges)) = programs
        .iter_mut()
        .find(|(audit, _)| *audit == Architecture::X32.audit())
    {
        ranges.retain(|(start, _)| *start < X32_BIT);
        ranges.extend(model.x32_ranges());
    }
    let program = program::assemble(&programs);
    if program.len() > LONGEST_PROGRAM {
        return Err(SeccompError::TooLong {
            length: program.len(),
        });
    }
    Ok(Filter {
        program,
        flags: model.flags,
        listener: model.listener,
        unknown: model.unknown,
    })
}

struct Model<'a> {
    default: u32,
    architectures: Vec<Architecture>,
    rules: Vec<Rule<'a>>,
    flags: u32,
    listener: Option<Listener>,
    unknown: Vec<String>,
    /// Whether calls that the profile cannot know fail with ENOSYS.
    newer_are_absent: bool,
    /// Every call that some rule names, those without effect included.
    named: Vec<Named>,
}

struct Rule<'a> {
    names: Vec<Named>,
    action: u32,
    /// One without comparisons is unconditional.
    alternatives: Vec<&'a [SyscallArg]>,
}

/// One way of making a call, and the rule about it; a call that is named without effect has none.
struct Entry<'a> {
    number: u32,
    /// The first argument's value, where the call is made through `socketcall` or `ipc`.
    multiplexed: Option<u32>,
    rule: Option<&'a Rule<'a>>,
}

impl<'a> Model<'a> {
    fn new(profile: &'a Seccomp, native: Architecture) -> Result<Model<'a>, SeccompError> {
        let default = action(
            "defaultAction",
            &profile.default_action,
            profile.default_errno_ret,
        )?;
        if default == ret::USER_NOTIF {
            return Err(bad(
                "defaultAction",
                &profile.default_action,
                "notifying needs rules for single calls",
            ));
        }
        let (mut rules, mut named, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for syscall in &profile.syscalls {
            let rule = rule(syscall, &mut unknown)?;
            named.extend_from_slice(&rule.names);
            if rule.action != default {
                rules.push(rule);
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        let notifies = rules.iter().any(|rule| rule.action == ret::USER_NOTIF);
        let denies = !matches!(default, ret::ALLOW | ret::LOG);
        Ok(Model {
            default,
            architectures: architectures(profile, native)?,
            listener: listener(profile, notifies)?,
            flags: flags(profile, notifies)?,
            rules,
            unknown,
            newer_are_absent: denies && default != ret::ERRNO | ENOSYS,
            named,
        })
    }

    /// Decisions over all numbers of one architecture.
    fn ranges(&self, arch: Architecture) -> Vec<Range> {
        let last = self.newest(arch);
        let otherwise = |number| match last {
            Some(last) if number > last => Decision::Always(ret::ERRNO | ENOSYS),
            _ => Decision::Always(self.default),
        };
        let entries = self.entries(arch, last.is_some());
        let mut ranges: Vec<Range> = vec![(0, Decision::Always(self.default))];
        for same in entries.chunk_by(|a, b| a.number == b.number) {
            let number = same[0].number;
            push(&mut ranges, number, self.decision(same, arch));
            push(&mut ranges, number + 1, otherwise(number + 1));
        }
        ranges
    }

    /// What is said of each number, by number and then in the profile's order.
    fn entries(&self, arch: Architecture, all_named: bool) -> Vec<Entry<'_>> {
        let mut entries = Vec::with_capacity(2 * self.named.len());
        for rule in &self.rules {
            for name in &rule.names {
                let direct = arch.number_of(*name).map(|number| (number, None));
                for (number, multiplexed) in direct.into_iter().chain(multiplexed(arch, *name)) {
                    entries.push(Entry {
                        number,
                        multiplexed,
                        rule: Some(rule),
                    });
                }
            }
        }
        if all_named {
            // What is named is known, whatever its number.
            let numbers = self.named.iter().filter_map(|name| arch.number_of(*name));
            entries.extend(numbers.map(|number| Entry {
                number,
                multiplexed: None,
                rule: None,
            }));
        }
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// The newest call that the profile names, if later ones fail with ENOSYS. ARM's private calls are no measure.
    fn newest(&self, arch: Architecture) -> Option<u32> {
        let regular = |number: &u32| arch != Architecture::Arm || *number < ARM_PRIVATE;
        let numbers = self
            .named
            .iter()
            .filter_map(|name| arch.number_of(*name))
            .filter(regular);
        numbers.max().filter(|_| self.newer_are_absent)
    }

    /// What all entries of one number come to.
    fn decision(&self, entries: &[Entry<'_>], arch: Architecture) -> Decision {
        let mut alternatives = Vec::new();
        for Entry {
            multiplexed, rule, ..
        } in entries
        {
            let Some(rule) = rule else { continue };
            for all in &rule.alternatives {
                if all.is_empty() && multiplexed.is_none() {
                    return Decision::Always(rule.action);
                }
                let all = comparisons(all, *multiplexed, arch.has_words_of_32_bits());
                alternatives.push((all, rule.action));
            }
        }
        if alternatives.is_empty() {
            return Decision::Always(self.default);
        }
        alternatives.dedup();
        Decision::Arguments(alternatives, self.default)
    }

    /// Numbers with x32's bit: its calls, or what befalls an architecture that the profile does not name. The very last
    /// number is what a tracer sets to skip a call, on both.
    fn x32_ranges(&self) -> Vec<Range> {
        let mut ranges = match self.architectures.contains(&Architecture::X32) {
            true => {
                let mut ranges = self.ranges(Architecture::X32);
                ranges.retain(|(start, _)| *start >= X32_BIT);
                if ranges.first().is_none_or(|(start, _)| *start != X32_BIT) {
                    ranges.insert(0, (X32_BIT, Decision::Always(self.default)));
                }
                ranges
            }
            false => vec![(X32_BIT, Decision::Always(ret::KILL_THREAD))],
        };
        push(&mut ranges, u32::MAX, Decision::Always(self.default));
        ranges
    }
}

/// Appends a range, merging it with one before that decides alike or starts at the same number.
fn push(ranges: &mut Vec<Range>, start: u32, decision: Decision) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != decision) {
        ranges.push((start, decision));
    }
}

/// How 32-bit x86 also makes socket and System V IPC calls (linux/net.h, `SYS_…`; linux/ipc.h): the multiplexer's number
/// and its first argument.
fn multiplexed(arch: Architecture, name: Named) -> Option<(u32, Option<u32>)> {
    if arch != Architecture::X86 {
        return None;
    }
    let (multiplexer, call) = match name.text() {
        "socket" => ("socketcall", 1),
        "bind" => ("socketcall", 2),
        "connect" => ("socketcall", 3),
        "listen" => ("socketcall", 4),
        "accept" => ("socketcall", 5),
        "getsockname" => ("socketcall", 6),
        "getpeername" => ("socketcall", 7),
        "socketpair" => ("socketcall", 8),
        "send" => ("socketcall", 9),
        "recv" => ("socketcall", 10),
        "sendto" => ("socketcall", 11),
        "recvfrom" => ("socketcall", 12),
        "shutdown" => ("socketcall", 13),
        "setsockopt" => ("socketcall", 14),
        "getsockopt" => ("socketcall", 15),
        "sendmsg" => ("socketcall", 16),
        "recvmsg" => ("socketcall", 17),
        "accept4" => ("socketcall", 18),
        "recvmmsg" => ("socketcall", 19),
        "sendmmsg" => ("socketcall", 20),
        "semop" => ("ipc", 1),
        "semget" => ("ipc", 2),
        "semctl" => ("ipc", 3),
        "semtimedop" => ("ipc", 4),
        "msgsnd" => ("ipc", 11),
        "msgrcv" => ("ipc", 12),
        "msgget" => ("ipc", 13),
        "msgctl" => ("ipc", 14),
        "shmat" => ("ipc", 21),
        "shmdt" => ("ipc", 22),
        "shmget" => ("ipc", 23),
        "shmctl" => ("ipc", 24),
        _ => return None,
    };
    Some((arch.number(multiplexer)?, Some(call)))
}

/// A rule, its names looked up; those that no architecture has go to `unknown`.
fn rule<'a>(syscall: &'a Syscall, unknown: &mut Vec<String>) -> Result<Rule<'a>, SeccompError> {
    if syscall.names.is_empty() {
        return Err(bad("syscalls.names", "[]", "a rule names at least one call"));
    }
    let action = action("syscalls.action", &syscall.action, syscall.errno_ret)?;
    if action == ret::USER_NOTIF && syscall.names.iter().any(|name| name == "write") {
        return Err(bad(
            "syscalls.action",
            &syscall.action,
            "write cannot notify: the runtime needs it itself",
        ));
    }
    syscall.args.iter().try_for_each(check_argument)?;
    let mut indexes: Vec<u32> = syscall.args.iter().map(|arg| arg.index).collect();
    indexes.sort_unstable();
    let repeated = indexes.windows(2).any(|pair| pair[0] == pair[1]);
    let alternatives = match repeated {
        true => syscall.args.chunks(1).collect(),
        false => vec![&syscall.args[..]],
    };
    let mut names = Vec::with_capacity(syscall.names.len());
    for name in &syscall.names {
        match Named::parse(name) {
            Some(name) => names.push(name),
            None => unknown.push(name.clone()),
        }
    }
    Ok(Rule {
        names,
        action,
        alternatives,
    })
}

/// A multiplexer's first argument tells which call it is, so that it stands for the rule's own first comparison; the
/// others' arguments lie in memory, where no filter sees them.
fn comparisons(all: &[SyscallArg], multiplexed: Option<u32>, narrow: bool) -> Vec<Comparison> {
    let mut list = Vec::with_capacity(all.len() + 1);
    if let Some(call) = multiplexed {
        let value = u64::from(call);
        list.push(Comparison {
            index: 0,
            op: Op::Equal,
            value,
            mask: u64::MAX,
            narrow,
        });
    }
    let own = all.iter().filter(|arg| multiplexed.is_none() || arg.index != 0);
    list.extend(own.map(|arg| {
        let index = arg.index as u8;
        match comparison_op(&arg.op).flatten() {
            Some(op) => Comparison {
                index,
                op,
                value: arg.value,
                mask: u64::MAX,
                narrow,
            },
            None => Comparison {
                index,
                op: Op::Equal,
                value: arg.value_two,
                mask: arg.value,
                narrow,
            },
        }
    }));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(default: &str, rules: &[(&str, &str)]) -> Seccomp {
        let rule = |(name, action): &(&str, &str)| Syscall {
            names: vec![(*name).to_owned()],
            action: (*action).to_owned(),
            ..Syscall::default()
        };
        Seccomp {
            default_action: default.to_owned(),
            syscalls: rules.iter().map(rule).collect(),
            ..Seccomp::default()
        }
    }

    fn refused(profile: &Seccomp) -> String {
        compile_for(profile, Architecture::X86_64)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn words_are_checked() {
        let mut strange = profile("SCMP_ACT_ERRNO", &[]);
        strange.architectures = vec!["SCMP_ARCH_PDP11".into()];
        assert_eq!(
            refused(&strange),
            "seccomp architectures \"SCMP_ARCH_PDP11\": no such architecture"
        );
        let allow = profile("SCMP_ACT_ALLOW", &[("read", "SCMP_ACT_NO")]);
        assert_eq!(
            refused(&allow),
            "seccomp syscalls.action \"SCMP_ACT_NO\": no such action"
        );
        let mut errno = profile("SCMP_ACT_ALLOW", &[]);
        errno.default_errno_ret = Some(1);
        assert!(refused(&errno).contains("this action returns no errno"));
        let mut flags = profile("SCMP_ACT_ALLOW", &[]);
        flags.flags = vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()];
        assert!(refused(&flags).contains("needs a rule with SCMP_ACT_NOTIFY"));
        let notify = profile("SCMP_ACT_ALLOW", &[("mkdir", "SCMP_ACT_NOTIFY")]);
        assert!(refused(&notify).contains("needs the path of a socket"));
        assert!(refused(&profile("SCMP_ACT_NOTIFY", &[])).contains("single calls"));
        let mut argument = profile("SCMP_ACT_ALLOW", &[("mkdir", "SCMP_ACT_ERRNO")]);
        argument.syscalls[0].args = vec![SyscallArg {
            index: 6,
            op: "SCMP_CMP_EQ".into(),
            ..Default::default()
        }];
        assert!(refused(&argument).contains("0 to 5"));
    }

    #[test]
    fn a_listener_and_flags() {
        let mut notify = profile(
            "SCMP_ACT_ALLOW",
            &[("mkdir", "SCMP_ACT_NOTIFY"), ("nonesuch", "SCMP_ACT_ERRNO")],
        );
        notify.listener_path = "/run/x.sock".into();
        notify.flags = vec![
            "SECCOMP_FILTER_FLAG_LOG".into(),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into(),
        ];
        let filter = compile_for(&notify, Architecture::X86_64).unwrap();
        assert_eq!(filter.flags, 2 | 8 | 32);
        assert_eq!(filter.listener.unwrap().path, "/run/x.sock");
        assert_eq!(filter.unknown, ["nonesuch"]);
    }

    #[test]
    fn a_program_too_long_is_refused() {
        let mut long = profile("SCMP_ACT_ALLOW", &[]);
        for value in 0..2000 {
            let arg = SyscallArg {
                index: 0,
                value,
                op: "SCMP_CMP_EQ".into(),
                ..SyscallArg::default()
            };
            long.syscalls.push(Syscall {
                names: vec!["mkdir".into()],
                action: "SCMP_ACT_ERRNO".into(),
                args: vec![arg],
                ..Syscall::default()
            });
        }
        assert!(refused(&long).contains("the kernel takes 4096"));
    }
}
