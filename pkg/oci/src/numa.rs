//! Where a container's memory comes from (OCI runtime-spec, config-linux: Memory policy).

use husk_runtime::MemoryPolicy;
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};
use serde_json::Value;

use crate::{Error, Result};

/// More than any kernel has (CONFIG_NODES_SHIFT is 10 at most).
const MAX_NODES: usize = 1024;

/// Says what is wrong with a policy whose mode or flags nobody knows, in words of its own: those of a deserializer name a place in the
/// file alone.
pub(crate) fn check_words(policy: &Value) -> Result<(), String> {
    let known = |value: &Value| serde_json::from_value::<Mode>(value.clone()).is_ok();
    match policy.get("mode") {
        Some(mode) if known(mode) => {}
        None => return Err("invalid memory policy mode: there is none".to_owned()),
        Some(mode) => return Err(format!("invalid memory policy mode: {mode}")),
    }
    let flags = policy.get("flags").and_then(Value::as_array);
    let unknown = |flag: &&Value| serde_json::from_value::<Flag>((*flag).clone()).is_err();
    match flags.into_iter().flatten().find(unknown) {
        Some(flag) => Err(format!("invalid memory policy flag: {flag}")),
        None => Ok(()),
    }
}

/// The policy of a config as the kernel takes it.
///
/// # Errors
/// [`Error::Invalid`]: nodes that no node has, or that do not fit the mode.
pub(crate) fn policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let nodes = nodes(policy.nodes().as_deref().unwrap_or_default())?;
    // linux/mempolicy.h
    let (number, without) = match policy.mode() {
        Mode::MpolDefault => (0, true),
        Mode::MpolPreferred => (1, false),
        Mode::MpolBind => (2, false),
        Mode::MpolInterleave => (3, false),
        Mode::MpolLocal => (4, true),
        Mode::MpolPreferredMany => (5, false),
        Mode::MpolWeightedInterleave => (6, false),
    };
    let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
    if without && count > 0 {
        let text = format!("memory policy: {} mode requires 0 nodes but got {count}", policy.mode());
        return Err(Error::Invalid(text));
    }
    let flag = |flag: &Flag| match flag {
        Flag::MpolFStaticNodes => 1 << 15,
        Flag::MpolFRelativeNodes => 1 << 14,
        Flag::MpolFNumaBalancing => 1 << 13,
    };
    let flags = policy.flags().iter().flatten().map(flag).fold(0, |all, one| all | one);
    Ok(MemoryPolicy { mode: number | flags, nodes })
}

/// A bit for each node of a list (`0-3,7`), the lowest first.
fn nodes(list: &str) -> Result<Vec<u64>> {
    let mut bits = vec![0_u64; MAX_NODES / 64];
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let refuse = || Error::Invalid(format!("invalid memory policy node: {range:?}"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|node| *node < MAX_NODES);
        let (first, last) = (number(first).ok_or_else(refuse)?, number(last).ok_or_else(refuse)?);
        if first > last {
            return Err(refuse());
        }
        (first..=last).for_each(|node| bits[node / 64] |= 1 << (node % 64));
    }
    let used = bits.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    bits.truncate(used);
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Result<MemoryPolicy, String> {
        check_words(&value)?;
        policy(&serde_json::from_value(value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_is_a_number_with_flags_and_a_bit_for_each_node() {
        let interleaved = of(json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-1, 65"})).unwrap();
        assert_eq!(interleaved, MemoryPolicy { mode: 3, nodes: vec![3, 2] });
        let bound = of(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]})).unwrap();
        assert_eq!(bound.mode, 2 | 1 << 15);
        assert_eq!(of(json!({"mode": "MPOL_DEFAULT"})).unwrap(), MemoryPolicy { mode: 0, nodes: vec![] });
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_named() {
        for (value, why) in [
            (json!({}), "invalid memory policy mode"),
            (json!({"mode": "INTERLEAVE"}), "invalid memory policy mode"),
            (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["x"]}), "invalid memory policy flag"),
            (json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}), "invalid memory policy node"),
            (json!({"mode": "MPOL_BIND", "nodes": "3-1"}), "invalid memory policy node"),
            (json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"}), "mode requires 0 nodes but got 8"),
        ] {
            let error = of(value.clone()).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
    }
}
