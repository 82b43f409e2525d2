//! What compiled filters decide: against the specification read naively, against libseccomp, and in the kernel.

mod interpreter;
mod libseccomp;

use ferry_oci::runtime::{Seccomp, Syscall, SyscallArg};
use ferry_runtime::seccomp::{
    Architecture, Facts, compile, compile_for, default_profile, parse_docker_profile,
};
use ferry_sys::seccomp::Instruction;
use interpreter::{Call, check, run};
use libseccomp::Libseccomp;
use proptest::prelude::*;
use std::collections::BTreeSet;

const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: u32 = 0x0005_0000 | 38;

fn family(native: Architecture) -> &'static [Architecture] {
    match native {
        Architecture::Aarch64 | Architecture::Arm => &[Architecture::Aarch64, Architecture::Arm],
        _ => &[Architecture::X86_64, Architecture::X86, Architecture::X32],
    }
}

/// Numbers worth asking about, x32's bit included.
fn numbers(arch: Architecture) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..620).collect();
    match arch {
        Architecture::Arm => numbers.extend(0xf_0000..0xf_0010),
        Architecture::X32 => numbers.iter_mut().for_each(|number| *number |= X32_BIT),
        _ => {}
    }
    numbers
}

/// Arguments at and around every value that the profile compares with.
fn boundaries(profile: &Seccomp) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, u64::MAX, 1 << 32, 1 << 63, u64::from(u32::MAX)]);
    for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        for value in [arg.value, arg.value_two] {
            values.extend([
                value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                value | 1 << 32,
                !value,
            ]);
            values.extend([value & 0xffff_ffff, value.rotate_left(32)]);
        }
    }
    values.into_iter().collect()
}

fn call(arch: Architecture, number: u32, arguments: [u64; 6]) -> Call {
    Call {
        number,
        arch: arch.audit(),
        arguments,
    }
}

/// The kernel shows 32-bit calls' arguments without an upper half, except x32's.
fn as_shown(arch: Architecture, value: u64) -> u64 {
    match arch {
        Architecture::X86 | Architecture::Arm => value & 0xffff_ffff,
        _ => value,
    }
}

fn default_for(native: Architecture, caps: &[&str]) -> Seccomp {
    let caps: Vec<String> = caps.iter().map(|cap| format!("CAP_{cap}")).collect();
    default_profile(
        &caps,
        &Facts {
            arch: native,
            kernel: (6, 18),
        },
    )
}

/// Both programs on every number and boundary; `known` says which numbers the other compiler can know.
fn decide_alike(
    profile: &Seccomp,
    native: Architecture,
    ours: &[Instruction],
    theirs: &[Instruction],
    unknown: &BTreeSet<String>,
) {
    let values = boundaries(profile);
    let named: BTreeSet<&String> = profile.syscalls.iter().flat_map(|rule| &rule.names).collect();
    for arch in family(native).iter().copied() {
        let skipped: BTreeSet<u32> = unknown.iter().filter_map(|name| arch.number(name)).collect();
        let regular = |number: &u32| *number & !X32_BIT < 0xf_0000;
        let newest = named
            .iter()
            .filter_map(|name| arch.number(name))
            .filter(regular)
            .max();
        for number in numbers(arch)
            .into_iter()
            .filter(|number| !skipped.contains(number))
        {
            for (index, value) in (0..2).flat_map(|index| values.iter().map(move |value| (index, *value))) {
                let mut arguments = [0; 6];
                arguments[index] = as_shown(arch, value);
                let asked = call(arch, number, arguments);
                let (mine, other) = (run(ours, &asked), run(theirs, &asked));
                if mine == ENOSYS && newest.is_some_and(|newest| number > newest) {
                    continue;
                }
                assert_eq!(mine, other, "{mine:#x} and {other:#x} for {asked:x?} of {arch:?}");
            }
        }
    }
}

#[test]
fn dockers_default_profile_is_decided_as_libseccomp_does() {
    let Some(library) = Libseccomp::build() else {
        return;
    };
    let sets: [&[&str]; 4] = [
        &[],
        &["SYS_ADMIN"],
        &["CHOWN", "SYS_CHROOT", "MKNOD", "SETPCAP"],
        &[
            "SYS_PTRACE",
            "SYS_TIME",
            "BPF",
            "SYS_NICE",
            "SYSLOG",
            "DAC_READ_SEARCH",
            "PERFMON",
            "SYS_RAWIO",
        ],
    ];
    for native in [Architecture::X86_64, Architecture::Aarch64] {
        for caps in sets {
            let profile = default_for(native, caps);
            let ours = compile_for(&profile, native).unwrap();
            check(&ours.program);
            assert_eq!(
                ours.unknown
                    .iter()
                    .filter(|name| *name != "riscv_hwprobe")
                    .count(),
                0,
                "{:?}",
                ours.unknown
            );
            let theirs = library.compile(&profile, native);
            decide_alike(&profile, native, &ours.program, &theirs.program, &theirs.unknown);
        }
    }
}

