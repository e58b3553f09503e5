//! What keeps layers from being deleted: pins of pulls, leases of containers.

use std::sync::Arc;

use husk_model::ImageId;

use super::{Loose, Shared, db::LayerRecord, job::Job, state::LayerSlot};
use crate::{DiffId, ImageError, Result, ids::ChainId};

/// Keeps the layers of an image while a container uses them. Dropping it never blocks.
#[must_use = "the image's layers may be deleted as soon as the lease is dropped"]
pub struct ImageLease {
    shared: Arc<Shared>,
    id: ImageId,
}

impl std::fmt::Debug for ImageLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ImageLease").field(&self.id).finish()
    }
}

impl ImageLease {
    /// The leased image.
    pub fn id(&self) -> &ImageId {
        &self.id
    }
}

impl Drop for ImageLease {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(slot) = state.images.get_mut(&self.id) else { return };
        slot.leases = slot.leases.saturating_sub(1);
        if slot.record.hidden && !slot.is_used() {
            drop(state);
            self.shared.enqueue(Job::Collect(self.id.clone()));
        }
    }
}

pub(super) fn acquire(shared: &Arc<Shared>, id: &ImageId) -> Result<ImageLease> {
    let mut state = shared.state();
    let slot = state.images.get_mut(id).filter(|slot| !slot.leaving);
    let slot = slot.ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
    slot.leases += 1;
    Ok(ImageLease { shared: Arc::clone(shared), id: id.clone() })
}

/// A complete layer that a pull is about to use.
pub(crate) struct Pin {
    shared: Arc<Shared>,
    pub(crate) key: String,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pin").field(&self.key).finish()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(slot) = state.layers.get_mut(&self.key) else { return };
        slot.pins -= 1;
        if slot.pins == 0 && slot.images == 0 && !slot.committed {
            let number = slot.record.number;
            state.layers.remove(&self.key);
            drop(state);
            self.shared.discard(number);
        }
    }
}

impl Shared {
    /// Pins the layer if the store has it: by diff id, or by chain id where it depends on the layers below.
    pub(crate) fn pin(self: &Arc<Self>, diff_id: &DiffId, chain: &ChainId) -> Option<Arc<Pin>> {
        let mut state = self.state();
        for key in [diff_id.as_str(), chain.as_str()] {
            if let Some(slot) = state.layers.get_mut(key) {
                slot.pins += 1;
                return Some(Arc::new(Pin { shared: Arc::clone(self), key: key.to_owned() }));
            }
        }
        None
    }

    /// Pins the layers of an image, lowest first, with their diff ids.
    pub(crate) fn pins_of(self: &Arc<Self>, id: &ImageId) -> Result<Vec<(DiffId, Arc<Pin>)>> {
        let mut state = self.state();
        let absent = || ImageError::NoImage { name: id.to_string() };
        let keys = state.images.get(id).ok_or_else(absent)?.record.layers.clone();
        let mut pins = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(slot) = state.layers.get_mut(&key) else { continue };
            slot.pins += 1;
            let diff_id = slot.record.diff_id.clone();
            pins.push((diff_id, Arc::new(Pin { shared: Arc::clone(self), key })));
        }
        Ok(pins)
    }

    /// Takes up a layer that was just unpacked. If another pull was faster with the same one, this one's files go.
    pub(crate) fn add_layer(
        self: &Arc<Self>,
        record: LayerRecord,
        loose: Loose,
        chain: &ChainId,
    ) -> Arc<Pin> {
        let is_loose = loose != Loose::default();
        let key = if is_loose { chain.as_str() } else { record.diff_id.as_str() }.to_owned();
        let mut state = self.state();
        let number = record.number;
        let mut mine = false;
        let slot = state.layers.entry(key.clone()).or_insert_with(|| {
            mine = true;
            LayerSlot { record, images: 0, pins: 0, committed: false, loose: is_loose.then_some(loose) }
        });
        slot.pins += 1;
        drop(state);
        if !mine {
            self.discard(number);
        }
        Arc::new(Pin { shared: Arc::clone(self), key })
    }
}
