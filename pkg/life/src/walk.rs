//! Walks through the monitor's machines: every sequence of events up to a length.

use std::{collections::BTreeMap, fmt::Debug};

/// A life with everything that was done in it.
pub(crate) trait Story: Clone {
    type Event;

    /// One of each event that can happen now, apart from what it brings along; with the name of the call that it is, if it is
    /// one.
    fn events(&self) -> Vec<(&'static str, Self::Event)>;

    /// Lets the event happen and checks what must hold at every step; false when it was refused.
    fn happen(&mut self, call: &'static str, event: Self::Event) -> bool;
}

/// Lets every sequence of at most `left` events happen; how many were not refused.
pub(crate) fn walk<S: Story>(story: &S, left: usize) -> usize {
    if left == 0 {
        return 0;
    }
    let mut steps = 0;
    for (call, event) in story.events() {
        let mut next = story.clone();
        if next.happen(call, event) {
            steps += 1 + walk(&next, left - 1);
        }
    }
    steps
}

/// Calls that a machine has taken, by who makes them, and whether each was answered.
#[derive(Clone, Default)]
pub(crate) struct Calls(BTreeMap<u32, (&'static str, bool)>);

impl Calls {
    /// A caller who has not called yet.
    pub(crate) fn next_caller(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(caller, _)| caller + 1)
    }

    /// The next caller's call was taken; an event that is no call has no name.
    pub(crate) fn take(&mut self, call: &'static str) {
        if !call.is_empty() {
            self.0.insert(self.next_caller(), (call, false));
        }
    }

    /// The call is answered now, and was not before; what it is.
    pub(crate) fn answer(&mut self, caller: u32) -> &'static str {
        let (call, answered) = self.0.get_mut(&caller).expect("only calls that were taken are answered");
        assert!(!std::mem::replace(answered, true), "{call} is answered once");
        call
    }

    /// Fails when somebody still waits.
    pub(crate) fn assert_answered(&self, life: &impl Debug) {
        for (call, answered) in self.0.values() {
            assert!(answered, "{call} is answered by then: {life:?}");
        }
    }
}
