//! What all objects of a swarm have.

use std::collections::BTreeMap;

use husk_model::UnixNanos;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, SwarmError, cut},
    ids,
};

/// Longest name of a secret or config.
const LONGEST_NAME: usize = 64;
/// Labels of one object, together: names and values.
const MOST_LABELS: usize = 64 << 10;

/// Id, version and times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// 25 letters of base 36.
    pub id: String,
    /// Rises with each change of anything in the swarm.
    pub version: u64,
    /// When it was made.
    pub created: UnixNanos,
    /// When it was changed last.
    pub updated: UnixNanos,
}

impl Meta {
    /// Of an object that is made now.
    pub(crate) fn new(version: u64) -> Self {
        let now = husk_node::now();
        Self { id: ids::id(), version, created: now, updated: now }
    }

    /// Of the same object after a change.
    pub(crate) fn next(&self, version: u64) -> Self {
        Self { version, updated: husk_node::now(), ..self.clone() }
    }

    /// Checks that a client changes what it saw.
    ///
    /// # Errors
    /// [`SwarmError::OutOfSequence`].
    pub(crate) fn check(&self, seen: u64) -> Result<()> {
        if seen == self.version { Ok(()) } else { Err(SwarmError::OutOfSequence) }
    }
}

/// The object with this id, else of this name, else whose id alone begins so.
///
/// # Errors
/// [`SwarmError::Absent`], [`SwarmError::Ambiguous`].
pub fn find<'a, T>(
    what: &'static str,
    all: &'a BTreeMap<String, T>,
    wanted: &str,
    name: impl Fn(&T) -> &str,
) -> Result<&'a T> {
    if let Some(object) = all.get(wanted).or_else(|| all.values().find(|object| name(object) == wanted)) {
        return Ok(object);
    }
    let mut begin =
        all.range(wanted.to_owned()..).take_while(|(id, _)| !wanted.is_empty() && id.starts_with(wanted));
    match (begin.next(), begin.next()) {
        (Some((_, object)), None) => Ok(object),
        (Some(_), Some(_)) => Err(SwarmError::Ambiguous { what, name: cut(wanted) }),
        (None, _) => Err(SwarmError::Absent { what, name: cut(wanted) }),
    }
}

/// Checks the name of a secret or config.
///
/// # Errors
/// [`SwarmError::Wrong`].
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let suits = name.len() <= LONGEST_NAME
        && is_end(name.bytes().next())
        && is_end(name.bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match suits {
        true => Ok(()),
        false => Err(SwarmError::wrong(format!(
            "invalid name {:?}, only {LONGEST_NAME} [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]",
            cut(name)
        ))),
    }
}

/// Checks labels.
///
/// # Errors
/// [`SwarmError::Wrong`] when they are too large.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    let size: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    match size <= MOST_LABELS {
        true => Ok(()),
        false => Err(SwarmError::wrong(format!("the labels have more than {MOST_LABELS} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_by_id_name_and_the_beginning_of_an_id() {
        let all = BTreeMap::from([("abc1".to_owned(), "one"), ("abc2".to_owned(), "abc1x")]);
        let find = |wanted| find("secret", &all, wanted, |name: &&str| name).copied();
        assert_eq!(find("abc1").unwrap(), "one");
        assert_eq!(find("abc1x").unwrap(), "abc1x");
        assert_eq!(find("abc2").unwrap(), "abc1x");
        assert!(matches!(find("abc"), Err(SwarmError::Ambiguous { .. })));
        for absent in ["", "abc3", "on"] {
            assert!(matches!(find(absent), Err(SwarmError::Absent { .. })), "{absent}");
        }
    }

    #[test]
    fn names_are_those_that_swarm_takes() {
        for name in ["a", "a.b-c_d", "9", &"a".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "ä", &"a".repeat(65), "../a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
