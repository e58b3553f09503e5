//! Why there is no plan.

use std::{io, path::PathBuf};

use husk_config::ConfigError;

/// Why a configuration could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The root is not a directory that can be opened.
    #[error("{path}: cannot be opened as the root of a node", path = path.display())]
    Root {
        /// As it was given.
        path: PathBuf,
        /// Of the system.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read. A loop of symbolic links is told here too (`Too many levels of symbolic links`).
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// As the node sees it.
        path: PathBuf,
        /// Of the system.
        #[source]
        source: io::Error,
    },
    /// A file that has to be there: the one that `--config` names, or one that `imports` names.
    #[error("{path}: there is no such file, and {wanted_by} wants it", path = path.display())]
    Missing {
        /// As the node sees it.
        path: PathBuf,
        /// Who names it.
        wanted_by: String,
    },
    /// A device, a FIFO, a directory where a file should be.
    #[error("{path}: is not a regular file", path = path.display())]
    NotAFile {
        /// As the node sees it.
        path: PathBuf,
    },
    /// A file is larger than configuration ever is.
    #[error("{path}: is larger than {limit} bytes", path = path.display())]
    TooLarge {
        /// As the node sees it.
        path: PathBuf,
        /// Bytes that are read of one file.
        limit: u64,
    },
    /// More files and directories than a configuration ever has, or more bytes in them.
    #[error("{path}: the configuration goes beyond {limit} {what}", path = path.display())]
    TooMany {
        /// Where the bound was met.
        path: PathBuf,
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// Text is expected.
    #[error("{path}: is not UTF-8 at byte {at}", path = path.display())]
    NotText {
        /// As the node sees it.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        at: usize,
    },
    /// The file is not in its format.
    #[error("{path}: {reason}", path = path.display())]
    Syntax {
        /// As the node sees it.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Tables in tables without end.
    #[error("{path}: tables are nested deeper than {limit}", path = path.display())]
    TooDeep {
        /// As the node sees it.
        path: PathBuf,
        /// Levels.
        limit: usize,
    },
    /// What was translated is not a configuration of husk: a mistake in this crate.
    #[error("what was made of it is no configuration of husk")]
    Refused(#[source] ConfigError),
}

/// What this crate's functions come to.
pub(crate) type Result<T, E = MigrateError> = std::result::Result<T, E>;
