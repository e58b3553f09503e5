//! Images that are made on this node: of a container's changes, or of the files of a root.
//!
//! A new layer comes about like every other: it is an archive (of the writable layer, put together while it is read; or the one that
//! came), goes through the pipeline of a pull and is known by the digest of that archive. What is new is the configuration
//! (`config`).

mod commit;
mod config;
mod root;

pub use commit::CommitRequest;
#[cfg(feature = "fuzzing")]
pub(crate) use config::build;
pub use config::{Author, NewConfig};
pub use root::ImportRequest;
