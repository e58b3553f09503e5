//! Taking names from images, as Docker's clients do it: one name, or the image with all.

use std::{collections::BTreeSet, sync::Arc};

use husk_model::ImageId;

use super::{ImageStore, Shared, blocking, db::Changes};
use crate::{ImageError, Reference, Result, reference::Selector};

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The image.
    pub id: ImageId,
    /// Names that it had, in full.
    pub untagged: Vec<String>,
    /// Whether the image is gone. Layers that other images or containers use stay.
    pub deleted: bool,
}

impl ImageStore {
    /// The image of an id, of a name in any spelling, or of the beginning of an id of any length.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; [`ImageError::Ambiguous`] when several ids begin so.
    pub fn find(&self, name: &str) -> Result<Arc<crate::Image>> {
        let snapshot = self.shared.snapshot();
        let found = snapshot.find(name, self.meanings(name).as_deref());
        match found.as_slice() {
            [] => Err(ImageError::NoImage { name: name.chars().take(300).collect() }),
            [image] => Ok(Arc::clone(image)),
            _ => Err(ImageError::Ambiguous { name: name.to_owned() }),
        }
    }

    /// Takes the name `name`, a tag or digest, from its image. With the last tag of a repository go its digests. An image without any name
    /// left is removed, unless `keep`.
    ///
    /// # Errors
    /// [`ImageError::NoImage`] when no image has the name; when the database cannot be written.
    pub async fn untag(&self, name: &str, keep: bool) -> Result<Removed> {
        let (shared, meanings, name) = (Arc::clone(&self.shared), self.meanings(name), name.to_owned());
        blocking("taking a name from an image", move || shared.untag(&name, meanings.as_deref(), keep)).await
    }

    /// Removes an image with all its names.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; [`ImageError::Named`] when it has names of several repositories and `force` is not set; when the database
    /// cannot be written.
    pub async fn remove_image(&self, id: &ImageId, force: bool) -> Result<Removed> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        blocking("removing an image", move || shared.remove_image(&id, force)).await
    }
}

impl Shared {
    fn untag(&self, name: &str, meanings: Option<&[Reference]>, keep: bool) -> Result<Removed> {
        let absent = || ImageError::NoImage { name: name.chars().take(300).collect() };
        let own = [Reference::parse(name)?];
        let meant = meanings.unwrap_or(&own);
        let db = self.db();
        let (mut record, reference) = {
            let state = self.state();
            let owned = meant.iter().find_map(|meant| Some((state.owner_of(&meant.to_string())?, meant)));
            let (slot, reference) = owned.ok_or_else(absent)?;
            (slot.record.clone(), reference.clone())
        };
        let full = reference.to_string();
        let mut untagged = vec![full.clone()];
        record.tags.retain(|tag| *tag != full);
        record.digests.retain(|digest| *digest != full);
        let of_repository =
            |other: &String| Reference::parse(other).is_ok_and(|other| other.name() == reference.name());
        let is_tag = matches!(reference.selector(), Selector::Tag(_));
        if is_tag && !record.tags.iter().any(of_repository) {
            untagged.extend(record.digests.extract_if(.., |digest| of_repository(digest)));
        }
        let id = record.id.clone();
        let deleted = !keep && record.tags.is_empty() && record.digests.is_empty();
        if deleted {
            self.drop_image(&db, &id)?;
            return Ok(Removed { id, untagged, deleted });
        }
        db.apply_freeing(&Changes { put_images: vec![record.clone()], ..Changes::default() })?;
        let mut state = self.state();
        if let Some(slot) = state.images.get_mut(&id) {
            slot.record = record;
        }
        self.publish(&state);
        Ok(Removed { id, untagged, deleted })
    }

    fn remove_image(&self, id: &ImageId, force: bool) -> Result<Removed> {
        let db = self.db();
        let untagged: Vec<String> = {
            let state = self.state();
            let slot = state.images.get(id).filter(|slot| !slot.record.hidden);
            let slot = slot.ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
            slot.record.tags.iter().chain(&slot.record.digests).cloned().collect()
        };
        let repositories: BTreeSet<String> =
            untagged.iter().filter_map(|name| Some(Reference::parse(name).ok()?.name())).collect();
        if repositories.len() > 1 && !force {
            return Err(ImageError::Named { image: id.clone(), names: untagged });
        }
        self.drop_image(&db, id)?;
        Ok(Removed { id: id.clone(), untagged, deleted: true })
    }
}
