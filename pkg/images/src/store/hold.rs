//! Holding images across restarts: for containers that are there without running, of which nobody else tells the store at a start.
//!
//! A lease ends with the process, and whoever has containers takes it again before [`ImageStore::collect`]. A hold is in the image's record
//! until its holder ends it.

use husk_model::ImageId;

use super::{ImageStore, Shared, blocking, db::Changes};
use crate::{ImageError, Result};

/// Longest name of a holder, in bytes.
const HOLDER_MAX: usize = 256;
/// Most holders of one image.
const HOLDERS_MAX: usize = 64 << 10;

impl ImageStore {
    /// Keeps the layers of an image for `holder`, whatever happens to the image and to this process, until [`Self::release`]. Doing it again
    /// changes nothing. Durable when this returns.
    ///
    /// # Errors
    /// [`ImageError::NoImage`], also of an image that was removed; [`ImageError::Holder`] for a name that is empty or too long, or too many of
    /// them; when the database cannot be written.
    pub async fn hold(&self, id: &ImageId, holder: &str) -> Result<()> {
        if holder.is_empty() || holder.len() > HOLDER_MAX {
            return Err(ImageError::Holder { reason: format!("its name has 1 to {HOLDER_MAX} bytes") });
        }
        let (shared, id, holder) = (std::sync::Arc::clone(&self.shared), id.clone(), holder.to_owned());
        blocking("holding an image", move || shared.hold(&id, Some(&holder), None)).await
    }

    /// Ends the hold of `holder`, if there is one. The last one of an image that was removed ends the image.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release(&self, id: &ImageId, holder: &str) -> Result<()> {
        let (shared, id, holder) = (std::sync::Arc::clone(&self.shared), id.clone(), holder.to_owned());
        let released = blocking("releasing an image", move || shared.hold(&id, None, Some(&holder))).await;
        match released {
            Err(ImageError::NoImage { .. }) => Ok(()),
            released => released,
        }
    }

    /// Everybody who holds an image, with what they hold.
    pub fn holders(&self) -> Vec<(ImageId, String)> {
        let state = self.shared.state();
        let holders =
            state.images.iter().flat_map(|(id, slot)| slot.record.holders.iter().map(move |name| (id, name)));
        holders.map(|(id, name)| (id.clone(), name.clone())).collect()
    }

    /// Whether somebody has a lease on the image or holds it.
    pub fn is_used(&self, id: &ImageId) -> bool {
        self.shared.state().images.get(id).is_some_and(super::state::ImageSlot::is_used)
    }
}

impl Shared {
    fn hold(&self, id: &ImageId, add: Option<&str>, remove: Option<&str>) -> Result<()> {
        let db = self.db();
        let mut record = {
            let state = self.state();
            let slot = state.images.get(id).ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
            slot.record.clone()
        };
        let changed = match (add, remove) {
            (Some(holder), _) => record.holders.insert(holder.to_owned()),
            (None, Some(holder)) => record.holders.remove(holder),
            (None, None) => false,
        };
        if !changed {
            return Ok(());
        }
        if record.holders.len() > HOLDERS_MAX {
            return Err(ImageError::Holder { reason: format!("more than {HOLDERS_MAX} hold the image") });
        }
        let changes = Changes { put_images: vec![record.clone()], ..Changes::default() };
        if add.is_some() { db.apply(&changes) } else { db.apply_freeing(&changes) }?;
        let mut state = self.state();
        let Some(slot) = state.images.get_mut(id) else { return Ok(()) };
        slot.record = record;
        let is_hidden = slot.record.hidden;
        drop(state);
        if is_hidden { self.delete(&db, vec![id.clone()]).map(drop) } else { Ok(()) }
    }
}
