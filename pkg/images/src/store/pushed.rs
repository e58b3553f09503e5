//! What a push leaves on record: the digest that the image has there, and the blobs that the registry knows its layers by.

use husk_model::ImageId;

use super::{
    BlobSource, Shared,
    commit::{losers, merge},
    db::Changes,
};
use crate::Result;

/// Blobs kept on record for a layer; the oldest go first.
const SOURCES_MAX: usize = 32;

impl Shared {
    /// Records that the registry has the image as `name` (`host/repository@digest`), and its layers, lowest first, as `blobs`.
    pub(crate) fn pushed(&self, id: &ImageId, name: &str, blobs: Vec<BlobSource>) -> Result<()> {
        let db = self.db();
        let mut changes = Changes::default();
        {
            let state = self.state();
            // Removed meanwhile: then there is nothing to say it of.
            let Some(slot) = state.images.get(id).filter(|slot| !slot.record.hidden) else { return Ok(()) };
            let mut record = slot.record.clone();
            let name = name.to_owned();
            changes.put_images = losers(&state, id, &[&name]);
            merge(&mut record.digests, &[name]);
            for (key, blob) in record.layers.iter().zip(blobs) {
                let Some(layer) = state.layers.get(key) else { continue };
                let mut layer = layer.record.clone();
                layer.sources.retain(|known| *known != blob);
                layer.sources.push(blob);
                let surplus = layer.sources.len().saturating_sub(SOURCES_MAX);
                layer.sources.drain(..surplus);
                changes.put_layers.push((key.clone(), layer));
            }
            changes.put_images.push(record);
        }
        db.apply(&changes)?;
        let mut state = self.state();
        for record in changes.put_images {
            if let Some(slot) = state.images.get_mut(&record.id) {
                slot.record = record;
            }
        }
        for (key, record) in changes.put_layers {
            if let Some(slot) = state.layers.get_mut(&key) {
                slot.record = record;
            }
        }
        self.publish(&state);
        Ok(())
    }
}
