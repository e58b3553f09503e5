//! A profile as a BPF program.
//!
//! ```text
//! load arch
//! native?  load nr, tree over all numbers (x32's are those with bit 30)  ->  leaves: RET, or argument checks
//! 32 bit?  load nr, tree
//! RET KILL_PROCESS                                                          (an ABI the profile does not list)
//! ```
//!
//! The tree is made from ranges of numbers with the same outcome, so its depth is about seven comparisons for the
//! default profile.

mod args;
mod insn;
mod rules;
mod tree;

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use crate::{
    Error, Family, Program, Result,
    arch::{Arch, X32_BIT},
    program,
};

use insn::{Builder, Compare, Target};
use rules::{Outcome, Rules};
use tree::Range;

/// `SECCOMP_RET_KILL_PROCESS`, for an ABI that the profile does not list. (libseccomp kills the thread, which leaves a
/// crippled process behind.)
const BAD_ARCH: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const ENOSYS: u32 = 0x0005_0000 | 38;
/// ARM's private calls start here; they do not tell how new a profile is.
const ARM_PRIVATE: u32 = 0xf_0000;

/// Compiles a profile for the machine husk was built for.
///
/// # Errors
/// An action or value that seccomp does not have, a listener (`SCMP_ACT_NOTIFY`), or a result of more than 4096
/// instructions.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program> {
    match Family::NATIVE {
        Some(family) => compile_for(profile, family),
        None => Err(Error::Unsupported("seccomp on this architecture")),
    }
}

/// As [`compile`], for the kernels of `family`.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(profile: &LinuxSeccomp, family: Family) -> Result<Program> {
    if profile.listener_path().is_some() || uses(profile, LinuxSeccompAction::ScmpActNotify) {
        return Err(Error::Unsupported("SCMP_ACT_NOTIFY (a seccomp listener)"));
    }
    translate(profile, family)
}

/// As [`compile`], with calls that are left to whoever holds the filter's listener (`SCMP_ACT_NOTIFY`). Such a filter has
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` among its flags.
///
/// # Errors
/// As [`compile`]; a call is left to the listener that is needed to hand it over.
pub fn compile_listening(profile: &LinuxSeccomp) -> Result<Program> {
    /// Whoever loads the filter sends the listener away; and all containers report what they have to say.
    const NEEDED: [&str; 2] = ["write", "sendmsg"];
    const NEW_LISTENER: u32 = 1 << 3;
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    let family = Family::NATIVE.ok_or(Error::Unsupported("seccomp on this architecture"))?;
    if !uses(profile, LinuxSeccompAction::ScmpActNotify) {
        return translate(profile, family);
    }
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::Invalid("SCMP_ACT_NOTIFY cannot be used as default action".to_owned()));
    }
    let left =
        profile.syscalls().iter().flatten().filter(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    for name in left.flat_map(|rule| rule.names()) {
        if NEEDED.contains(&name.as_str()) {
            return Err(Error::Invalid(format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall")));
        }
    }
    let mut program = translate(profile, family)?;
    program.flags |= NEW_LISTENER;
    if profile
        .flags()
        .iter()
        .flatten()
        .any(|flag| *flag == LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv)
    {
        program.flags |= WAIT_KILLABLE_RECV;
    }
    Ok(program)
}

fn translate(profile: &LinuxSeccomp, family: Family) -> Result<Program> {
    let rules = Rules::new(profile)?;
    let mut archs: Vec<Arch> =
        profile.architectures().iter().flatten().filter_map(|arch| family.resolve(*arch)).collect();
    archs.push(family.native());
    archs.sort_unstable();
    archs.dedup();

    // From the end: the last architecture is built first, and the native one, which sorts first, comes out in front.
    let mut builder = Builder::default();
    let mut other = Target::Return(BAD_ARCH);
    // x32 has no AUDIT_ARCH of its own.
    for arch in archs.iter().rev().copied().filter(|arch| *arch != Arch::X32) {
        let mut ranges = ranges(&rules, arch, 0);
        if arch == Arch::X86_64 {
            if archs.contains(&Arch::X32) {
                ranges.extend(self::ranges(&rules, Arch::X32, X32_BIT));
            } else {
                ranges.push(Range { start: X32_BIT, outcome: Outcome::Return(BAD_ARCH) });
            }
            // What a tracer sets to skip a call; not an x32 number.
            ranges.push(Range { start: u32::MAX, outcome: Outcome::Return(rules.default) });
        }
        let tree = tree::emit(ranges, &mut builder);
        builder.continue_at(tree);
        let block = builder.load(insn::NR);
        other = builder.branch(Compare::Equal, arch.audit(), block, other);
    }
    builder.continue_at(other);
    builder.load(insn::ARCH);
    Ok(Program {
        bytes: builder.finish().map_err(Error::TooLong)?,
        flags: program::flags(profile.flags().as_deref()),
        unknown: rules.unknown,
    })
}

/// The outcome of every number from `base` on, as starts of ranges.
fn ranges(rules: &Rules, arch: Arch, base: u32) -> Vec<Range> {
    let outcomes: BTreeMap<u32, Outcome> = rules.on(arch);
    let newest = outcomes.keys().copied().filter(|number| *number < ARM_PRIVATE).max();
    let unlisted = Outcome::Return(rules.default);
    let mut ranges = vec![Range { start: base, outcome: unlisted.clone() }];
    for (number, outcome) in outcomes {
        if let Some(last) = ranges.last()
            && last.start == base + number
        {
            ranges.pop();
        }
        ranges.push(Range { start: base + number, outcome });
        ranges.push(Range { start: base + number + 1, outcome: unlisted.clone() });
    }
    // A call newer than everything the profile knows: libc probes for it and needs ENOSYS to fall back. (runc does the
    // same since 1.0.) ARM's private range is no newer call.
    if let Some(newest) = newest.filter(|_| rules.denies_by_default()) {
        let start = base + newest + 1;
        if arch == Arch::Arm {
            ranges.retain(|range| range.start < start || range.start >= ARM_PRIVATE);
            if ranges.iter().all(|range| range.start != ARM_PRIVATE) {
                ranges.push(Range { start: ARM_PRIVATE, outcome: unlisted });
            }
        } else {
            ranges.retain(|range| range.start < start);
        }
        ranges.push(Range { start, outcome: Outcome::Return(ENOSYS) });
        ranges.sort_by_key(|range| range.start);
    }
    ranges
}

fn uses(profile: &LinuxSeccomp, action: LinuxSeccompAction) -> bool {
    profile.default_action() == action
        || profile.syscalls().iter().flatten().any(|syscall| syscall.action() == action)
}
