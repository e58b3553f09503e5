//! The limits of a container after a change.

use husk_model::{BlockIo, Resources};

/// The limits after a change: what it sets replaces, what it leaves out stays.
pub(crate) fn merge(old: &Resources, change: &Resources) -> Resources {
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = old.unified.clone();
    unified.extend(change.unified.clone());
    Resources {
        cpu_period: change.cpu_period.or(old.cpu_period),
        cpu_quota: change.cpu_quota.or(old.cpu_quota),
        cpu_shares: change.cpu_shares.or(old.cpu_shares),
        memory_limit: change.memory_limit.or(old.memory_limit),
        memory_swap_limit: change.memory_swap_limit.or(if change.memory_limit.is_some() {
            None
        } else {
            old.memory_swap_limit
        }),
        memory_reservation: change.memory_reservation.or(old.memory_reservation),
        block_io: if change.block_io == BlockIo::default() { &old.block_io } else { &change.block_io }
            .clone(),
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: text(&change.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &old.cpuset_mems),
        hugepages: if change.hugepages.is_empty() { old.hugepages.clone() } else { change.hugepages.clone() },
        pids_limit: change.pids_limit.or(old.pids_limit),
        unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let old = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(64),
            memory_swap_limit: Some(64),
            ..Default::default()
        };
        let change = Resources { memory_limit: Some(96), ..Default::default() };
        let merged = merge(&old, &change);
        assert_eq!((merged.cpu_shares, merged.memory_limit), (Some(512), Some(96)));
        assert_eq!(
            merged.memory_swap_limit, None,
            "a swap limit below the new memory limit would be refused by the kernel"
        );
    }
}
