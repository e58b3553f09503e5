//! Classic BPF instructions (linux/bpf_common.h) over `struct seccomp_data`, and putting them together.
//!
//! A program is built from its end to its start: when an instruction is placed, everything it can jump to is there
//! already, so its distances are known. Jumps go forward only, as BPF demands.

use std::collections::BTreeMap;

/// `BPF_MAXINSNS`.
pub(super) const MAX_INSNS: usize = 4096;
/// Offset of `seccomp_data.nr`.
pub(super) const NR: u32 = 0;
/// Offset of `seccomp_data.arch`.
pub(super) const ARCH: u32 = 4;

const LD_W_ABS: u16 = 0x20;
const RET_K: u16 = 0x06;
const JA: u16 = 0x05;
const AND_K: u16 = 0x54;

/// Farthest target of a conditional jump. Its distance has 8 bits; a few are left for what a branch places between
/// resolving its first target and itself.
const REACH: usize = 250;

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Compare {
    Equal = 0x15,
    Greater = 0x25,
    AtLeast = 0x35,
}

/// Where a branch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// An instruction, by its place counted from the program's end.
    At(usize),
    /// A return of this value: the nearest one there is.
    Return(u32),
}

/// One `struct sock_filter`. Jump distances count from the next instruction.
#[derive(Debug, Clone, Copy)]
struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A program under construction, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Builder {
    code: Vec<Insn>,
    /// The RET of each value that was placed last. Sharing them halves the program, and with it the kernel's work at
    /// every load.
    returns: BTreeMap<u32, usize>,
}

impl Builder {
    /// Places a load of the word at `offset` in front of what was placed last.
    pub(super) fn load(&mut self, offset: u32) -> Target {
        self.place(LD_W_ABS, offset)
    }

    /// Places a masking of the accumulator in front of what was placed last.
    pub(super) fn and(&mut self, mask: u32) -> Target {
        self.place(AND_K, mask)
    }

    /// Places a comparison.
    pub(super) fn branch(&mut self, compare: Compare, k: u32, yes: Target, no: Target) -> Target {
        let yes = self.reachable(yes);
        let no = self.reachable(no);
        let here = self.code.len();
        // Both are within REACH plus the two instructions that may have come between.
        let distance = |target: usize| (here - target - 1) as u8;
        self.code.push(Insn { code: compare as u16, jt: distance(yes), jf: distance(no), k });
        Target::At(here)
    }

    /// Makes `target` what the next placed instruction falls into.
    pub(super) fn continue_at(&mut self, target: Target) {
        match target {
            Target::At(at) if at + 1 == self.code.len() => {}
            Target::At(at) => {
                self.jump(at);
            }
            Target::Return(value) => {
                self.ret(value);
            }
        }
    }

    /// The program in the order of execution, or its length if the kernel would not take it.
    pub(super) fn finish(self) -> Result<Vec<u8>, usize> {
        if self.code.len() > MAX_INSNS {
            return Err(self.code.len());
        }
        let bytes = |insn: &Insn| {
            let [c0, c1] = insn.code.to_ne_bytes();
            let [k0, k1, k2, k3] = insn.k.to_ne_bytes();
            [c0, c1, insn.jt, insn.jf, k0, k1, k2, k3]
        };
        Ok(self.code.iter().rev().flat_map(bytes).collect())
    }

    fn reachable(&mut self, target: Target) -> usize {
        let near = |at: usize| self.code.len() - at <= REACH;
        match target {
            Target::At(at) if near(at) => at,
            Target::At(at) => self.jump(at),
            Target::Return(value) => match self.returns.get(&value) {
                Some(at) if near(*at) => *at,
                _ => self.ret(value),
            },
        }
    }

    fn ret(&mut self, value: u32) -> usize {
        let at = self.code.len();
        self.place(RET_K, value);
        self.returns.insert(value, at);
        at
    }

    /// An unconditional jump has 32 bits of distance; a program with a longer one is refused as too long.
    fn jump(&mut self, target: usize) -> usize {
        let at = self.code.len();
        self.place(JA, u32::try_from(at - target - 1).unwrap_or(u32::MAX));
        at
    }

    fn place(&mut self, code: u16, k: u32) -> Target {
        self.code.push(Insn { code, jt: 0, jf: 0, k });
        Target::At(self.code.len() - 1)
    }
}
