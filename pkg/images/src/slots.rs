//! How many layers are fetched and unpacked at once, and who may have how many.
//!
//! A pull has one slot of its own for as long as it has a layer to fetch; further ones are from a number that all share. So one that
//! a slow registry holds up, or many, keep no other from its layers. A pull has never more than the shared number together.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Pulls that have a slot of their own at a time. A layer that waits for bytes costs two threads and less than 2 MiB.
const PULLS: usize = 64;

/// The slots of a node.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    shared: Semaphore,
    own: Semaphore,
}

/// The slots of one pull.
#[derive(Debug)]
pub(crate) struct Turns<'a> {
    slots: &'a Slots,
    all: Semaphore,
    own: Semaphore,
}

/// Leave to fetch one layer, until it is dropped.
#[derive(Debug)]
#[must_use = "the slot is free again when this is dropped"]
pub(crate) struct Slot<'a>(#[expect(dead_code, reason = "held, not read")] [Option<SemaphorePermit<'a>>; 3]);

impl Slots {
    /// `most` layers besides the first of each pull.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { most, shared: Semaphore::new(most), own: Semaphore::new(PULLS) }
    }

    pub(crate) fn turns(&self) -> Turns<'_> {
        Turns { slots: self, all: Semaphore::new(self.most), own: Semaphore::new(1) }
    }
}

impl Turns<'_> {
    /// Waits for a slot. The semaphores are never closed, so only impossible errors are passed over.
    pub(crate) async fn slot(&self) -> Slot<'_> {
        let all = self.all.acquire().await.ok();
        let own = async { (self.own.acquire().await.ok(), self.slots.own.acquire().await.ok()) };
        tokio::select! {
            biased;
            (own, of_node) = own => Slot([all, own, of_node]),
            shared = self.slots.shared.acquire() => Slot([all, shared.ok(), None]),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn take<'a>(turns: &'a Turns<'_>) -> Vec<Slot<'a>> {
        std::iter::from_fn(|| turns.slot().now_or_never()).collect()
    }

    #[test]
    fn a_pull_has_no_more_than_all_and_every_other_has_one_of_its_own() {
        let slots = Slots::new(3);
        let (slow, second, third) = (slots.turns(), slots.turns(), slots.turns());
        let held = take(&slow);
        assert_eq!(held.len(), 3);
        let more = take(&second);
        assert_eq!(more.len(), 2, "its own and what was left");
        let own = take(&third);
        assert_eq!(own.len(), 1);
        drop((held, more));
        assert_eq!(take(&third).len(), 2);
    }
}
