//! Architectures: their names, what the kernel calls them, and their call numbers.

use super::syscalls::{NO, SYSCALLS};

/// An architecture whose call numbers are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers; told from x86_64 by a bit of the call number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// The bit of x32's call numbers (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Architectures of the specification that no kernel this crate is built for ever reports.
const FOREIGN: &[&str] = &[
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
];

impl Architecture {
    /// The one that this program was built for, if it is known.
    pub const fn native() -> Option<Architecture> {
        if cfg!(target_arch = "x86_64") {
            Some(Architecture::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Architecture::Aarch64)
        } else {
            None
        }
    }

    /// By its name in the specification, `SCMP_ARCH_…`. `Some(None)` is one that is real but never met here.
    pub(super) fn parse(name: &str) -> Option<Option<Architecture>> {
        let short = name.strip_prefix("SCMP_ARCH_")?;
        let known = match short {
            "X86_64" => Architecture::X86_64,
            "X86" => Architecture::X86,
            "X32" => Architecture::X32,
            "AARCH64" => Architecture::Aarch64,
            "ARM" => Architecture::Arm,
            other => return FOREIGN.contains(&other).then_some(None),
        };
        Some(Some(known))
    }

    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "SCMP_ARCH_X86_64",
            Architecture::X86 => "SCMP_ARCH_X86",
            Architecture::X32 => "SCMP_ARCH_X32",
            Architecture::Aarch64 => "SCMP_ARCH_AARCH64",
            Architecture::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// Its name in the conditions of Docker's profiles.
    pub(super) fn docker_name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
            Architecture::X86 => "x86",
            Architecture::X32 => "x32",
            Architecture::Aarch64 => "arm64",
            Architecture::Arm => "arm",
        }
    }

    /// What the kernel puts into `seccomp_data.arch` (linux/audit.h, `AUDIT_ARCH_…`); x32 shares x86_64's.
    pub fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
            Architecture::X86 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    /// Whether its calls' arguments have 32 bits only.
    pub(super) fn has_words_of_32_bits(self) -> bool {
        matches!(self, Architecture::X86 | Architecture::X32 | Architecture::Arm)
    }

    /// Those that a kernel of this native architecture reports.
    pub(super) fn family(self) -> &'static [Architecture] {
        match self {
            Architecture::X86_64 | Architecture::X86 | Architecture::X32 => {
                &[Architecture::X86_64, Architecture::X86, Architecture::X32]
            }
            Architecture::Aarch64 | Architecture::Arm => &[Architecture::Aarch64, Architecture::Arm],
        }
    }

    /// The number of a call, as `seccomp_data.nr` has it; `None` when this architecture has no such call.
    pub fn number(self, name: &str) -> Option<u32> {
        self.number_of(Named::parse(name)?)
    }

    /// As [`Architecture::number`], for a name that was looked up before.
    pub(super) fn number_of(self, name: Named) -> Option<u32> {
        let (column, bit) = match self {
            Architecture::X86_64 => (0, 0),
            Architecture::X86 => (1, 0),
            Architecture::X32 => (2, X32_BIT),
            Architecture::Aarch64 => (3, 0),
            Architecture::Arm => (4, 0),
        };
        match SYSCALLS[usize::from(name.0)].1[column] {
            NO => None,
            number => Some(number.unsigned_abs() | bit),
        }
    }
}

/// A call that some architecture has: its row in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named(u16);

impl Named {
    pub fn parse(name: &str) -> Option<Named> {
        let row = SYSCALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        u16::try_from(row).ok().map(Named)
    }

    pub fn text(self) -> &'static str {
        SYSCALLS[usize::from(self.0)].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_right_where_it_is_known_by_heart() {
        assert!(SYSCALLS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let numbers = |name: &str| {
            let all = [
                Architecture::X86_64,
                Architecture::X86,
                Architecture::X32,
                Architecture::Aarch64,
                Architecture::Arm,
            ];
            all.map(|arch| arch.number(name))
        };
        assert_eq!(
            numbers("read"),
            [Some(0), Some(3), Some(X32_BIT), Some(63), Some(3)]
        );
        assert_eq!(numbers("execve")[2], Some(X32_BIT | 520));
        assert_eq!(
            numbers("clone3"),
            [Some(435), Some(435), Some(X32_BIT | 435), Some(435), Some(435)]
        );
        assert_eq!(numbers("set_tls"), [None, None, None, None, Some(0xf0005)]);
        assert_eq!(numbers("open")[3], None);
        assert_eq!(numbers("no_such_call"), [None; 5]);
        assert!(Named::parse("socketcall").is_some() && Named::parse("no_such_call").is_none());
    }

    #[test]
    fn names() {
        assert_eq!(
            Architecture::parse("SCMP_ARCH_X32"),
            Some(Some(Architecture::X32))
        );
        assert_eq!(Architecture::parse("SCMP_ARCH_S390X"), Some(None));
        assert_eq!(Architecture::parse("SCMP_ARCH_PDP11"), None);
        assert_eq!(Architecture::parse("amd64"), None);
    }
}
