//! Why a layer was refused: each variant names the step and the member.

use std::io;

use husk_model::{Digest, Kind};
use rustix::io::Errno;

use crate::tar::TarError;

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

impl From<Errno> for UnpackError {
    /// A walk through the layer failed between two entries.
    fn from(errno: Errno) -> Self {
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
            Self::Io { source, .. } => io_kind(source),
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

/// The path is made presentable only when there is an error: this is on the way of every file of a pull.
pub(crate) fn io_error(step: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> UnpackError {
    move |errno| UnpackError::Io { step, path: shown(path), source: errno.into() }
}

/// The kind of a failed file operation. A file of ours that ends early or cannot be read as what it is was damaged.
pub(crate) fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Kind::DataLoss,
        _ => Kind::of_io(error),
    }
}
