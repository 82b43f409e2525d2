//! Profiles compiled by the machine's libseccomp, the way the runtimes that use it call it.

use ferry_oci::runtime::{Seccomp, SyscallArg};
use ferry_runtime::seccomp::Architecture;
use ferry_sys::seccomp::Instruction;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Reads a profile in lines of words and writes the program; names that it does not know go to standard error.
const SOURCE: &str = r#"
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
    char word[256], name[256];
    unsigned long long action, a, b;
    unsigned count, index, op;
    scmp_filter_ctx ctx = NULL;
    while (scanf("%255s", word) == 1) {
        if (!strcmp(word, "default")) {
            if (scanf("%llu", &action) != 1 || !(ctx = seccomp_init((uint32_t)action))) return 2;
        } else if (!strcmp(word, "only")) {
            if (scanf("%255s", name) != 1) return 3;
            uint32_t arch = seccomp_arch_resolve_name(name);
            if (arch != seccomp_arch_native()
                && (seccomp_arch_add(ctx, arch) || seccomp_arch_remove(ctx, seccomp_arch_native()))) return 4;
        } else if (!strcmp(word, "arch")) {
            if (scanf("%255s", name) != 1) return 5;
            int rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
            if (rc && rc != -17) return 6;
        } else {
            struct scmp_arg_cmp args[6];
            if (scanf("%llu %255s %u", &action, name, &count) != 3) return 7;
            for (unsigned i = 0; i < count; i++) {
                if (scanf("%u %u %llu %llu", &index, &op, &a, &b) != 4) return 8;
                args[i] = (struct scmp_arg_cmp){index, op, a, b};
            }
            int number = seccomp_syscall_resolve_name(name);
            if (number == __NR_SCMP_ERROR) { fprintf(stderr, "%s\n", name); continue; }
            int rc = seccomp_rule_add_array(ctx, (uint32_t)action, number, count, args);
            if (rc && rc != -17) { fprintf(stderr, "!%s %d\n", name, rc); return 9; }
        }
    }
    return seccomp_export_bpf(ctx, 1) ? 10 : 0;
}
"#;

/// The compiled helper.
pub struct Libseccomp {
    directory: tempfile::TempDir,
}

/// libseccomp's program, and the calls that this version of it does not know.
pub struct Compiled {
    pub program: Vec<Instruction>,
    pub unknown: BTreeSet<String>,
}

impl Libseccomp {
    /// Builds the helper; says so and returns `None` where that cannot be done.
    pub fn build() -> Option<Libseccomp> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("filter.c");
        std::fs::write(&source, SOURCE).unwrap();
        let output = directory.path().join("filter");
        let built = Command::new("gcc")
            .arg(&source)
            .arg("-lseccomp")
            .arg("-o")
            .arg(&output)
            .output();
        match built {
            Ok(result) if result.status.success() => Some(Libseccomp { directory }),
            Ok(result) => {
                let why = String::from_utf8_lossy(&result.stderr);
                println!(
                    "skipped: libseccomp-dev is needed: {}",
                    why.lines().next().unwrap_or_default()
                );
                None
            }
            Err(error) => {
                println!("skipped: gcc is needed: {error}");
                None
            }
        }
    }

    /// Compiles for a machine of this architecture.
    pub fn compile(&self, profile: &Seccomp, native: Architecture) -> Compiled {
        let mut child = Command::new(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(describe(profile, native).as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {errors}", output.status);
        let instruction = |bytes: &[u8]| Instruction {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Compiled {
            program: output.stdout.chunks_exact(8).map(instruction).collect(),
            unknown: errors.lines().map(str::to_owned).collect(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("filter")
    }
}

fn describe(profile: &Seccomp, native: Architecture) -> String {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut text = format!("default {default}\nonly {}\n", arch(native.name()));
    for name in profile.architectures.iter().filter(|name| *name != native.name()) {
        writeln!(text, "arch {}", arch(name)).unwrap();
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        for name in &rule.names {
            let mut repeated: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
            repeated.sort_unstable();
            if repeated.windows(2).any(|pair| pair[0] == pair[1]) {
                for arg in &rule.args {
                    writeln!(text, "rule {action} {name} 1 {}", comparison(arg)).unwrap();
                }
            } else {
                write!(text, "rule {action} {name} {}", rule.args.len()).unwrap();
                rule.args
                    .iter()
                    .for_each(|arg| write!(text, " {}", comparison(arg)).unwrap());
                text.push('\n');
            }
        }
    }
    text
}

fn comparison(arg: &SyscallArg) -> String {
    const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let op = OPS
        .iter()
        .position(|op| arg.op == format!("SCMP_CMP_{op}"))
        .unwrap()
        + 1;
    format!("{} {op} {} {}", arg.index, arg.value, arg.value_two)
}

fn arch(name: &str) -> String {
    name.strip_prefix("SCMP_ARCH_").unwrap().to_lowercase()
}

/// seccomp.h, `SCMP_ACT_…`: the kernel's own values.
fn action(name: &str, errno: Option<u32>) -> u32 {
    match name.strip_prefix("SCMP_ACT_").unwrap() {
        "KILL" | "KILL_THREAD" => 0,
        "KILL_PROCESS" => 0x8000_0000,
        "TRAP" => 0x0003_0000,
        "ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "LOG" => 0x7ffc_0000,
        "ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}
