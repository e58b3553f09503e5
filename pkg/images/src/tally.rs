//! How far a pull is, for those who watch it. Who joins a pull sees the figures of whoever began it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use husk_model::Digest;

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

/// How far a layer of a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The digest by which the registry has it.
    pub digest: Digest,
    /// Bytes as the registry has it.
    pub bytes: u64,
    /// Those that have come, or need not. It is unpacked as it comes; whether it is what it shall be shows at its end.
    pub bytes_done: u64,
    /// What is being done.
    pub state: LayerState,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Others come first, or another pull fetches it.
    Waiting,
    /// It comes, and is unpacked.
    Coming,
    /// It was here before.
    Exists,
    /// It is here now.
    Done,
}

const STATES: [LayerState; 4] =
    [LayerState::Waiting, LayerState::Coming, LayerState::Exists, LayerState::Done];

/// The figures of one pull: of its layers, lowest first; none until the manifest is here.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Arc<[Layer]>>);

#[derive(Debug)]
pub(crate) struct Layer {
    digest: Digest,
    bytes: u64,
    bytes_done: AtomicU64,
    state: AtomicU8,
}

impl Tally {
    /// What there is to do. Sizes are a manifest's, and may be anything. An attempt before this one, of which somebody still has the figures,
    /// counts no more.
    pub(crate) fn begin(&self, layers: impl Iterator<Item = (Digest, u64)>) -> Tallied {
        let layer = |(digest, bytes)| Layer {
            digest,
            bytes,
            bytes_done: AtomicU64::new(0),
            state: AtomicU8::new(LayerState::Waiting as u8),
        };
        let layers: Arc<[Layer]> = layers.map(layer).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&layers);
        Tallied(layers)
    }

    pub(crate) fn now(&self) -> PullProgress {
        self.layers().iter().fold(PullProgress::default(), |all, layer| PullProgress {
            layers: all.layers + 1,
            layers_done: all.layers_done
                + u64::from(matches!(layer.state, LayerState::Exists | LayerState::Done)),
            bytes: all.bytes.saturating_add(layer.bytes),
            bytes_done: all.bytes_done.saturating_add(layer.bytes_done),
        })
    }

    pub(crate) fn layers(&self) -> Vec<LayerProgress> {
        let layers = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let shown = |layer: &Layer| LayerProgress {
            digest: layer.digest.clone(),
            bytes: layer.bytes,
            bytes_done: layer.bytes_done.load(Relaxed),
            state: STATES[usize::from(layer.state.load(Relaxed))],
        };
        layers.iter().map(shown).collect()
    }
}

/// The layers of a pull, for those who bring them.
#[derive(Debug, Clone)]
pub(crate) struct Tallied(Arc<[Layer]>);

impl Tallied {
    /// The layer of this number, which there is.
    pub(crate) fn layer(&self, number: usize) -> TalliedLayer {
        TalliedLayer { layers: Arc::clone(&self.0), number }
    }
}

/// A layer, for whoever brings it.
#[derive(Debug, Clone)]
pub(crate) struct TalliedLayer {
    layers: Arc<[Layer]>,
    number: usize,
}

impl TalliedLayer {
    fn layer(&self) -> &Layer {
        &self.layers[self.number]
    }

    /// It is here, and all its bytes, whoever brought them.
    pub(crate) fn ends(&self, state: LayerState) {
        let layer = self.layer();
        layer.bytes_done.store(layer.bytes, Relaxed);
        layer.state.store(state as u8, Relaxed);
    }

    /// It is fetched from its beginning. For whoever takes the bytes in.
    pub(crate) fn comes(&self) -> Box<dyn FnMut(u64) + Send> {
        let layer = self.layer();
        layer.bytes_done.store(0, Relaxed);
        layer.state.store(LayerState::Coming as u8, Relaxed);
        let own = self.clone();
        Box::new(move |more| {
            own.layer().bytes_done.fetch_add(more, Relaxed);
        })
    }

    /// It did not come; another attempt may follow.
    pub(crate) fn failed(&self) {
        let layer = self.layer();
        layer.bytes_done.store(0, Relaxed);
        layer.state.store(LayerState::Waiting as u8, Relaxed);
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

    fn digest(number: u8) -> Digest {
        Digest::from_sha256(&[number; 32])
    }

    #[test]
    fn what_a_failed_attempt_brought_does_not_count() {
        let tally = Tally::default();
        let layers = tally.begin([(digest(1), 70), (digest(2), 30)].into_iter());
        layers.layer(1).ends(LayerState::Exists);
        let first = layers.layer(0);
        first.comes()(50);
        assert_eq!(tally.now().bytes_done, 80);
        first.failed();
        assert_eq!(tally.layers()[0].state, LayerState::Waiting);
        let mut counter = first.comes();
        counter(40);
        assert_eq!(tally.now(), PullProgress { layers: 2, layers_done: 1, bytes: 100, bytes_done: 70 });
        let coming =
            LayerProgress { digest: digest(1), bytes: 70, bytes_done: 40, state: LayerState::Coming };
        assert_eq!(tally.layers()[0], coming);
        counter(30);
        first.ends(LayerState::Done);
        assert_eq!(tally.now(), PullProgress { layers: 2, layers_done: 2, bytes: 100, bytes_done: 100 });
    }

    #[test]
    fn a_pull_that_begins_again_counts_from_its_beginning() {
        let tally = Tally::default();
        let former = tally.begin([(digest(1), 70)].into_iter());
        former.layer(0).ends(LayerState::Done);
        tally.begin([(digest(1), 70)].into_iter());
        former.layer(0).comes()(5);
        assert_eq!(tally.now(), PullProgress { layers: 1, layers_done: 0, bytes: 70, bytes_done: 0 });
    }

    #[test]
    fn sizes_may_be_anything() {
        let tally = Tally::default();
        let layers = tally.begin([(digest(1), u64::MAX), (digest(2), u64::MAX)].into_iter());
        for number in [0, 1] {
            layers.layer(number).ends(LayerState::Done);
        }
        assert_eq!(tally.now().bytes_done, u64::MAX);
    }

    #[test]
    fn one_pull_has_one_tally_as_long_as_anybody_pulls() {
        let tallies = Tallies::default();
        let first = tallies.of("image");
        assert!(Arc::ptr_eq(&first, &tallies.of("image")));
        assert!(!Arc::ptr_eq(&first, &tallies.of("another")));
        first.begin([(digest(1), 1)].into_iter());
        drop(first);
        assert_eq!(tallies.of("image").now(), PullProgress::default());
        assert_eq!(tallies.0.lock().unwrap().len(), 1, "nothing is kept of those that ended");
    }
}
