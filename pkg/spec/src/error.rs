//! Why a spec cannot be made.

use husk_model::{Classify, Kind};
use oci_spec::OciSpecError;

/// Why a spec cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the request nor the image says what to run.
    #[error("image {image} names no command and the request gives none")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// A capability that Linux does not have.
    #[error("unknown capability {name:?}")]
    UnknownCapability {
        /// As in the request.
        name: String,
    },
    /// A resource limit that Linux does not have.
    #[error("unknown resource limit {name}")]
    UnknownRlimit {
        /// As the spec would have it.
        name: String,
    },
    /// A number that does not fit the spec's type.
    #[error("{field} {value} is too large")]
    TooLarge {
        /// Field of the request.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The spec's own types refused a value.
    #[error("compose the OCI spec")]
    Compose(#[from] OciSpecError),
}

impl Classify for SpecError {
    fn kind(&self) -> Kind {
        match self {
            SpecError::NoCommand { .. }
            | SpecError::UnknownCapability { .. }
            | SpecError::UnknownRlimit { .. }
            | SpecError::TooLarge { .. } => Kind::InvalidArgument,
            SpecError::Compose(_) => Kind::Internal,
        }
    }
}