#[test]
fn profiles_of_every_feature_are_decided_as_libseccomp_does() {
    let Some(library) = Libseccomp::build() else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(cases(60));
    let strategy = (some_profile(true), native());
    let outcome = runner.run(&strategy, |(mut profile, native)| {
        without_alternatives(&mut profile);
        let ours = compile_for(&profile, native).unwrap();
        let theirs = library.compile(&profile, native);
        decide_alike(&profile, native, &ours.program, &theirs.program, &theirs.unknown);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Leaves one rule a call and one comparison an argument: merging more, libseccomp 2.5.4 can lose alternatives. (Of "less
/// than 0" and "less than 2^32" for one argument it decides that 1 is neither.)
fn without_alternatives(profile: &mut Seccomp) {
    let mut seen = BTreeSet::new();
    profile.syscalls.retain(|rule| seen.insert(rule.names.clone()));
    for rule in &mut profile.syscalls {
        let mut indexes = BTreeSet::new();
        rule.args.retain(|arg| indexes.insert(arg.index));
    }
}

/// So many random cases, and nothing written beside the sources.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn native() -> impl Strategy<Value = Architecture> {
    prop_oneof![Just(Architecture::X86_64), Just(Architecture::Aarch64)]
}

const NAMES: [&str; 16] = [
    "read",
    "write",
    "clone",
    "mkdir",
    "open",
    "openat",
    "socket",
    "personality",
    "chown32",
    "_llseek",
    "semop",
    "accept4",
    "prctl",
    "futex",
    "set_tls",
    "recv",
];

/// An action and its errno.
fn some_action() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    prop_oneof![
        Just(("ERRNO", Some(7))),
        Just(("ERRNO", None)),
        Just(("ALLOW", None)),
        Just(("KILL", None)),
        Just(("KILL_PROCESS", None)),
        Just(("LOG", None)),
        Just(("TRACE", Some(9))),
        Just(("TRAP", None)),
    ]
}

/// A random profile. `one_action` keeps to what libseccomp defines: one action a call.
fn some_profile(one_action: bool) -> impl Strategy<Value = Seccomp> {
    let architectures = proptest::sample::subsequence(
        vec![
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
        ],
        0..=5,
    );
    let rules = proptest::collection::vec(
        (proptest::sample::select(&NAMES[..]), some_action(), some_args()),
        0..12,
    );
    (some_action(), architectures, rules).prop_map(move |(default, architectures, rules)| {
        // libseccomp cuts off what it compares a 32-bit argument with; we say that such values never meet.
        let narrow = |name: &&str| ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"].contains(name);
        let bits = if one_action && architectures.iter().any(narrow) {
            u64::from(u32::MAX)
        } else {
            u64::MAX
        };
        let mut seen = std::collections::BTreeMap::new();
        // A rule for a call that one of its architectures lacks makes libseccomp 2.5.4 lose others.
        let lacking = ["mkdir", "open", "chown32", "_llseek", "semop", "set_tls", "recv"];
        let rules = rules
            .into_iter()
            .filter(|(name, ..)| !one_action || !lacking.contains(name));
        let rules = rules.map(|(name, action, args)| {
            // Calls that 32-bit x86 multiplexes count as one.
            let key = if ["socket", "accept4", "recv"].contains(&name) {
                "socketcall"
            } else {
                name
            };
            let action = if one_action {
                *seen.entry(key).or_insert(action)
            } else {
                action
            };
            Syscall {
                names: vec![name.to_owned()],
                action: format!("SCMP_ACT_{}", action.0),
                errno_ret: action.1,
                args: args.into_iter().map(|arg| cut(arg, bits)).collect(),
            }
        });
        Seccomp {
            default_action: format!("SCMP_ACT_{}", default.0),
            default_errno_ret: default.1,
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            syscalls: rules.collect(),
            ..Seccomp::default()
        }
    })
}

fn cut(arg: SyscallArg, bits: u64) -> SyscallArg {
    SyscallArg {
        value: arg.value & bits,
        value_two: arg.value_two & bits,
        ..arg
    }
}

fn some_args() -> impl Strategy<Value = Vec<SyscallArg>> {
    let op = proptest::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let value = || {
        prop_oneof![
            Just(0u64),
            Just(1),
            Just(5),
            Just(0xffff_ffff),
            Just(0x7e02_0000),
            Just(1 << 32),
            Just(u64::MAX),
            any::<u64>(),
        ]
    };
    let arg = (0u32..2, op, value(), value()).prop_map(|(index, op, value, value_two)| SyscallArg {
        index,
        value,
        value_two: if op == "MASKED_EQ" {
            value_two & value
        } else {
            value_two
        },
        op: format!("SCMP_CMP_{op}"),
    });
    proptest::collection::vec(arg, 0..3)
}

/// The specification, read rule by rule.
fn naive(profile: &Seccomp, native: Architecture, arch: Architecture, asked: &Call) -> u32 {
    let listed =
        |arch: Architecture| arch == native || profile.architectures.iter().any(|a| a == arch.name());
    let default = action(&profile.default_action, profile.default_errno_ret);
    if !listed(arch) {
        return 0;
    }
    let mut conditional = None;
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        if action == default
            || !rule
                .names
                .iter()
                .any(|name| arch.number(name) == Some(asked.number))
        {
            continue;
        }
        let holds = |arg: &SyscallArg| compare(arg, asked.arguments[arg.index as usize], arch);
        let indexes: BTreeSet<u32> = rule.args.iter().map(|arg| arg.index).collect();
        let matched = match indexes.len() == rule.args.len() {
            true => rule.args.iter().all(holds),
            false => rule.args.iter().any(holds),
        };
        if rule.args.is_empty() {
            return action;
        }
        if matched {
            conditional.get_or_insert(action);
        }
    }
    let newest = profile
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .filter_map(|name| arch.number(name));
    let newest = newest.filter(|number| number & !X32_BIT < 0xf_0000).max();
    let absent = ![0x7fff_0000, 0x7ffc_0000, ENOSYS].contains(&default);
    // ARM's private calls are no newer for their great numbers.
    let named = |rule: &Syscall| {
        rule.names
            .iter()
            .any(|name| arch.number(name) == Some(asked.number))
    };
    let private = profile.syscalls.iter().any(named);
    match newest {
        Some(newest) if absent && asked.number > newest && !private => ENOSYS,
        _ => conditional.unwrap_or(default),
    }
}

fn compare(arg: &SyscallArg, value: u64, arch: Architecture) -> bool {
    let narrow = matches!(arch, Architecture::X86 | Architecture::X32 | Architecture::Arm);
    let value = if narrow { value & 0xffff_ffff } else { value };
    match arg.op.as_str() {
        "SCMP_CMP_NE" => value != arg.value,
        "SCMP_CMP_LT" => value < arg.value,
        "SCMP_CMP_LE" => value <= arg.value,
        "SCMP_CMP_EQ" => value == arg.value,
        "SCMP_CMP_GE" => value >= arg.value,
        "SCMP_CMP_GT" => value > arg.value,
        _ => value & arg.value == arg.value_two,
    }
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        _ => 0x7fff_0000,
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_profile_is_decided_as_it_reads(profile in some_profile(false), native in native()) {
        // What i386 multiplexes is compared with libseccomp instead.
        let mut profile = profile;
        profile.syscalls.retain(|rule| !["socket", "accept4", "recv", "semop"].contains(&rule.names[0].as_str()));
        let filter = compile_for(&profile, native).unwrap();
        check(&filter.program);
        let values = boundaries(&profile);
        for arch in family(native).iter().copied() {
            for number in numbers(arch) {
                let named = profile.syscalls.iter().any(|rule| arch.number(&rule.names[0]) == Some(number));
                let few = if named { &values[..] } else { &values[..1] };
                for (first, second) in few.iter().flat_map(|a| few.iter().map(move |b| (*a, *b))) {
                    let arguments = [as_shown(arch, first), as_shown(arch, second), 0, 0, 0, 0];
                    let asked = call(arch, number, arguments);
                    prop_assert_eq!(
                        run(&filter.program, &asked),
                        naive(&profile, native, arch, &asked),
                        "{:x?} of {:?}", asked, arch
                    );
                }
            }
        }
    }
}

/// A profile so large that both halves of the search lie further apart than a one-byte jump reaches.
#[test]
fn long_jumps() {
    let mut profile = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        ..Seccomp::default()
    };
    let names = [
        "read", "mkdir", "socket", "clone", "openat", "statx", "prctl", "futex", "bpf", "openat2",
    ];
    for (place, name) in names.iter().enumerate() {
        for index in 0..20 {
            let arg = SyscallArg {
                index: index % 6,
                value: u64::from(index) << 33 | place as u64,
                value_two: 0,
                op: "SCMP_CMP_EQ".into(),
            };
            profile.syscalls.push(Syscall {
                names: vec![(*name).into()],
                action: "SCMP_ACT_ERRNO".into(),
                errno_ret: Some(place as u32 + 2),
                args: vec![arg],
            });
        }
    }
    let filter = compile_for(&profile, Architecture::X86_64).unwrap();
    check(&filter.program);
    assert!(filter.program.len() > 1000 && filter.program.iter().any(|i| i.code == 0x05));
    for (place, name) in names.iter().enumerate() {
        let number = Architecture::X86_64.number(name).unwrap();
        let mut arguments = [u64::MAX; 6];
        assert_eq!(
            run(&filter.program, &call(Architecture::X86_64, number, arguments)),
            0x7fff_0000
        );
        arguments[1] = 19 << 33 | place as u64;
        let expected = 0x0005_0000 | (place as u32 + 2);
        assert_eq!(
            run(&filter.program, &call(Architecture::X86_64, number, arguments)),
            expected
        );
    }
}

