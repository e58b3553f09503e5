//! Further names of an image.

use husk_model::ImageId;

use super::{
    Shared,
    commit::{losers, merge},
    db::Changes,
};
use crate::{ImageError, Reference, Result, reference::Selector};

impl Shared {
    /// Gives the image of `image`, which means `meanings` if not what Docker's rule says, the tag `name` in full form, and takes it from whoever has it. Durable when this returns.
    pub(super) fn tag(&self, image: &str, meanings: Option<&[Reference]>, name: &str) -> Result<String> {
        let reference = Reference::parse(name)?;
        if let Selector::Digest(_) = reference.selector() {
            let reason = "a name to give has a tag and no digest, which only content decides";
            return Err(ImageError::Reference { reference: name.to_owned(), reason });
        }
        let tag = reference.to_string();
        // Whoever removes or records an image waits meanwhile.
        let db = self.db();
        let absent = || ImageError::NoImage { name: image.chars().take(300).collect() };
        let id: ImageId = self.snapshot().resolve(image, meanings).ok_or_else(absent)?.id.clone();
        let mut records = {
            let state = self.state();
            let slot = state.images.get(&id).ok_or_else(absent)?;
            let mut record = slot.record.clone();
            merge(&mut record.tags, std::slice::from_ref(&tag));
            let mut records = losers(&state, &id, &[&tag]);
            records.push(record);
            records
        };
        db.apply(&Changes { put_images: records.clone(), ..Changes::default() })?;
        let mut state = self.state();
        for record in records.drain(..) {
            if let Some(slot) = state.images.get_mut(&record.id) {
                slot.record = record;
            }
        }
        self.publish(&state);
        Ok(tag)
    }
}
