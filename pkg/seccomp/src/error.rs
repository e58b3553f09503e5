//! The errors of this crate.

use husk_model::{Classify, Kind};

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a profile.
    #[error("seccomp profile is not valid JSON of the OCI or Docker form")]
    Json(#[source] serde_json::Error),
    /// The file says something that contradicts itself or the format.
    #[error("seccomp profile: {0}")]
    Invalid(String),
    /// It asks for something husk does not do.
    #[error("seccomp profile: {0} is not supported")]
    Unsupported(&'static str),
    /// The kernel takes at most 4096 instructions.
    #[error("seccomp profile compiles to {0} instructions; the kernel takes at most 4096")]
    TooLong(usize),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Json(_) | Error::Invalid(_) | Error::TooLong(_) => Kind::InvalidArgument,
            Error::Unsupported(_) => Kind::Unimplemented,
        }
    }
}
