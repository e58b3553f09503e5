//! Removal and collection.

use std::sync::Arc;

use husk_model::ImageId;

use super::{Shared, db::Changes, state::State};
use crate::{Reference, Result};

impl Shared {
    /// Removes the image of `name`. Callers are served one after the other, so each returns after the image is gone.
    pub(super) fn remove(&self, name: &str, meanings: Option<&[Reference]>) -> Result<()> {
        let db = self.db();
        let Some(image) = self.snapshot().resolve(name, meanings).map(Arc::clone) else { return Ok(()) };
        self.drop_image(&db, &image.id)
    }

    /// Removes an image with all its names. The layers of one that is used stay until nobody does.
    pub(super) fn drop_image(&self, db: &super::Db, id: &ImageId) -> Result<()> {
        let mut state = self.state();
        let Some(slot) = state.images.get(id) else { return Ok(()) };
        if slot.is_used() {
            let mut record = slot.record.clone();
            record.hidden = true;
            record.tags.clear();
            record.digests.clear();
            drop(state);
            db.apply(&Changes { put_images: vec![record.clone()], ..Changes::default() })?;
            state = self.state();
            let mut unused = false;
            if let Some(slot) = state.images.get_mut(id) {
                slot.record = record;
                unused = !slot.is_used();
            }
            self.publish(&state);
            drop(state);
            // The last lease may have ended while the record was written.
            if unused { self.delete(db, vec![id.clone()]) } else { Ok(()) }
        } else {
            drop(state);
            self.delete(db, vec![id.clone()])
        }
    }

    /// Deletes hidden images that nobody uses: the one named, or all.
    pub(super) fn collect(&self, only: Option<&ImageId>) -> Result<()> {
        let db = self.db();
        let unused: Vec<ImageId> = {
            let state = self.state();
            let images = state.images.iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
            images
                .filter(|(_, slot)| slot.record.hidden && !slot.is_used())
                .map(|(id, _)| id.clone())
                .collect()
        };
        if unused.is_empty() { Ok(()) } else { self.delete(&db, unused) }
    }

    pub(super) fn delete(&self, db: &super::Db, ids: Vec<ImageId>) -> Result<()> {
        let drop_layers = unreferenced_without(&self.state(), &ids);
        let changes = Changes { drop_layers, drop_images: ids, ..Changes::default() };
        db.apply(&changes)?;
        let mut state = self.state();
        for id in &changes.drop_images {
            let Some(slot) = state.images.remove(id) else { continue };
            for key in slot.record.layers {
                if let Some(layer) = state.layers.get_mut(&key) {
                    layer.images -= 1;
                }
            }
        }
        let mut gone = Vec::new();
        for key in &changes.drop_layers {
            let Some(layer) = state.layers.get_mut(key) else { continue };
            // A pull that has pinned it will commit it again.
            layer.committed = false;
            if layer.pins == 0 {
                gone.push(layer.record.number);
                state.layers.remove(key);
            }
        }
        self.publish(&state);
        drop(state);
        gone.into_iter().for_each(|number| self.discard(number));
        Ok(())
    }
}

/// Layers that no image has once `ids` are gone.
fn unreferenced_without(state: &State, ids: &[ImageId]) -> Vec<String> {
    let mut keys: Vec<&String> =
        ids.iter().filter_map(|id| state.images.get(id)).flat_map(|slot| &slot.record.layers).collect();
    keys.sort();
    let mut unreferenced = Vec::new();
    for group in keys.chunk_by(|a, b| a == b) {
        if state.layers.get(group[0]).is_some_and(|layer| layer.images as usize == group.len()) {
            unreferenced.push(group[0].clone());
        }
    }
    unreferenced
}
