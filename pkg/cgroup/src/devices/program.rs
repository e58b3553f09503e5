//! Device rules as a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
//!
//! The context is `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }`, where `access_type` holds the
//! requested accesses in its high half and the device type (1 block, 2 char) in the low one. r0 = 1 allows.
//!
//! Rules are tried from the last to the first. r2 holds the accesses no rule has decided yet: an allowing rule clears
//! its own, and the program allows when none is left; a denying rule that names an open one denies.

use husk_sys::bpf::Insn;

use super::rules::{ALL, Kind, Rule};

/// Context pointer, later scratch.
const R1: u8 = 1;
/// Accesses still open.
const R2: u8 = 2;
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const R0: u8 = 0;

// linux/bpf_common.h and linux/bpf.h: class | operation | operand.
const LOAD_WORD: u8 = 0x61;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const JEQ_IMM: u8 = 0x15;
const JNE_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Whether a program for these rules would allow everything.
pub(super) fn allows_everything(rules: &[Rule]) -> bool {
    rules.iter().rev().take_while(|rule| rule.allow).any(Rule::is_total)
}

/// The program.
pub(super) fn emit(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, R2, R1, 0, 0),
        insn(MOV_REG, TYPE, R2, 0, 0),
        insn(AND_IMM, TYPE, 0, 0, 0xffff),
        insn(RSH_IMM, R2, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, R1, 4, 0),
        insn(LOAD_WORD, MINOR, R1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(emit_rule(rule));
        if rule.is_total() {
            // Nothing gets past it, and the verifier refuses instructions that can't be reached.
            return program;
        }
    }
    program.extend(verdict(false));
    program
}

fn emit_rule(rule: &Rule) -> Vec<Insn> {
    let mut body = Vec::with_capacity(8);
    if rule.access != ALL {
        let access = i32::from(rule.access);
        if rule.allow {
            body.push(insn(AND_IMM, R2, 0, 0, !access));
            body.push(insn(JNE_IMM, R2, 0, 2, 0));
        } else {
            body.push(insn(MOV_REG, R1, R2, 0, 0));
            body.push(insn(AND_IMM, R1, 0, 0, access));
            body.push(insn(JEQ_IMM, R1, 0, 2, 0));
        }
    }
    body.extend(verdict(rule.allow));
    let kind = rule.kind.map(|kind| match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    });
    let mut guarded = Vec::with_capacity(body.len() + 3);
    let guards = [(TYPE, kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let mut left = guards.iter().filter(|(_, value)| value.is_some()).count();
    for (register, value) in guards {
        let Some(value) = value else { continue };
        left -= 1;
        // Over the remaining guards and the body: at most ten instructions.
        let skip = (left + body.len()) as i16;
        guarded.push(insn(JNE_IMM, register, 0, skip, value.cast_signed()));
    }
    guarded.extend(body);
    guarded
}

fn verdict(allow: bool) -> [Insn; 2] {
    [insn(MOV_IMM, R0, 0, 0, i32::from(allow)), insn(EXIT, 0, 0, 0, 0)]
}

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    let regs = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
    Insn { code, regs, off, imm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::rules::{MKNOD, READ, WRITE, tests::rule};

    /// Runs a program as the kernel would; panics on anything that the verifier would refuse.
    fn run(program: &[Insn], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (dst, src) = (usize::from(i.regs & 15), usize::from(i.regs >> 4));
            let imm = i64::from(i.imm).cast_unsigned();
            at += 1;
            match i.code {
                LOAD_WORD => r[dst] = u64::from(context[usize::try_from(i.off).unwrap() / 4]),
                AND_IMM => r[dst] &= imm,
                RSH_IMM => r[dst] >>= imm,
                MOV_IMM => r[dst] = imm,
                MOV_REG => r[dst] = r[src],
                JEQ_IMM if r[dst] == imm => at += usize::try_from(i.off).unwrap(),
                JNE_IMM if r[dst] != imm => at += usize::try_from(i.off).unwrap(),
                JEQ_IMM | JNE_IMM => {}
                EXIT => return r[0] == 1,
                other => panic!("code {other:#x}"),
            }
        }
    }

    /// The meaning, straight from the words of `rules`.
    fn meaning(rules: &[Rule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & u32::from(*bit) != 0).all(|bit| {
            rules
                .iter()
                .rev()
                .find(|r| {
                    r.access & bit != 0
                        && r.kind.is_none_or(|k| kind == if k == Kind::Block { 1 } else { 2 })
                        && r.major.is_none_or(|m| m == major)
                        && r.minor.is_none_or(|m| m == minor)
                })
                .is_some_and(|r| r.allow)
        })
    }

    #[test]
    fn a_program_decides_as_its_rules_say() {
        // Every list of up to three rules from a small pool, against every request on a small grid.
        let mut pool = Vec::new();
        for allow in [false, true] {
            for (kind, major, minor) in [
                (None, None, None),
                (Some(Kind::Char), Some(1), Some(3)),
                (Some(Kind::Char), Some(1), None),
                (Some(Kind::Block), None, Some(3)),
            ] {
                for access in [ALL, READ, WRITE | MKNOD] {
                    pool.push(rule(allow, kind, major, minor, access));
                }
            }
        }
        let check = |rules: &[Rule]| {
            let program = emit(rules);
            for (kind, access) in [1, 2].into_iter().flat_map(|k| (1..8).map(move |a| (k, a))) {
                for (major, minor) in [(1, 3), (1, 4), (8, 3), (8, 0)] {
                    assert_eq!(
                        run(&program, kind, access, major, minor),
                        meaning(rules, kind, access, major, minor),
                        "{rules:?} {kind} {access} {major}:{minor}"
                    );
                }
            }
        };
        check(&[]);
        for a in &pool {
            check(&[*a]);
            for b in &pool {
                check(&[*a, *b]);
                for c in pool.iter().step_by(5) {
                    check(&[*c, *a, *b]);
                }
            }
        }
    }

    #[test]
    fn only_a_total_allowance_after_the_last_denial_needs_no_program() {
        let all = rule(true, None, None, None, ALL);
        let none = rule(false, None, None, None, ALL);
        assert!(allows_everything(&[none, all]));
        assert!(allows_everything(&[all, rule(true, Some(Kind::Char), None, None, READ)]));
        assert!(!allows_everything(&[all, none]));
        assert!(!allows_everything(&[rule(true, None, None, None, READ)]));
    }
}
