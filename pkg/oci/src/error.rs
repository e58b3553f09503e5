//! Why a verb failed. `Display` is one line without its sources, which [`husk_model::chain`] adds; where runc's callers look for
//! words of runc's, they are in it.

use std::{io, path::PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container of this name has a state directory.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// There is one already.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// What runc accepts for a name, and for a path made of it.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// Its init has ended, or was never there.
    #[error("container not running")]
    NotRunning,
    /// It is in another state than the verb needs.
    #[error("{0}")]
    WrongState(String),
    /// `config.json` or another text cannot be read as what it should be.
    #[error("{path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The bundle asks for something that contradicts itself, or that husk does not do.
    #[error("{0}")]
    Invalid(String),
    /// A file or a directory of the node's.
    #[error("{step} {path}")]
    Io {
        /// What it was for.
        step: &'static str,
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The cgroup.
    #[error("cgroup")]
    Cgroup(#[from] husk_cgroup::Error),
    /// The filter.
    #[error("seccomp")]
    Seccomp(#[from] husk_seccomp::Error),
    /// No process could be cloned.
    #[error("unable to start container process")]
    Runtime(#[from] husk_runtime::Error),
    /// The process gave up before it was what it should be.
    #[error("unable to start container process")]
    Process(#[source] husk_runtime::Failure),
    /// A hook failed.
    #[error("{0}")]
    Hook(String),
}

impl Error {
    /// An error of a file.
    pub(crate) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}
