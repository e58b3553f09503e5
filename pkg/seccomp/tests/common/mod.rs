//! A BPF interpreter and a reading of profiles that shares no code with the compiler.

use husk_seccomp::Program;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

/// `struct seccomp_data` without the instruction pointer, which no filter here reads.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

pub const X86_64: u32 = 0xc000_003e;
pub const I386: u32 = 0x4000_0003;

impl Call {
    pub fn new(arch: u32, nr: u32) -> Self {
        Self { nr, arch, args: [0; 6] }
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            other => panic!("load of offset {other}"),
        }
    }
}

/// What the kernel would return, with its checks: aligned loads, jumps inside the program, at most 4096 instructions.
pub fn run(program: &[u8], call: &Call) -> u32 {
    let insns: Vec<(u16, u8, u8, u32)> = program
        .chunks_exact(8)
        .map(|b| {
            let k = u32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
            (u16::from_ne_bytes([b[0], b[1]]), b[2], b[3], k)
        })
        .collect();
    assert!(insns.len() <= 4096);
    let (mut a, mut at) = (0u32, 0usize);
    loop {
        let (code, jt, jf, k) = insns[at];
        at += 1;
        let mut branch = |condition: bool| at += usize::from(if condition { jt } else { jf });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x45 => branch(a & k != 0),
            0x05 => at += k as usize,
            0x06 => return k,
            other => panic!("code {other:#x}"),
        }
    }
}

pub fn decide(program: &Program, call: &Call) -> u32 {
    run(program.bytes(), call)
}

/// The words of docs/decisions: alternatives with conditions in order, then the first without, then the default.
#[allow(dead_code, reason = "one of the two test files needs it")]
pub fn meaning(profile: &LinuxSeccomp, name: &str, call: &Call) -> u32 {
    let mask = if matches!(call.arch, 0xc000_003e | 0xc000_00b7) && call.nr & 0x4000_0000 == 0 {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let holds = |arg: &LinuxSeccompArg| {
        let (have, value) = (call.args[arg.index()] & mask, arg.value() & mask);
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => have != value,
            LinuxSeccompOperator::ScmpCmpLt => have < value,
            LinuxSeccompOperator::ScmpCmpLe => have <= value,
            LinuxSeccompOperator::ScmpCmpEq => have == value,
            LinuxSeccompOperator::ScmpCmpGe => have >= value,
            LinuxSeccompOperator::ScmpCmpGt => have > value,
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                have & value == arg.value_two().unwrap_or_default() & arg.value() & mask
            }
        }
    };
    let mut fallback = None;
    for rule in profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|n| n == name)) {
        let args = rule.args().as_deref().unwrap_or_default();
        let value = action(rule.action(), rule.errno_ret());
        if args.is_empty() {
            fallback.get_or_insert(value);
            continue;
        }
        let repeated =
            (0..args.len()).any(|i| args[..i].iter().any(|other| other.index() == args[i].index()));
        if if repeated { args.iter().any(holds) } else { args.iter().all(holds) } {
            return value;
        }
    }
    fallback.unwrap_or_else(|| action(profile.default_action(), profile.default_errno_ret()))
}

#[allow(dead_code, reason = "one of the two test files needs it")]
pub fn action(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 + errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 + errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
    }
}

/// A small generator (xorshift64*), so that a failure can be repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
