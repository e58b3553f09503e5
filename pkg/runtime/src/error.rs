//! Why a child could not be cloned at all. What goes wrong inside it comes as a [`crate::Failure`].

use rustix::io::Errno;

/// Result of a spawn.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A spawn that made no child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan is contradictory or asks for something this runtime does not do.
    #[error("{0}")]
    InvalidPlan(String),
    /// A system call of the parent failed.
    #[error("{intent}")]
    Sys {
        /// What it was for.
        intent: &'static str,
        /// The call.
        #[source]
        source: Errno,
    },
    /// As [`Self::Sys`], with the call's arguments.
    #[error("{intent}")]
    Call {
        /// What it was for.
        intent: &'static str,
        /// The call.
        #[source]
        source: husk_sys::Error,
    },
}