#[test]
fn the_search_is_short() {
    let profile = default_for(Architecture::X86_64, &["SYS_CHROOT"]);
    let filter = compile_for(&profile, Architecture::X86_64).unwrap();
    assert!(filter.program.len() < 700, "{}", filter.program.len());
}

#[test]
fn an_unlisted_architecture_is_killed() {
    let profile = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        ..Seccomp::default()
    };
    let filter = compile_for(&profile, Architecture::X86_64).unwrap();
    let decide = |arch: Architecture, number| run(&filter.program, &call(arch, number, [0; 6]));
    assert_eq!(decide(Architecture::X86_64, 0), 0x7fff_0000);
    assert_eq!(
        decide(Architecture::X86_64, u32::MAX),
        0x7fff_0000,
        "a call that a tracer skips"
    );
    assert_eq!(decide(Architecture::X32, X32_BIT), 0);
    assert_eq!(decide(Architecture::X86, 0), 0);
    assert_eq!(decide(Architecture::Aarch64, 0), 0);
}

#[test]
fn the_kernel_takes_the_default_profile_and_obeys_it() {
    let Some(facts) = Facts::detect() else {
        println!("skipped: this architecture's system calls are not known");
        return;
    };
    let filter = compile(&default_profile(&["CAP_CHOWN".to_owned()], &facts)).unwrap();
    // A filter binds the thread that loads it, and this one ends with the test.
    let (before, after) = std::thread::spawn(move || {
        let mount = || {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", "/nonexistent", "tmpfs", flags, None).unwrap_err()
        };
        let before = mount();
        rustix::thread::set_no_new_privs(true).unwrap();
        let listener = ferry_sys::seccomp::load(&filter.program, filter.flags).unwrap();
        assert!(listener.is_none());
        std::fs::read("/proc/self/status").unwrap();
        (before, mount())
    })
    .join()
    .unwrap();
    assert_eq!(after, rustix::io::Errno::PERM, "{before} before");
}

#[test]
fn a_custom_profile_in_dockers_format() {
    let json = br#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
        {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
        "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"excludes":{"caps":["CAP_X"]}}]}"#;
    let facts = Facts {
        arch: Architecture::X86_64,
        kernel: (6, 1),
    };
    let profile = parse_docker_profile(json, &[], &facts).unwrap().unwrap();
    let filter = compile_for(&profile, Architecture::X86_64).unwrap();
    let decide = |arch: Architecture, name: &str| {
        run(&filter.program, &call(arch, arch.number(name).unwrap(), [0; 6]))
    };
    assert_eq!(decide(Architecture::X86_64, "mkdir"), 0x0005_0000 | 13);
    assert_eq!(decide(Architecture::X86, "mkdirat"), 0x0005_0000 | 13);
    assert_eq!(decide(Architecture::X86_64, "rmdir"), 0x7fff_0000);
}
