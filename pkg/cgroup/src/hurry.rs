//! Letting a killed group die at once.
//!
//! A process with a pending SIGKILL still needs a CPU to die on, and it gets one as its group's limits say. With the two
//! shares of a BestEffort pod, beside two busy CPUs, single ends took 200 to 500 ms where the median is 2 ms; a group
//! that has used up its quota waits for its next period (Linux before 6.18 throttles in the kernel, too), and one with
//! `cpu.idle` for an idle CPU. So a group in which nothing runs its own code any more gets an ordinary share.

use crate::{Cgroup, Controller};

/// `cpu.shares` and `cpu.weight` of a group that nobody configured: what is killed is worth as much as anybody else,
/// and no more, for the end of a process with much memory takes a while.
const SHARES: u64 = 1024;
const WEIGHT: u64 = 100;

impl Cgroup {
    /// Lifts what keeps the group's processes from the CPU. For a group that was killed and will be removed: nothing
    /// is set back. Limits of the groups above stay: they are somebody else's. Best effort, since the group may be gone.
    pub(crate) fn hurry(&self) {
        let Some((index, _)) = self.dir_of(Controller::Cpu) else { return };
        // An exec's sub-group has none of its own, and the container's are those of the living.
        if self.member(index).is_none_or(|member| !member.own) {
            return;
        }
        let v2 = Some(index) == self.hierarchy.unified();
        let (share, plenty, quota, none) = match v2 {
            true => ("cpu.weight", WEIGHT, "cpu.max", "max"),
            false => ("cpu.shares", SHARES, "cpu.cfs_quota_us", "-1"),
        };
        // Before the share, which the kernel refuses to an idle group.
        if self.number(index, "cpu.idle").is_some_and(|idle| idle != 0) {
            let _ = self.try_write(index, "cpu.idle", "0");
        }
        if self.number(index, share).is_some_and(|present| present < plenty) {
            let _ = self.try_write(index, share, &plenty.to_string());
        }
        // "max 100000" and "-1" are no numbers.
        if self.number(index, quota).is_some() {
            let _ = self.try_write(index, quota, none);
        }
    }

    /// The number that a file begins with.
    fn number(&self, index: usize, file: &str) -> Option<u64> {
        self.read_opt(index, file).ok()??.split_ascii_whitespace().next()?.parse().ok()
    }
}
