//! An image of the files of a root, which come as an archive without any metadata.

use std::{io::Read, sync::Arc};

use husk_model::ImageId;

use super::{
    NewConfig,
    commit::{layer_of, made_of, record, tag},
    config,
};
use crate::{ImageStore, Result, layer, pipeline::Source, stop::Stop, store::blocking};

/// What to make of an archive of files.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// What the image says of itself.
    pub new: NewConfig,
    /// The name that it gets, if any: a tag, in any spelling. An image that had it loses it.
    pub name: Option<String>,
}

impl ImageStore {
    /// Makes an image of one layer, which is `archive`: a tar, plain or compressed by gzip or zstd. `progress` is told how many bytes were
    /// read. `archive` is read on a thread for it; its end, or an error of it, must come when nobody sends any more.
    ///
    /// # Errors
    /// [`ImageError::NewLayer`](crate::ImageError::NewLayer) for an archive that no layer may be, and as [`Self::commit`].
    pub async fn import_root(
        self: &Arc<Self>,
        archive: impl Read + Send + 'static,
        request: ImportRequest,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<ImageId> {
        let name = request.name.as_deref().map(tag).transpose()?;
        config::build(None, &request.new, &[], true)?;
        let (shared, stop) = (Arc::clone(&self.shared), Stop::default());
        let _with_this_task = stop.on_drop();
        let mut done = 0;
        let count = move |more| {
            done += more;
            progress(done);
        };
        let id = blocking("importing files", move || {
            let source = Source::Stream(Box::new(archive), Box::new(count));
            let (diff_id, pin) = layer_of(&shared, source, &[], &stop)?;
            let config = config::build(None, &request.new, &[diff_id], true)?;
            record(&shared, made_of(config, vec![pin], name), &stop)
        })
        .await?;
        layer::give_memory_back();
        Ok(id)
    }
}
