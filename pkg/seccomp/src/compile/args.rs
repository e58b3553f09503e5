//! Comparisons of syscall arguments. Arguments have 64 bits and the accumulator 32, so each is compared in two halves.

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use super::insn::{Builder, Compare, Target};
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

    /// Places code that goes to `yes` when the condition holds and to `no` otherwise.
    pub(super) fn emit(&self, is_64bit: bool, builder: &mut Builder, yes: Target, no: Target) -> Target {
        use Compare::{AtLeast, Equal, Greater};
        let (high, low) = match self.op {
            Op::Ne(v) | Op::Lt(v) | Op::Le(v) | Op::Eq(v) | Op::Ge(v) | Op::Gt(v) => halves(v),
            Op::Masked { value, .. } => halves(value),
        };
        let (mask_high, mask_low) = match self.op {
            Op::Masked { mask, .. } => halves(mask),
            _ => (u32::MAX, u32::MAX),
        };
        // Built backwards: the low half is compared last.
        match self.op {
            Op::Eq(_) | Op::Masked { .. } => builder.branch(Equal, low, yes, no),
            Op::Ne(_) => builder.branch(Equal, low, no, yes),
            Op::Gt(_) => builder.branch(Greater, low, yes, no),
            Op::Ge(_) => builder.branch(AtLeast, low, yes, no),
            Op::Lt(_) => builder.branch(AtLeast, low, no, yes),
            Op::Le(_) => builder.branch(Greater, low, no, yes),
        };
        if mask_low != u32::MAX {
            builder.and(mask_low);
        }
        let low_half = builder.load(ARGS + 8 * self.index);
        if !is_64bit || mask_high == 0 {
            return low_half;
        }
        match self.op {
            Op::Eq(_) | Op::Masked { .. } => builder.branch(Equal, high, low_half, no),
            Op::Ne(_) => builder.branch(Equal, high, low_half, yes),
            Op::Gt(_) | Op::Ge(_) => {
                let not_greater = builder.branch(Equal, high, low_half, no);
                builder.branch(Greater, high, yes, not_greater)
            }
            Op::Lt(_) | Op::Le(_) => {
                let not_greater = builder.branch(Equal, high, low_half, yes);
                builder.branch(Greater, high, no, not_greater)
            }
        };
        if mask_high != u32::MAX {
            builder.and(mask_high);
        }
        builder.load(ARGS + 8 * self.index + 4)
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
