//! A cgroup of ours: killed and removed without ever being waited for.
//!
//! Killing may take many steps (`husk_cgroup::Killing`), of which one is made at each turn of the loop. A group that is
//! still populated is looked at again, soon at first, since most processes leave within a millisecond; the kernel's own
//! notification, which may come ten late, takes over from there where there is one.

use std::time::{Duration, Instant};

use husk_cgroup::{Cgroup, Killing, Step, Watch};

use crate::{
    core::Core,
    fault::{describe, fault_of},
    journal::journal,
    poll::{Interest, Source},
};

/// A group, until it is removed.
#[derive(Debug)]
pub struct Group {
    cgroup: Option<Cgroup>,
    /// A kill that is under way.
    killing: Option<Killing>,
    /// Since when it is to be removed.
    waited_since: Option<Instant>,
    /// What tells that it is empty.
    watch: Option<Watch>,
    /// What is reported when it is to go on.
    source: Source,
    /// After how long somebody wants to know that it is still there.
    patience: Duration,
}

impl Group {
    /// `source` is reported when [`Self::kill_on`] has something to do, or else when the group may be empty, and just after
    /// `patience` for it is over.
    pub fn new(cgroup: Cgroup, source: Source, patience: Duration) -> Self {
        let (killing, waited_since, watch) = (None, None, None);
        Self { cgroup: Some(cgroup), killing, waited_since, watch, source, patience }
    }

    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Whether the kernel killed a process of it for memory.
    pub fn was_short_of_memory(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills().unwrap_or(0) > 0)
    }

    /// SIGKILL to everything in it; begun, if it takes long.
    pub fn kill(&mut self, core: &mut Core) {
        let Some(cgroup) = self.cgroup.as_ref().filter(|_| self.killing.is_none()) else { return };
        match cgroup.begin_kill() {
            Ok(None) => {}
            Ok(killing) => {
                self.killing = killing;
                self.kill_on(core);
            }
            Err(error) => self.complain(&error),
        }
    }

    /// Goes on with a kill that is under way; false when none is.
    pub fn kill_on(&mut self, core: &mut Core) -> bool {
        let Some(killing) = &mut self.killing else { return false };
        match killing.step() {
            Ok(Step::Again) => {
                // At the next turn of the loop: others come in between.
                core.poller.set_deadline(self.source, Instant::now());
                return true;
            }
            Ok(Step::Done) => {
                let (rounds, found) = (killing.rounds(), killing.found());
                if rounds > FEW_ROUNDS {
                    journal!("kill {}: {rounds} rounds for {found} processes", self.name());
                }
            }
            Err(error) => self.complain(&error),
        }
        self.killing = None;
        if self.waited_since.is_some() {
            self.look_again(core);
        }
        true
    }

    fn complain(&self, error: &husk_cgroup::Error) {
        journal!("kill {}: {}", self.name(), describe(&fault_of(error)));
    }

    fn name(&self) -> &str {
        self.cgroup.as_ref().map_or("a cgroup", |cgroup| cgroup.path().as_str())
    }

    /// Removes it unless something lives in it; true when it is gone.
    #[must_use = "one that stays has to be looked at again"]
    pub fn try_remove(&mut self, core: &Core) -> bool {
        self.waited_since.get_or_insert_with(Instant::now);
        if self.watch.as_mut().is_some_and(Watch::is_populated) {
            return false;
        }
        if self.cgroup.as_ref().is_none_or(try_remove) {
            self.let_go(core);
        }
        self.cgroup.is_none()
    }

    /// Whether it may be waited for any longer.
    pub fn is_worth_waiting(&self) -> bool {
        self.waited() <= self.patience
    }

    fn waited(&self) -> Duration {
        self.waited_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Lets it be looked at again: when it is empty, or in a while.
    pub fn look_again(&mut self, core: &mut Core) {
        if self.killing.is_some() {
            // Its next step is due already, and the look comes after the last.
            return;
        }
        let waited = self.waited();
        if waited >= WATCHED_FROM && self.watch.is_none() {
            self.watch = self.cgroup.as_ref().and_then(|cgroup| cgroup.watch().ok()?);
            if let Some(watch) = &self.watch
                && core.poller.add(watch, self.source, Interest::Change).is_err()
            {
                self.watch = None;
            }
        }
        // Empty, and still there: a v1 hierarchy hears of an end later than the v2 tree, and tells of nothing.
        let pause = match self.watch.as_mut().is_some_and(Watch::is_populated) {
            true => WATCHED,
            false => next_look(waited),
        };
        let left = self.patience.saturating_sub(waited);
        let pause = if left.is_zero() { pause } else { pause.min(left.saturating_add(FIRST_LOOK)) };
        core.poller.set_deadline(self.source, Instant::now() + pause);
    }

    /// Has nothing to do with it any more, whatever is left of it.
    pub fn let_go(&mut self, core: &Core) {
        if let Some(watch) = self.watch.take() {
            core.poller.remove(&watch);
        }
        (self.killing, self.cgroup) = (None, None);
    }

    /// The group itself, if something in it keeps it from being removed.
    pub fn into_rest(mut self, core: &Core) -> Option<Cgroup> {
        if self.try_remove(core) {
            return None;
        }
        let cgroup = self.cgroup.take();
        self.let_go(core);
        cgroup
    }
}

/// Takes back a group for which nothing came to live: at most a child of ours that ends by itself is in it.
pub fn undo(cgroup: &Cgroup) {
    if let Ok(Some(mut killing)) = cgroup.begin_kill() {
        // Whatever this step does not reach ends by itself.
        let _ = killing.step();
    }
    // What stays goes with the pod's own.
    let _ = try_remove(cgroup);
}

/// Removes a group unless a process still lives in it; true when it is gone. Never waits for a process.
#[must_use = "one that stays has to be looked at again"]
pub fn try_remove(cgroup: &Cgroup) -> bool {
    cgroup.remove_if_empty().unwrap_or(false)
}

/// Rounds that a kill takes where forks are refused, and one to spare. More of them are worth a line in monitor.log.
const FEW_ROUNDS: usize = 4;
/// How soon a group that was still populated is first looked at again. A process may leave its cgroup a moment after it
/// can be reaped (seen on Linux 6.18).
const FIRST_LOOK: Duration = Duration::from_micros(100);
/// A process in uninterruptible sleep may stay in its group for days.
const SELDOM: Duration = Duration::from_secs(1);
/// From when on the kernel's notification is waited for: it tells of one change in ten milliseconds at most, and the last
/// one may have been the birth of the group's process.
const WATCHED_FROM: Duration = Duration::from_millis(10);
/// How seldom a watched group is looked at, and killed again, all the same.
const WATCHED: Duration = Duration::from_secs(10);

/// When to look again at a group that has been waited for this long. In proportion: a wait ends at most a quarter too
/// late (a doubling one ended up to twice as late as it could), and still takes few looks however long it is.
pub fn next_look(waited: Duration) -> Duration {
    (waited / 4).clamp(FIRST_LOOK, SELDOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_takes_few_looks_and_ends_soon_after_it_could() {
        for needed in [0, 1, 3, 20, 180, 360, 4900].map(Duration::from_millis) {
            let (mut waited, mut looks) = (Duration::ZERO, 0);
            while waited < needed {
                waited += next_look(waited);
                looks += 1;
            }
            assert!(looks <= 60, "{looks} looks for {needed:?}");
            assert!(waited <= needed * 5 / 4 + 2 * FIRST_LOOK, "{waited:?} for {needed:?}");
        }
        assert_eq!(next_look(Duration::from_secs(86_400)), SELDOM);
    }
}
