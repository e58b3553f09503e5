//! The errors of this crate.

use std::{io, path::PathBuf};

use husk_model::{Classify, Kind};

/// Why something can't be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The group does not exist: the container has ended.
    #[error("cgroup {path} is gone")]
    Gone {
        /// The group.
        path: String,
    },
    /// The group's files can't be read.
    #[error("statistics of cgroup {path}")]
    Read {
        /// The group.
        path: String,
        /// The reason.
        #[source]
        source: husk_cgroup::Error,
    },
    /// A file or a filesystem can't be read.
    #[error("{operation} {path}")]
    File {
        /// The step.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The background thread can't be started.
    #[error("start the thread that measures writable layers")]
    Thread(#[source] io::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Gone { .. } => Kind::NotFound,
            Error::Read { .. } | Error::File { .. } | Error::Thread(_) => Kind::Internal,
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
