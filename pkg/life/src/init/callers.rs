//! Calls that wait for an end.

/// StopContainer and RemoveContainer calls, each answered once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers<C> {
    stops: Vec<C>,
    removals: Vec<C>,
}

impl<C> Default for Callers<C> {
    fn default() -> Self {
        Self { stops: Vec::new(), removals: Vec::new() }
    }
}

impl<C: PartialEq> Callers<C> {
    pub(super) fn add_stop(&mut self, caller: C) {
        self.stops.push(caller);
    }

    pub(super) fn add_removal(&mut self, caller: C) {
        self.removals.push(caller);
    }

    /// Takes a stop back; false when there is no such.
    pub(super) fn drop_stop(&mut self, caller: &C) -> bool {
        let before = self.stops.len();
        self.stops.retain(|stop| stop != caller);
        self.stops.len() < before
    }

    /// The stops and the removals, to be answered.
    pub(super) fn into_parts(self) -> (Vec<C>, Vec<C>) {
        (self.stops, self.removals)
    }
}
