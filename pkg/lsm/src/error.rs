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
}

impl Classify for LsmError {
    fn kind(&self) -> Kind {
        match self {
            LsmError::NoAppArmor { .. } | LsmError::NotLoaded { .. } => Kind::InvalidArgument,
            LsmError::Load { .. } => Kind::FailedPrecondition,
        }
    }
}
