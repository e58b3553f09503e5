//! What a profile says of each syscall.
//!
//! The rules of one syscall are alternatives: the first whose conditions all hold decides. A rule without conditions
//! decides what the ones with conditions left open, wherever it stands. (libseccomp lets it swallow the others, so
//! that "allow socket" beside "refuse AF_VSOCK" allows AF_VSOCK; no author means that.)

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use super::{
    args::Condition,
    insn::{Builder, Target},
};
use crate::{Error, Result, arch::Arch, table};

/// What becomes of a call with one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Always this `SECCOMP_RET_*` value.
    Return(u32),
    /// The first alternative that matches, else the last value.
    Depends { alternatives: Vec<Alternative>, otherwise: u32, is_64bit: bool },
}

/// All conditions of one rule, and its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alternative {
    conditions: Vec<Condition>,
    action: u32,
}

/// The rules of a profile by name.
#[derive(Debug)]
pub(super) struct Rules {
    /// For a call without a rule.
    pub(super) default: u32,
    by_name: BTreeMap<String, (Vec<Alternative>, Option<u32>)>,
    /// Names no architecture has.
    pub(super) unknown: Vec<String>,
}

impl Rules {
    pub(super) fn new(profile: &LinuxSeccomp) -> Result<Self> {
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let mut rules = Rules { default, by_name: BTreeMap::new(), unknown: Vec::new() };
        for syscall in profile.syscalls().iter().flatten() {
            rules.add(syscall)?;
        }
        Ok(rules)
    }

    fn add(&mut self, syscall: &LinuxSyscall) -> Result<()> {
        let action = action(syscall.action(), syscall.errno_ret())?;
        let alternatives = alternatives(syscall.args().as_deref().unwrap_or_default(), action)?;
        for name in syscall.names() {
            if !table::is_known(name) {
                self.unknown.push(name.clone());
                continue;
            }
            let (conditional, unconditional) = self.by_name.entry(name.clone()).or_default();
            if alternatives.is_empty() {
                unconditional.get_or_insert(action);
            } else {
                conditional.extend(alternatives.iter().cloned());
            }
        }
        Ok(())
    }

    /// The outcomes of the calls that `arch` has.
    pub(super) fn on(&self, arch: Arch) -> BTreeMap<u32, Outcome> {
        self.by_name
            .iter()
            .filter_map(|(name, (conditional, unconditional))| {
                let otherwise = unconditional.unwrap_or(self.default);
                let outcome = if conditional.is_empty() {
                    Outcome::Return(otherwise)
                } else {
                    let alternatives = conditional.clone();
                    Outcome::Depends { alternatives, otherwise, is_64bit: arch.is_64bit() }
                };
                Some((table::number(arch, name)?, outcome))
            })
            .collect()
    }

    /// Whether a call without a rule fails.
    pub(super) fn denies_by_default(&self) -> bool {
        // Kill, trap and errno; allow, log and trace let it through or leave it to somebody else.
        self.default < 0x7ff0_0000 || self.default >= 0x8000_0000
    }
}

impl Outcome {
    /// Places the code for it, if it needs any.
    pub(super) fn emit(&self, builder: &mut Builder) -> Target {
        match self {
            Outcome::Return(action) => Target::Return(*action),
            Outcome::Depends { alternatives, otherwise, is_64bit } => {
                let otherwise = Target::Return(*otherwise);
                alternatives.iter().rev().fold(otherwise, |next, rule| rule.emit(*is_64bit, builder, next))
            }
        }
    }
}

impl Alternative {
    /// All conditions in order; the first that fails goes to `next`.
    fn emit(&self, is_64bit: bool, builder: &mut Builder, next: Target) -> Target {
        let matched = Target::Return(self.action);
        self.conditions
            .iter()
            .rev()
            .fold(matched, |yes, condition| condition.emit(is_64bit, builder, yes, next))
    }
}

/// The conditions of one rule hold together, unless two of them are about the same argument: then each is a rule of
/// its own, as in runc (libseccomp takes an argument once per rule, and profiles are written for that).
fn alternatives(args: &[LinuxSeccompArg], action: u32) -> Result<Vec<Alternative>> {
    let conditions: Vec<Condition> = args.iter().map(Condition::new).collect::<Result<_>>()?;
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(at, one)| conditions[..at].iter().any(|other| other.index == one.index));
    if repeated {
        return Ok(conditions.into_iter().map(|one| Alternative { conditions: vec![one], action }).collect());
    }
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Alternative { conditions, action }])
}

/// The `SECCOMP_RET_*` value (linux/seccomp.h). ERRNO and TRACE carry a number, EPERM if the profile gives none.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    const EPERM: u32 = 1;
    let data = errno.unwrap_or(EPERM);
    if data > 0xffff {
        return Err(Error::Invalid(format!("errnoRet {data} has more than 16 bits")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
    })
}
