//! Classic BPF as seccomp runs it, written from linux/filter.h alone, to judge programs by what they decide.

use ferry_sys::seccomp::Instruction;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            16..=60 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                }
            }
            _ => panic!("a load from {offset}"),
        }
    }
}

/// What the program returns.
pub fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator, mut memory, mut index) = (0, 0u32, [0u32; 16], 0u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x00 => accumulator = k,
            0x60 => accumulator = memory[k as usize],
            0x02 => memory[k as usize] = accumulator,
            0x07 => index = accumulator,
            0x87 => accumulator = index,
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the kernel checks before it takes a program: its length, that jumps stay inside, and that it ends.
pub fn check(program: &[Instruction]) {
    assert!((1..=4096).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            0x05 => instruction.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(instruction.jt.max(instruction.jf)),
            _ => 0,
        };
        assert!(
            at + furthest + 1 < program.len() || instruction.code == 0x06,
            "{at} jumps out"
        );
    }
    assert_eq!(program[program.len() - 1].code, 0x06);
}
