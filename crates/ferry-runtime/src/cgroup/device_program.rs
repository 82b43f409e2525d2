//! Device rules as an eBPF program (`BPF_PROG_TYPE_CGROUP_DEVICE`, kernel 4.15).
//!
//! The kernel calls it with `struct bpf_cgroup_dev_ctx` (linux/bpf.h): access and kind in one word, major, minor. It walks
//! the rules from the last to the first and keeps in r3 the accesses that no rule has allowed yet: a deny rule that covers
//! one of them ends with 0, an allow rule clears its own, and 1 is returned when none is left. So each access is decided by the
//! last rule that covers it.

use super::devices::{Access, Kind, Rule};
use ferry_sys::bpf::Instruction;

const ALU32: u8 = 0x04;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
const LOAD_WORD: u8 = 0x61;

const MOVE: u8 = 0xb0;
const AND: u8 = 0x50;
const SHIFT_RIGHT: u8 = 0x70;
const FROM_REGISTER: u8 = 0x08;
const IF_NOT_EQUAL: u8 = 0x50;
const IF_ANY_BIT: u8 = 0x40;
const ALWAYS: u8 = 0x00;
const EXIT: u8 = 0x90;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// linux/bpf.h, `BPF_DEVCG_DEV_…`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// The program for these rules; `None` when they allow everything.
pub(super) fn assemble(rules: &[Rule]) -> Option<Vec<Instruction>> {
    if rules
        .iter()
        .rev()
        .find(|rule| !rule.allow || rule.covers_all())
        .is_some_and(|rule| rule.allow)
    {
        return None;
    }
    let mut program = vec![
        load(KIND, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        op(ALU32 | MOVE | FROM_REGISTER, WANTED, KIND, 0, 0),
        constant(ALU32 | AND, KIND, 0xffff),
        constant(ALU32 | SHIFT_RIGHT, WANTED, 16),
    ];
    for rule in rules.iter().rev() {
        if rule.covers_all() {
            program.extend(answer(rule.allow));
            return Some(program);
        }
        program.extend(one_rule(rule));
    }
    program.extend(answer(false));
    Some(program)
}

/// One rule; falls through to the next when it leaves something undecided.
fn one_rule(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access.0);
    let mut body = match rule.allow {
        true => vec![
            constant(ALU32 | AND, WANTED, i32::from(Access::ALL) & !access),
            skip(IF_NOT_EQUAL, WANTED, 0, 2),
        ],
        // There is no "jump when no bit is set".
        false => vec![skip(IF_ANY_BIT, WANTED, access, 1), op(JUMP | ALWAYS, 0, 0, 2, 0)],
    };
    body.extend(answer(rule.allow));
    let kind = rule
        .kind
        .map(|kind| if kind == Kind::Block { BLOCK } else { CHAR });
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let tests = [
        (KIND, kind),
        (MAJOR, rule.major.map(number)),
        (MINOR, rule.minor.map(number)),
    ];
    for (register, value) in tests.into_iter().rev() {
        if let Some(value) = value {
            // At most six instructions follow.
            body.insert(0, skip(IF_NOT_EQUAL, register, value, body.len() as i16));
        }
    }
    body
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        constant(ALU64 | MOVE, RESULT, i32::from(allow)),
        op(JUMP | EXIT, 0, 0, 0, 0),
    ]
}

fn load(register: u8, offset: i16) -> Instruction {
    op(LOAD_WORD, register, CONTEXT, offset, 0)
}

fn constant(code: u8, register: u8, value: i32) -> Instruction {
    op(code, register, 0, 0, value)
}

fn skip(condition: u8, register: u8, value: i32, count: i16) -> Instruction {
    op(JUMP32 | condition, register, 0, count, value)
}

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the few instructions that `assemble` emits.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 11];
        let mut at = 0;
        for _ in 0..10_000 {
            let Instruction {
                code,
                registers: pair,
                offset,
                immediate,
            } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            match code {
                0x61 => registers[to] = u64::from(context[offset as usize / 4]),
                0xbc => registers[to] = registers[from] & 0xffff_ffff,
                0x54 => registers[to] = u64::from(registers[to] as u32 & immediate as u32),
                0x74 => registers[to] = u64::from(registers[to] as u32 >> immediate),
                0xb7 => registers[to] = immediate as u64,
                0x56 if registers[to] as u32 != immediate as u32 => at += offset as usize,
                0x46 if registers[to] as u32 & immediate as u32 != 0 => at += offset as usize,
                0x56 | 0x46 => {}
                0x05 => at += offset as usize,
                0x95 => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
        panic!("the program does not end");
    }

    fn allowed(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let bit = |bit: u8| {
            let covers = |rule: &&Rule| {
                rule.kind.is_none_or(|k| k == kind)
                    && rule.major.is_none_or(|m| m == major)
                    && rule.minor.is_none_or(|m| m == minor)
                    && rule.access.0 & bit != 0
            };
            rules.iter().rev().find(covers).is_some_and(|rule| rule.allow)
        };
        [1, 2, 4].iter().filter(|b| access & **b != 0).all(|b| bit(*b))
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let number = || proptest::option::of(0u32..3);
        let kind = proptest::option::of(prop_oneof![Just(Kind::Block), Just(Kind::Char)]);
        (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(|(allow, kind, major, minor, access)| {
            Rule {
                allow,
                kind,
                major,
                minor,
                access: Access(access),
            }
        })
    }

    proptest! {
        #[test]
        fn the_last_rule_that_covers_an_access_decides(rules in proptest::collection::vec(some_rule(), 0..8)) {
            let program = assemble(&rules);
            for (kind, number) in [(Kind::Block, 1u32), (Kind::Char, 2)] {
                for (major, minor) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                    for access in 1u8..8 {
                        let word = u32::from(access) << 16 | number;
                        let answer = program.as_ref().is_none_or(|p| run(p, [word, major, minor]) == 1);
                        prop_assert_eq!(answer, allowed(&rules, kind, major, minor, access));
                    }
                }
            }
        }
    }
}
