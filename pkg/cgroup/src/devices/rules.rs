//! Device rules: what they mean, and their form as a v1 list.
//!
//! The meaning is the same everywhere: for each of read, write and mknod, the last rule that matches the device and
//! names that access decides; no rule means no access.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{Error, Result};

/// mknod(2), as `BPF_DEVCG_ACC_MKNOD`.
pub(crate) const MKNOD: u8 = 1;
/// Reading, as `BPF_DEVCG_ACC_READ`.
pub(crate) const READ: u8 = 2;
/// Writing, as `BPF_DEVCG_ACC_WRITE`.
pub(crate) const WRITE: u8 = 4;
/// Everything.
pub(crate) const ALL: u8 = MKNOD | READ | WRITE;

/// Block or character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Block,
    Char,
}

/// One rule; `None` matches anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    pub(crate) kind: Option<Kind>,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: u8,
}

impl Rule {
    /// Whether it says everything about every device, so that no rule before it matters.
    pub(crate) fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// Checks the rules of a request. FIFOs are no devices to the kernel: their rules are dropped.
pub(crate) fn parse(devices: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    devices.iter().filter(|device| device.typ() != Some(LinuxDeviceType::P)).map(parse_one).collect()
}

fn parse_one(device: &LinuxDeviceCgroup) -> Result<Rule> {
    let invalid =
        |reason: &str| Error::InvalidValue { setting: "devices", reason: format!("{device}: {reason}") };
    let kind = match device.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
        LinuxDeviceType::P => return Err(invalid("a FIFO is no device")),
    };
    let number = |value: Option<i64>| match value {
        // -1 is the runtimes' spelling of a wildcard.
        None | Some(-1) => Ok(None),
        // The program compares with a signed immediate; the kernel's majors have 12 bits and minors 20.
        Some(value) => match u32::try_from(value) {
            Ok(number) if i32::try_from(number).is_ok() => Ok(Some(number)),
            _ => Err(invalid("the number is out of range")),
        },
    };
    let mut access = 0;
    for letter in device.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            _ => return Err(invalid("access is made of r, w and m")),
        };
    }
    if access == 0 {
        if device.allow() {
            return Err(invalid("allows no access"));
        }
        access = ALL;
    }
    Ok(Rule {
        allow: device.allow(),
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
        access,
    })
}

type Key = (Kind, Option<u32>, Option<u32>);

/// The rules as the v1 controller keeps them: a default and exceptions from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListState {
    pub(crate) default_allow: bool,
    exceptions: BTreeMap<Key, u8>,
}

impl ListState {
    /// # Errors
    /// A rule takes a part out of a broader exception: a list can't say that, and the kernel would silently ignore it.
    pub(crate) fn of(rules: &[Rule]) -> Result<Self> {
        let mut state = ListState { default_allow: false, exceptions: BTreeMap::new() };
        for rule in rules {
            if rule.is_total() {
                state = ListState { default_allow: rule.allow, exceptions: BTreeMap::new() };
                continue;
            }
            let kinds = match &rule.kind {
                Some(kind) => std::slice::from_ref(kind),
                None => &[Kind::Block, Kind::Char],
            };
            for kind in kinds {
                if rule.allow == state.default_allow {
                    state.back_to_default(*kind, rule)?;
                } else {
                    *state.exceptions.entry((*kind, rule.major, rule.minor)).or_default() |= rule.access;
                }
            }
        }
        Ok(state)
    }

    /// `b 8:* rw` and the like, one exception each.
    pub(crate) fn exceptions(&self) -> impl Iterator<Item = String> + '_ {
        self.exceptions.iter().map(|((kind, major, minor), access)| {
            let kind = match kind {
                Kind::Block => 'b',
                Kind::Char => 'c',
            };
            let number = |n: &Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
            let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
                .into_iter()
                .filter_map(|(bit, letter)| (access & bit != 0).then_some(letter))
                .collect();
            format!("{kind} {}:{} {access}", number(major), number(minor))
        })
    }

    fn back_to_default(&mut self, kind: Kind, rule: &Rule) -> Result<()> {
        let covers = |of: Option<u32>, what: Option<u32>| of.is_none() || of == what;
        for ((of, major, minor), access) in &mut self.exceptions {
            if *of != kind || *access & rule.access == 0 {
                continue;
            }
            if covers(rule.major, *major) && covers(rule.minor, *minor) {
                *access &= !rule.access;
            } else if (covers(*major, rule.major) || covers(rule.major, *major))
                && (covers(*minor, rule.minor) || covers(rule.minor, *minor))
            {
                let reason =
                    format!("{rule:?} takes a part out of a broader rule, which cgroup v1 can't express");
                return Err(Error::InvalidValue { setting: "devices", reason });
            }
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rule(
        allow: bool,
        kind: Option<Kind>,
        major: Option<u32>,
        minor: Option<u32>,
        access: u8,
    ) -> Rule {
        Rule { allow, kind, major, minor, access }
    }

    const DENY: Rule = Rule { allow: false, kind: None, major: None, minor: None, access: ALL };

    fn lines(rules: &[Rule]) -> Vec<String> {
        ListState::of(rules).unwrap().exceptions().collect()
    }

    #[test]
    fn exceptions_merge_and_are_taken_back() {
        let null = |allow, access| rule(allow, Some(Kind::Char), Some(1), Some(3), access);
        assert_eq!(lines(&[DENY, null(true, READ), null(true, WRITE)]), ["c 1:3 rw"]);
        assert_eq!(lines(&[DENY, null(true, ALL), null(false, WRITE)]), ["c 1:3 rm"]);
        assert_eq!(lines(&[DENY, null(true, ALL), DENY]), Vec::<String>::new());
        let all_mem = rule(false, Some(Kind::Char), Some(1), None, ALL);
        assert_eq!(lines(&[DENY, null(true, ALL), all_mem]), Vec::<String>::new());
    }

    #[test]
    fn a_rule_for_any_kind_becomes_one_of_each() {
        assert_eq!(lines(&[DENY, rule(true, None, None, None, MKNOD)]), ["b *:* m", "c *:* m"]);
    }

    #[test]
    fn a_hole_in_a_broad_exception_is_refused_on_v1() {
        let all = rule(true, Some(Kind::Char), None, None, ALL);
        let hole = rule(false, Some(Kind::Char), Some(1), Some(1), WRITE);
        assert!(ListState::of(&[DENY, all, hole]).is_err());
        // Of another access it is no hole.
        let mknod = rule(true, Some(Kind::Char), None, None, MKNOD);
        assert!(ListState::of(&[DENY, mknod, hole]).is_ok());
    }

    #[test]
    fn with_everything_allowed_the_exceptions_deny() {
        let allow = Rule { allow: true, ..DENY };
        let state = ListState::of(&[allow, rule(false, Some(Kind::Block), Some(8), None, ALL)]).unwrap();
        assert!(state.default_allow);
        assert_eq!(state.exceptions().collect::<Vec<_>>(), ["b 8:* rwm"]);
    }
}
