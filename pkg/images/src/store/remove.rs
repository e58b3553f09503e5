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
        if self.delete(db, vec![id.clone()])? {
            return Ok(());
        }
        let hidden = self.state().images.get(id).map(|slot| slot.record.clone());
        let Some(mut record) = hidden else { return Ok(()) };
        record.hidden = true;
        record.tags.clear();
        record.digests.clear();
        db.apply_freeing(&Changes { put_images: vec![record.clone()], ..Changes::default() })?;
        let mut state = self.state();
        if let Some(slot) = state.images.get_mut(id) {
            slot.record = record;
        }
        self.publish(&state);
        drop(state);
        // The last lease may have ended while the record was written.
        self.delete(db, vec![id.clone()]).map(drop)
    }

    /// Deletes hidden images that nobody uses: the one named, or all.
    pub(super) fn collect(&self, only: Option<&ImageId>) -> Result<()> {
        let db = self.db();
        let hidden: Vec<ImageId> = {
            let state = self.state();
            let images = state.images.iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
            images.filter(|(_, slot)| slot.record.hidden).map(|(id, _)| id.clone()).collect()
        };
        self.delete(&db, hidden).map(drop)
    }

    /// Deletes those of `ids` that nobody uses; says whether these were all.
    pub(super) fn delete(&self, db: &super::Db, mut ids: Vec<ImageId>) -> Result<bool> {
        let asked = ids.len();
        let drop_layers = {
            let mut state = self.state();
            // Seen unused and marked under one lock: a lease comes before this or not at all.
            ids.retain(|id| state.images.get(id).is_some_and(|slot| !slot.is_used()));
            mark(&mut state, &ids, true);
            unreferenced_without(&state, &ids)
        };
        if ids.is_empty() {
            return Ok(asked == 0);
        }
        let is_all = ids.len() == asked;
        let changes = Changes { drop_layers, drop_images: ids, ..Changes::default() };
        if let Err(error) = db.apply_freeing(&changes) {
            mark(&mut self.state(), &changes.drop_images, false);
            return Err(error);
        }
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
        Ok(is_all)
    }
}

/// Says of images whether they are on their way out.
fn mark(state: &mut State, ids: &[ImageId], leaving: bool) {
    for id in ids {
        if let Some(slot) = state.images.get_mut(id) {
            slot.leaving = leaving;
        }
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

#[cfg(test)]
mod tests {
    use super::super::commit::tests::{image, open};
    use crate::stop::Stop;

    #[tokio::test]
    async fn who_gets_a_lease_while_an_image_is_removed_keeps_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for _ in 0..50 {
            let new = image(&store, 1);
            let id = new.id.clone();
            store.shared.commit(new, &Stop::default()).unwrap();
            store.idle().await;
            let lease = std::thread::scope(|scope| {
                let remover = scope.spawn(|| store.shared.remove(id.as_str(), None).unwrap());
                let mut lease = None;
                while lease.is_none() && !remover.is_finished() {
                    // The removal has begun once it has the database.
                    if store.shared.db.try_lock().is_err() {
                        lease = store.acquire(&id).ok();
                    }
                }
                remover.join().unwrap();
                lease
            });
            store.idle().await;
            assert!(store.list().is_empty());
            if let Some(lease) = lease {
                let stack = store.rootfs(&id).expect("it is leased");
                assert!(stack.base.join(&stack.lowers[0]).is_dir());
                drop(lease);
                store.idle().await;
            }
            assert!(store.rootfs(&id).is_err());
        }
    }
}
