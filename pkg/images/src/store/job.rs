//! What the janitor is asked to do.

use std::path::PathBuf;

use husk_model::ImageId;

/// Work for the janitor.
#[derive(Debug)]
pub(crate) enum Job {
    /// Delete files and directories that no record names.
    Delete(Vec<PathBuf>),
    /// Write the filesystem's dirty pages and note that these images are on disk.
    Settle(Vec<ImageId>),
    /// Delete this hidden image if it has no users.
    Collect(ImageId),
    /// Tell the sender when everything before this is done.
    Barrier(tokio::sync::oneshot::Sender<()>),
}
