//! Letting a killed group die at once.
//!
//! A process with a pending SIGKILL still needs a CPU to die on, and it gets one as its group's limits say. With the two
//! shares of a BestEffort pod, beside two busy CPUs, single ends took 200 to 500 ms where the median is 2 ms; a group
//! that has used up its quota waits for its next period (Linux before 6.18 throttles in the kernel, too), and one with
//! `cpu.idle` for an idle CPU. So a group in which nothing runs its own code any more gets an ordinary share.

use crate::{Cgroup, Controller, place::Place};

/// `cpu.shares` and `cpu.weight` of a group that nobody configured: what is killed is worth as much as anybody else,
/// and no more, for the end of a process with much memory takes a while.
const SHARES: u64 = 1024;
const WEIGHT: u64 = 100;

impl Cgroup {
    /// Lifts what keeps the group's processes from the CPU. For a group that was killed and will be removed: nothing
    /// is set back. Limits of the groups above stay: they are somebody else's. Best effort, since the group may be gone.
    pub(crate) fn hurry(&self) {
        // An exec's sub-group has none of its own, and the container's are those of the living.
        let Some(place) = self.home(Controller::Cpu).filter(|place| place.is_own()) else { return };
        let (share, plenty, quota, none) = match place.is_v2() {
            true => ("cpu.weight", WEIGHT, "cpu.max", "max"),
            false => ("cpu.shares", SHARES, "cpu.cfs_quota_us", "-1"),
        };
        // Before the share, which the kernel refuses to an idle group.
        if number(place, "cpu.idle").is_some_and(|idle| idle != 0) {
            let _ = place.try_write("cpu.idle", "0");
        }
        if number(place, share).is_some_and(|present| present < plenty) {
            let _ = place.try_write(share, &plenty.to_string());
        }
        // "max 100000" and "-1" are no numbers.
        if number(place, quota).is_some() {
            let _ = place.try_write(quota, none);
        }
    }
}

/// The number that a file begins with.
fn number(place: Place<'_>, file: &str) -> Option<u64> {
    place.read(file).ok()??.split_ascii_whitespace().next()?.parse().ok()
}
