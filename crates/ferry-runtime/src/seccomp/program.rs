//! Code generation: decisions over call numbers as classic BPF (linux/filter.h, linux/seccomp.h).
//!
//! All jumps go forward and their targets lie in the piece of code that is being built, so that pieces can be put one
//! behind the other without relocation.

use ferry_sys::seccomp::Instruction;

/// Loads a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;

/// `struct seccomp_data`: the call's number, the architecture, the instruction's address, six arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_KILL_THREAD`: for an architecture that the profile does not name.
const KILL_THREAD: u32 = 0;

/// One comparison of an argument, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// 0 to 5.
    pub index: u8,
    pub op: Op,
    pub value: u64,
    /// Bits that count; all but for a masked comparison.
    pub mask: u64,
    /// Only the lower half of the argument exists.
    pub narrow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// What is returned for one call number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Always this (`SECCOMP_RET_…` with its data).
    Always(u32),
    /// The action of the first alternative whose comparisons all hold, else the last.
    Arguments(Vec<(Vec<Comparison>, u32)>, u32),
}

/// Decisions from a call number on, up to the next one's.
pub(super) type Range = (u32, Decision);

/// The whole program: by architecture, then by number. Each list starts at 0 and is sorted.
pub(super) fn assemble(architectures: &[(u32, Vec<Range>)]) -> Vec<Instruction> {
    let mut code = vec![load(ARCHITECTURE)];
    for (audit, ranges) in architectures {
        let mut body = vec![load(NUMBER)];
        search(ranges, &mut body);
        code.extend(unless(IF_EQUAL, *audit, body.len()));
        code.extend(body);
    }
    code.push(give(KILL_THREAD));
    code
}

/// Appends a balanced search: a range's code, or a jump to the upper half in front of the lower half's.
fn search(ranges: &[Range], code: &mut Vec<Instruction>) {
    match ranges {
        [] => code.push(give(KILL_THREAD)),
        [(_, decision)] => code.extend(decide(decision)),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let place = code.len();
            code.push(test(IF_AT_LEAST, upper[0].0, 0, 0));
            search(lower, code);
            let below = code.len() - place - 1;
            match u8::try_from(below) {
                Ok(near) => code[place].jt = near,
                Err(_) => {
                    code[place].jf = 1;
                    code.insert(place + 1, jump(below));
                }
            }
            search(upper, code);
        }
    }
}

fn decide(decision: &Decision) -> Vec<Instruction> {
    match decision {
        Decision::Always(action) => vec![give(*action)],
        Decision::Arguments(alternatives, otherwise) => {
            let mut code: Vec<_> = alternatives
                .iter()
                .flat_map(|(all, action)| alternative(all, *action))
                .collect();
            code.push(give(*otherwise));
            code
        }
    }
}

/// Returns `action` when every comparison holds, and otherwise goes on behind itself.
fn alternative(comparisons: &[Comparison], action: u32) -> Vec<Instruction> {
    let mut code = vec![give(action)];
    for comparison in comparisons.iter().rev() {
        let mut test = compare(comparison, code.len());
        test.append(&mut code);
        code = test;
    }
    code
}

/// Goes on behind itself when the comparison holds, and otherwise skips `skip` instructions more. Six comparisons are
/// at most 37 instructions, so that one-byte offsets suffice.
fn compare(comparison: &Comparison, skip: usize) -> Vec<Instruction> {
    let Comparison {
        index,
        op,
        value,
        mask,
        narrow,
    } = *comparison;
    let low_word = ARGUMENTS + 8 * u32::from(index);
    let (value_high, value_low) = ((value >> 32) as u32, value as u32);
    let (mask_high, mask_low) = ((mask >> 32) as u32, mask as u32);
    let fail = skip as u8;
    let mut low = masked_load(low_word, mask_low);
    low.push(match op {
        Op::Equal => test(IF_EQUAL, value_low, 0, fail),
        Op::NotEqual => test(IF_EQUAL, value_low, fail, 0),
        Op::Greater => test(IF_GREATER, value_low, 0, fail),
        Op::GreaterOrEqual => test(IF_AT_LEAST, value_low, 0, fail),
        Op::Less => test(IF_AT_LEAST, value_low, fail, 0),
        Op::LessOrEqual => test(IF_GREATER, value_low, fail, 0),
    });
    // From the upper half, to the end of the comparison and to its failure.
    let (past, away) = (low.len() as u8, low.len() as u8 + fail);
    if narrow || mask_high == 0 {
        let upper_is_zero = value_high == 0;
        let holds = matches!(op, Op::NotEqual | Op::Less | Op::LessOrEqual);
        return match (upper_is_zero, holds) {
            (true, _) => low,
            (false, true) => Vec::new(),
            (false, false) => vec![jump(skip)],
        };
    }
    let mut code = masked_load(low_word + 4, mask_high);
    match op {
        Op::Equal => code.push(test(IF_EQUAL, value_high, 0, away)),
        Op::NotEqual => code.push(test(IF_EQUAL, value_high, 0, past)),
        Op::Greater | Op::GreaterOrEqual => {
            code.push(test(IF_GREATER, value_high, past + 1, 0));
            code.push(test(IF_EQUAL, value_high, 0, away));
        }
        Op::Less | Op::LessOrEqual => {
            code.push(test(IF_GREATER, value_high, away + 1, 0));
            code.push(test(IF_EQUAL, value_high, 0, past));
        }
    }
    code.extend(low);
    code
}

fn masked_load(offset: u32, mask: u32) -> Vec<Instruction> {
    match mask {
        u32::MAX => vec![load(offset)],
        mask => vec![load(offset), op(AND, 0, 0, mask)],
    }
}

/// Skips `count` instructions when the test does not hold.
fn unless(code: u16, value: u32, count: usize) -> Vec<Instruction> {
    match u8::try_from(count) {
        Ok(near) => vec![test(code, value, 0, near)],
        Err(_) => vec![test(code, value, 1, 0), jump(count)],
    }
}

fn load(offset: u32) -> Instruction {
    op(LOAD, 0, 0, offset)
}

fn give(action: u32) -> Instruction {
    op(RETURN, 0, 0, action)
}

fn jump(count: usize) -> Instruction {
    // A program has at most 4096 instructions, and `compile` refuses longer ones.
    op(JUMP, 0, 0, count as u32)
}

fn test(code: u16, value: u32, jt: u8, jf: u8) -> Instruction {
    op(code, jt, jf, value)
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}
