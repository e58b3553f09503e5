//! Images as files: OCI layouts and `docker save` archives, in and out. And a file of any archive (`file`).

mod export;
mod file;
mod import;
mod members;
mod names;
mod reproduce;

pub use export::SaveItem;
pub use file::file_in_archive;
pub(crate) use import::Importer;
pub use import::Loaded;
#[cfg(feature = "fuzzing")]
pub(crate) use import::docker_names;
pub(crate) use reproduce::{Replay, reproduce};

/// How far an import or export is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being worked on: `layer sha256:…`.
    pub what: String,
    /// Bytes of it done.
    pub done: u64,
    /// Its bytes in all.
    pub total: u64,
}

/// Receives progress. Called often, from the thread that works: it must be quick.
pub(crate) type Report = dyn Fn(Progress) + Send + Sync;
