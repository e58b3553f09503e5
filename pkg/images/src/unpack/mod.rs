//! Unpacks the archive of one layer into a directory of its own, in the form overlayfs reads.
//!
//! Nothing of the archive is trusted: names are resolved component by component below the layer's directory descriptor
//! ([`tree`]), everything that it spends is counted and bounded ([`limits`]), and attributes that would steer overlayfs are
//! dropped. A layer needs no parent: whiteouts become 0:0 devices and opaque markers. What may depend on the layers below
//! is reported in [`Unpacked`] and settled by `compose` when the image is put together.

mod apply;
mod attributes;
pub(crate) mod copy;
pub(crate) mod limits;
pub(crate) mod merged;
mod notes;
pub(crate) mod record;
pub(crate) mod tree;

use std::{io, path::PathBuf};

use husk_model::{Digest, Kind};

use crate::tar::TarError;

pub(crate) use apply::unpack;

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

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive's format.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The compressed stream is damaged.
    #[error("decompress")]
    Decompress(#[source] io::Error),
    /// A member cannot be what it says.
    #[error("member {path:?}: {reason}")]
    Member {
        /// The member's path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The layer exceeds a bound.
    #[error("the {of} has more than {limit} {what}")]
    TooLarge {
        /// Layer or image.
        of: &'static str,
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// The disk would be filled.
    #[error("the disk is almost full: {free} {what} left; remove images or enlarge it")]
    DiskFull {
        /// What is left.
        free: u64,
        /// Bytes or inodes.
        what: &'static str,
    },
    /// A file operation failed.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which member.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Fewer or more bytes than declared.
    #[error("the {what} has {actual} bytes where {expected} were declared")]
    Length {
        /// What was measured.
        what: &'static str,
        /// As declared.
        expected: u64,
        /// As received.
        actual: u64,
    },
    /// The content is not what its digest says.
    #[error(
        "the {what} has digest {actual} where {expected} was declared; it was altered on its way or in the registry"
    )]
    Digest {
        /// Blob or unpacked archive.
        what: &'static str,
        /// As declared.
        expected: Digest,
        /// As received.
        actual: Digest,
    },
    /// The source of the bytes ended early, for a reason that is reported elsewhere.
    #[error("the download was interrupted")]
    Interrupted,
}

impl From<rustix::io::Errno> for UnpackError {
    /// A walk through the layer failed between two entries.
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io { step: "walk through", path: "the layer".to_owned(), source: errno.into() }
    }
}

impl UnpackError {
    /// The stored layer cannot be read back.
    pub(crate) fn replay(source: io::Error) -> Self {
        Self::Io { step: "read back", path: "the stored layer".to_owned(), source }
    }

    /// What the failure means to a caller.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => crate::error::io_kind(source),
            Self::DiskFull { .. } | Self::TooLarge { .. } => Kind::ResourceExhausted,
            Self::Interrupted => Kind::Aborted,
            _ => Kind::DataLoss,
        }
    }
}

/// A path of an archive in a form that can be shown.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars().take(300).collect()
}
