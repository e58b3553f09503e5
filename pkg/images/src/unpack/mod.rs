//! Unpacks the archive of one layer into a directory of its own, in the form overlayfs reads.
//!
//! Nothing of the archive is trusted: names are resolved component by component below the layer's directory descriptor
//! ([`tree`]), everything that it spends is counted and bounded ([`limits`]), and attributes that would steer overlayfs are
//! dropped. A layer needs no parent: whiteouts become 0:0 devices and opaque markers. What may depend on the layers below
//! is reported in [`Unpacked`] and settled by `compose` when the image is put together.

mod apply;
pub(crate) mod attributes;
pub(crate) mod copy;
mod error;
pub(crate) mod limits;
pub(crate) mod marks;
pub(crate) mod merged;
mod notes;
pub(crate) mod record;
pub(crate) mod space;
pub(crate) mod tree;

use std::path::PathBuf;

pub(crate) use apply::unpack;
pub(crate) use attributes::is_kept;
pub use error::UnpackError;
pub(crate) use error::{io_error, io_kind, shown};

/// Where a layer goes.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// The layer's own, empty directory.
    pub(crate) root: PathBuf,
    /// Files that later members of the same archive replaced are kept below this, for exports.
    pub(crate) aside: PathBuf,
    /// The record that reproduces the archive.
    pub(crate) record: PathBuf,
}

/// What came out of an archive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of content, in blocks as the filesystem allocates them.
    pub(crate) bytes: u64,
    /// Files, directories and links.
    pub(crate) inodes: u64,
    /// Length of the archive.
    pub(crate) archive: u64,
    /// Whether the layer hides everything below it.
    pub(crate) opaque: bool,
    /// Inodes of directories that members are in but that the archive did not describe before them; sorted.
    pub(crate) implied: Vec<u64>,
    /// The layers below may have led a name elsewhere, or have the target of a hard link.
    pub(crate) unsure: bool,
}
