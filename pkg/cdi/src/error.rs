//! Why a device cannot be given to a container.

use std::path::PathBuf;

use husk_model::{Classify, Kind};
use oci_spec::OciSpecError;

/// Why a device cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// No file describes it.
    #[error("{name}: no CDI spec on this node has this device{}", notes(.broken))]
    Unknown {
        /// The device.
        name: String,
        /// Files that could not be used and may have had it.
        broken: Vec<String>,
    },
    /// Two files of the same directory describe it.
    #[error("{name}: both {} and {} have this device", first.display(), second.display())]
    Conflict {
        /// The device.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// It needs what husk does not do.
    #[error("{name}: {}: needs {what}, which husk does not support", file.display())]
    Unsupported {
        /// The device.
        name: String,
        /// Where it says so.
        file: PathBuf,
        /// What.
        what: String,
    },
    /// Its description cannot be followed.
    #[error("{name}: {}: {reason}", file.display())]
    Invalid {
        /// The device.
        name: String,
        /// Where it says so.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The OCI spec's own types refused a value.
    #[error("compose the OCI spec")]
    Compose(#[from] OciSpecError),
}

fn notes(broken: &[String]) -> String {
    if broken.is_empty() { String::new() } else { format!(" (not readable: {})", broken.join("; ")) }
}

impl Classify for CdiError {
    fn kind(&self) -> Kind {
        match self {
            CdiError::Unknown { .. } => Kind::NotFound,
            CdiError::Unsupported { .. } => Kind::Unimplemented,
            CdiError::Conflict { .. } | CdiError::Invalid { .. } => Kind::FailedPrecondition,
            CdiError::Compose(_) => Kind::Internal,
        }
    }
}
