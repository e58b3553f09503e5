//! Comparisons of syscall arguments. Arguments have 64 bits and the accumulator 32, so each is compared in two halves.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use super::insn::Insn;
use crate::{Error, Result};

/// `seccomp_data.args`; each is a little-endian u64 on the architectures husk knows.
const ARGS: u32 = 16;

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u32,
    pub(super) op: Op,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Ne(u64),
    Lt(u64),
    Le(u64),
    Eq(u64),
    Ge(u64),
    Gt(u64),
    /// `arg & mask == value`
    Masked {
        mask: u64,
        value: u64,
    },
}

impl Condition {
    pub(super) fn new(arg: &LinuxSeccompArg) -> Result<Self> {
        let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6).ok_or_else(|| {
            Error::Invalid(format!("argument {} does not exist; there are 0 to 5", arg.index()))
        })?;
        let value = arg.value();
        let op = match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => Op::Ne(value),
            LinuxSeccompOperator::ScmpCmpLt => Op::Lt(value),
            LinuxSeccompOperator::ScmpCmpLe => Op::Le(value),
            LinuxSeccompOperator::ScmpCmpEq => Op::Eq(value),
            LinuxSeccompOperator::ScmpCmpGe => Op::Ge(value),
            LinuxSeccompOperator::ScmpCmpGt => Op::Gt(value),
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                // Bits of the value outside the mask are ignored, as libseccomp does.
                Op::Masked { mask: value, value: arg.value_two().unwrap_or_default() & value }
            }
        };
        Ok(Self { index, op })
    }

    /// Code that falls through when the condition holds, and otherwise jumps over `rest` more instructions.
    pub(super) fn emit(&self, is_64bit: bool, rest: u8) -> Vec<Insn> {
        let low = Insn::load(ARGS + 8 * self.index);
        let high = Insn::load(ARGS + 8 * self.index + 4);
        let half = |value: u64| ((value >> 32) as u32, value as u32);
        let mut code = Vec::with_capacity(6);
        // What follows the high half until the condition ends; the last comparison of the low half has `rest` behind.
        let (vh, vl) = match self.op {
            Op::Ne(v) | Op::Lt(v) | Op::Le(v) | Op::Eq(v) | Op::Ge(v) | Op::Gt(v) => half(v),
            Op::Masked { value, .. } => half(value),
        };
        if is_64bit {
            match self.op {
                Op::Eq(_) => code.extend([high, Insn::equal(vh, 0, rest + 2)]),
                // Another high half is a match already: over the two of the low half.
                Op::Ne(_) => code.extend([high, Insn::equal(vh, 0, 2)]),
                Op::Gt(_) | Op::Ge(_) => {
                    code.extend([high, Insn::greater(vh, 3, 0), Insn::equal(vh, 0, rest + 2)]);
                }
                Op::Lt(_) | Op::Le(_) => {
                    code.extend([high, Insn::greater(vh, rest + 3, 0), Insn::equal(vh, 0, 2)]);
                }
                Op::Masked { mask, .. } => {
                    let (mask_high, mask_low) = half(mask);
                    let low_len = if mask_low == u32::MAX { 2 } else { 3 };
                    if mask_high != 0 {
                        code.extend([high, Insn::and(mask_high), Insn::equal(vh, 0, rest + low_len)]);
                    }
                }
            }
        }
        code.push(low);
        match self.op {
            Op::Eq(_) => code.push(Insn::equal(vl, 0, rest)),
            Op::Ne(_) => code.push(Insn::equal(vl, rest, 0)),
            Op::Gt(_) => code.push(Insn::greater(vl, 0, rest)),
            Op::Ge(_) => code.push(Insn::at_least(vl, 0, rest)),
            Op::Lt(_) => code.push(Insn::at_least(vl, rest, 0)),
            Op::Le(_) => code.push(Insn::greater(vl, rest, 0)),
            Op::Masked { mask, .. } => {
                let (_, mask_low) = half(mask);
                if mask_low != u32::MAX {
                    code.push(Insn::and(mask_low));
                }
                code.push(Insn::equal(vl, 0, rest));
            }
        }
        code
    }
}
