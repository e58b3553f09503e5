//! How far a pull is, for those who watch it. Who joins a pull sees the figures of whoever began it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How far a pull is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers of the image; 0 until its manifest is here.
    pub layers: u64,
    /// Those that are unpacked, or were there before.
    pub layers_done: u64,
    /// Bytes of all layers as the registry has them.
    pub bytes: u64,
    /// Those that have come, or need not.
    pub bytes_done: u64,
}

/// The figures of one pull.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    layers: AtomicU64,
    layers_done: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

impl Tally {
    /// What there is to do. Sizes are a manifest's, and may be anything.
    pub(crate) fn begin(&self, sizes: impl Iterator<Item = u64>) {
        let (layers, bytes) =
            sizes.fold((0, 0u64), |(layers, bytes), size| (layers + 1, bytes.saturating_add(size)));
        self.layers.store(layers, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// A layer is there; `bytes` of it were not counted as they came.
    pub(crate) fn layer(&self, bytes: u64) {
        self.layers_done.fetch_add(1, Relaxed);
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    /// Bytes that need not come.
    pub(crate) fn came(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn now(&self) -> PullProgress {
        PullProgress {
            layers: self.layers.load(Relaxed),
            layers_done: self.layers_done.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            bytes_done: self.bytes_done.load(Relaxed),
        }
    }
}

/// Bytes of one attempt to fetch a layer, which count until it fails.
#[derive(Debug)]
pub(crate) struct Attempt {
    tally: Arc<Tally>,
    bytes: Arc<AtomicU64>,
}

impl Attempt {
    pub(crate) fn of(tally: &Arc<Tally>) -> Self {
        Self { tally: Arc::clone(tally), bytes: Arc::default() }
    }

    /// For whoever takes the bytes in.
    pub(crate) fn counter(&self) -> Box<dyn FnMut(u64) + Send> {
        let (tally, bytes) = (Arc::clone(&self.tally), Arc::clone(&self.bytes));
        Box::new(move |more| {
            bytes.fetch_add(more, Relaxed);
            tally.bytes_done.fetch_add(more, Relaxed);
        })
    }

    /// Another attempt fetches the layer from its beginning.
    pub(crate) fn failed(self) {
        self.tally.bytes_done.fetch_sub(self.bytes.load(Relaxed), Relaxed);
    }
}

/// The figures of all pulls under way, by the key of their flight.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<HashMap<String, Weak<Tally>>>);

impl Tallies {
    /// That of this pull, which others may have begun.
    pub(crate) fn of(&self, key: &str) -> Arc<Tally> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|_, tally| tally.strong_count() > 0);
        if let Some(tally) = tallies.get(key).and_then(Weak::upgrade) {
            return tally;
        }
        let tally = Arc::default();
        tallies.insert(key.to_owned(), Arc::downgrade(&tally));
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_attempt_brought_does_not_count() {
        let tally = Arc::new(Tally::default());
        tally.begin([70, 30].into_iter());
        tally.layer(30);
        let first = Attempt::of(&tally);
        first.counter()(50);
        first.failed();
        let second = Attempt::of(&tally);
        let mut counter = second.counter();
        counter(40);
        assert_eq!(tally.now(), PullProgress { layers: 2, layers_done: 1, bytes: 100, bytes_done: 70 });
        counter(30);
        tally.layer(0);
        assert_eq!(tally.now(), PullProgress { layers: 2, layers_done: 2, bytes: 100, bytes_done: 100 });
    }

    #[test]
    fn one_pull_has_one_tally_as_long_as_anybody_pulls() {
        let tallies = Tallies::default();
        let first = tallies.of("image");
        assert!(Arc::ptr_eq(&first, &tallies.of("image")));
        assert!(!Arc::ptr_eq(&first, &tallies.of("another")));
        first.layer(1);
        drop(first);
        assert_eq!(tallies.of("image").now(), PullProgress::default());
        assert_eq!(tallies.0.lock().unwrap().len(), 1, "nothing is kept of those that ended");
    }
}
