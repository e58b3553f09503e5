//! Why a container cannot have the confinement that it asks for.

use husk_model::{Classify, Kind};

/// Why a container cannot have the confinement that it asks for.
#[derive(Debug, thiserror::Error)]
pub enum LsmError {
    /// A profile by name, on a node that enforces none.
    #[error("profile {profile:?}: this node has no AppArmor")]
    NoAppArmor {
        /// As in the request.
        profile: String,
    },
    /// A profile by name that nobody has loaded.
    #[error("profile {profile:?} is not loaded on this node; load it with apparmor_parser first")]
    NotLoaded {
        /// As in the request.
        profile: String,
    },
    /// The default profile cannot be loaded.
    #[error("load the profile {profile:?}: {reason}")]
    Load {
        /// Its name.
        profile: &'static str,
        /// Why.
        reason: String,
    },
    /// A part of the SELinux options is malformed.
    #[error("{option}: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// A context that the node's policy does not know.
    #[error("the SELinux policy of this node does not know the context {context}")]
    Context {
        /// As it was composed.
        context: String,
    },
    /// Every pair of categories is in use.
    #[error("no SELinux level is left for another pod")]
    NoLevel,
    /// The node's SELinux does not answer.
    #[error("SELinux: {what}")]
    SeLinux {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Classify for LsmError {
    fn kind(&self) -> Kind {
        match self {
            LsmError::NoAppArmor { .. }
            | LsmError::NotLoaded { .. }
            | LsmError::Option { .. }
            | LsmError::Context { .. } => Kind::InvalidArgument,
            LsmError::Load { .. } => Kind::FailedPrecondition,
            LsmError::NoLevel => Kind::Unavailable,
            LsmError::SeLinux { .. } => Kind::Internal,
        }
    }
}
