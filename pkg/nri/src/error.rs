//! Why a request failed because of a plugin.

use std::{io, path::PathBuf};

use husk_model::{Classify, Kind};

/// Why a request failed because of a plugin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NriError {
    /// The plugin's answer is an error.
    #[error("NRI plugin {plugin} refused {request}: {message}")]
    Refused {
        /// `index-name`.
        plugin: String,
        /// The request.
        request: &'static str,
        /// In its words.
        message: String,
    },
    /// The plugin gave no answer, and wants requests to fail then.
    #[error("NRI plugin {plugin} did not answer {request}: {reason}")]
    NoAnswer {
        /// `index-name`.
        plugin: String,
        /// The request.
        request: &'static str,
        /// What happened.
        reason: String,
    },
    /// A validating plugin refused what others want.
    #[error("NRI plugin {plugin} rejected the adjustments of container {container}: {reason}")]
    Rejected {
        /// `index-name`.
        plugin: String,
        /// The container.
        container: String,
        /// In its words.
        reason: String,
    },
    /// Two plugins want the same thing.
    #[error("NRI plugins {first} and {second} both set {field} of container {container}")]
    Conflict {
        /// `index-name` of the one that was asked first.
        first: String,
        /// `index-name` of the other one.
        second: String,
        /// What both set.
        field: String,
        /// The container.
        container: String,
    },
    /// A plugin wants something that husk does not do.
    #[error("NRI plugin {plugin}: {field}: {what}")]
    Unsupported {
        /// `index-name`.
        plugin: String,
        /// Field of its answer.
        field: &'static str,
        /// Why not.
        what: &'static str,
    },
    /// A plugin wants something that makes no sense.
    #[error("NRI plugin {plugin}: {field}: {reason}")]
    Invalid {
        /// `index-name`.
        plugin: String,
        /// Field of its answer.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Classify for NriError {
    fn kind(&self) -> Kind {
        match self {
            NriError::Unsupported { .. } => Kind::Unimplemented,
            NriError::NoAnswer { .. } => Kind::Unavailable,
            NriError::Refused { .. }
            | NriError::Rejected { .. }
            | NriError::Conflict { .. }
            | NriError::Invalid { .. } => Kind::FailedPrecondition,
        }
    }
}

/// Why plugins cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("nri.plugin_dir: read {}", path.display())]
pub struct StartError {
    /// The directory.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub source: io::Error,
}
