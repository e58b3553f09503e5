//! An image that a builder has pushed.

use std::{path::PathBuf, sync::Arc};

use husk_model::{Digest, ImageId};

use crate::{
    ImageError, ImageStore, Progress, Reference, Result,
    archive::{Importer, Report},
    layer,
    manifest::Entry,
    reference::Selector,
    stop::Stop,
    store::blocking,
};

impl ImageStore {
    /// Takes the image whose manifest or index is the blob `top` of `directory`, under these names: full references with a tag. The blobs
    /// lie in `directory` as an OCI layout has them (`blobs/sha256/<hex>`); layers that the store has may be absent. Everything is checked as in a
    /// pull; nothing is left behind by a failure.
    ///
    /// # Errors
    /// [`ImageError::Reference`] for a name without a tag; what a pull fails with otherwise.
    pub async fn take_pushed(
        self: &Arc<Self>,
        directory: PathBuf,
        top: Digest,
        media_type: String,
        names: &[String],
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<ImageId> {
        let names = names.iter().map(|name| tagged(name)).collect::<Result<Vec<_>>>()?;
        let (shared, stop) = (Arc::clone(&self.shared), Stop::default());
        let _with_this_task = stop.on_drop();
        let progress: Arc<Report> = Arc::new(progress);
        let taken = blocking("taking in a built image", move || {
            let importer = Importer::of_layout(&shared, &directory, absent, &progress, &stop);
            importer.take(&Entry::of(&top, media_type), names, Vec::new())
        });
        let id = taken.await?;
        layer::give_memory_back();
        Ok(id)
    }
}

/// The full spelling of a name with a tag.
fn tagged(name: &str) -> Result<String> {
    let reference = Reference::parse(name)?;
    match reference.selector() {
        Selector::Tag(_) => Ok(reference.to_string()),
        Selector::Digest(_) => {
            let reason = "a built image can be given a tag, not a digest";
            Err(ImageError::Reference { reference: name.to_owned(), reason })
        }
    }
}

fn absent(name: &str) -> ImageError {
    ImageError::Archive { reason: format!("{name} was not pushed, and the store does not have it") }
}
