//! A streaming tar reader for hostile input: ustar, PAX and GNU headers, sparse files, no seeking, bounded memory. And the headers
//! of archives that are made here (`writer`).
//!
//! The `tar` crate unpacks by path string, and its reader hides the bytes between the members; both are needed here: the
//! extractor works through directory descriptors, and the recorder keeps every byte that is not file content so that an
//! export reproduces the archive bit for bit. Decision 21 weighs the crates.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use header::{EntryKind, TarEntry};
pub(crate) use reader::{Sink, TarReader};
pub(crate) use writer::{END, header, padding, sparse_map};

/// Size of a header and granule of the format.
pub(crate) const BLOCK: usize = 512;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream under the archive failed.
    #[error("read the archive")]
    Read(#[source] std::io::Error),
    /// The archive ends within a member.
    #[error("the archive is truncated after {offset} bytes")]
    Truncated {
        /// Bytes that were there.
        offset: u64,
    },
    /// A header is malformed.
    #[error("malformed header at byte {offset}: {reason}")]
    Header {
        /// Where.
        offset: u64,
        /// What.
        reason: &'static str,
    },
    /// The stream goes on after the archive's end.
    #[error("more than {limit} bytes follow the end of the archive")]
    Trailing {
        /// The bound.
        limit: u64,
    },
    /// A member type that no image needs.
    #[error("member {path:?} has the unknown type {kind:?}")]
    Kind {
        /// The member.
        path: String,
        /// Its type flag.
        kind: char,
    },
}
