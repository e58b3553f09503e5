//! Unpacks the archive of one layer into a directory of its own, in the form overlayfs reads.
//!
//! Nothing of the archive is trusted: names are resolved by the kernel below the layer's directory descriptor
//! (`openat2(RESOLVE_BENEATH)`), entry counts and sizes are bounded, and attributes that would steer overlayfs are
//! refused. A layer needs no parent: whiteouts become 0:0 devices and opaque markers. What does depend on the layers
//! below (directories that the archive uses without describing, links to files it does not carry) is reported in
//! [`Unpacked`] and settled by `compose` when the image is put together.

mod apply;
mod attributes;
pub(crate) mod record;
pub(crate) mod tree;

use std::{io, path::PathBuf};

use husk_model::{Digest, Kind};

use crate::tar::TarError;

pub(crate) use apply::unpack;

/// Bounds of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of content, and of the archive itself.
    pub(crate) bytes: u64,
    /// Members.
    pub(crate) entries: u64,
}

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
    /// Directories that members are in but that the archive does not describe.
    pub(crate) implicit: Vec<Vec<u8>>,
    /// `(target, link)` of hard links whose target is not in this layer.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
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
    /// A member would land outside of the layer.
    #[error("member {path:?} leaves the layer: {reason}")]
    Escape {
        /// The member's path.
        path: String,
        /// How.
        reason: &'static str,
    },
    /// A member cannot be what it says.
    #[error("member {path:?}: {reason}")]
    Member {
        /// The member's path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The layer exceeds a bound.
    #[error("the layer has more than {limit} {what}")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// The disk would be filled.
    #[error("the disk is almost full: {free} bytes left; remove images or enlarge it")]
    DiskFull {
        /// Bytes left.
        free: u64,
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

impl UnpackError {
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
