//! Classic BPF instructions (linux/bpf_common.h) over `struct seccomp_data`.

/// `BPF_MAXINSNS`.
pub(super) const MAX_INSNS: usize = 4096;
/// Offset of `seccomp_data.nr`.
pub(super) const NR: u32 = 0;
/// Offset of `seccomp_data.arch`.
pub(super) const ARCH: u32 = 4;

const LD_W_ABS: u16 = 0x20;
const RET_K: u16 = 0x06;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const AND_K: u16 = 0x54;

/// One `struct sock_filter`. Jump distances count from the next instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Insn {
    pub(super) fn load(offset: u32) -> Self {
        Self { code: LD_W_ABS, jt: 0, jf: 0, k: offset }
    }

    pub(super) fn ret(action: u32) -> Self {
        Self { code: RET_K, jt: 0, jf: 0, k: action }
    }

    pub(super) fn and(mask: u32) -> Self {
        Self { code: AND_K, jt: 0, jf: 0, k: mask }
    }

    pub(super) fn equal(k: u32, jt: u8, jf: u8) -> Self {
        Self { code: JEQ_K, jt, jf, k }
    }

    pub(super) fn greater(k: u32, jt: u8, jf: u8) -> Self {
        Self { code: JGT_K, jt, jf, k }
    }

    pub(super) fn at_least(k: u32, jt: u8, jf: u8) -> Self {
        Self { code: JGE_K, jt, jf, k }
    }

    /// Skips `skip` instructions unless the accumulator equals `k`.
    pub(super) fn unless_equal_skip(k: u32, skip: usize) -> Vec<Self> {
        match u8::try_from(skip) {
            Ok(skip) => vec![Self::equal(k, 0, skip)],
            Err(_) => vec![Self::equal(k, 1, 0), Self::jump(skip)],
        }
    }

    /// Skips `skip` instructions if the accumulator is at least `k`.
    pub(super) fn if_at_least_skip(k: u32, skip: usize) -> Vec<Self> {
        match u8::try_from(skip) {
            Ok(skip) => vec![Self::at_least(k, skip, 0)],
            Err(_) => vec![Self::at_least(k, 0, 1), Self::jump(skip)],
        }
    }

    /// An unconditional jump has 32 bits of distance. One that does not fit makes a program of more than 4096
    /// instructions, which is refused as a whole.
    fn jump(skip: usize) -> Self {
        Self { code: JA, jt: 0, jf: 0, k: u32::try_from(skip).unwrap_or(u32::MAX) }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}
