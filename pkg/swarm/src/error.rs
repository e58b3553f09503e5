//! Why something is refused, or failed.

use std::{io, path::PathBuf};

use husk_model::{Classify, Kind};

/// The outcome of what is done to a swarm.
pub type Result<T, E = SwarmError> = std::result::Result<T, E>;

/// A refusal or a failure. Where clients read the text, it is Docker's.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// There is no swarm, and the request is about one.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NotManager,
    /// There is no swarm to leave.
    #[error("This node is not part of a swarm")]
    NotIn,
    /// There is a swarm already.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    AlreadyIn,
    /// Its records are sealed.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it."
    )]
    Locked,
    /// Its records cannot be read.
    #[error(
        "the swarm's records cannot be read: {0}. Mend them and restart huskd, or leave the swarm with --force"
    )]
    Failed(String),
    /// What it had is being removed.
    #[error("This node is leaving its swarm: what the swarm had is being removed; try again")]
    Leaving,
    /// The last manager leaves only when it is told to.
    #[error(
        "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
    )]
    LastManager,
    /// It is not locked.
    #[error("swarm is not locked")]
    NotLocked,
    /// The key opens nothing.
    #[error("unlock failed: invalid key")]
    WrongKey,
    /// The client saw an older state of the object.
    #[error("update out of sequence")]
    OutOfSequence,
    /// There is no such object.
    #[error("{what} {name} not found")]
    Absent {
        /// `node`, `secret`, `config`, `service`, `task`.
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// Several ids begin so.
    #[error("{what} {name} is ambiguous: several ids begin so")]
    Ambiguous {
        /// As of [`SwarmError::Absent`].
        what: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("{what} {name} already exists: name conflicts with an existing object")]
    Exists {
        /// As of [`SwarmError::Absent`].
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Something needs it.
    #[error("{what} '{name}' is in use by the following service(s): {users}")]
    InUse {
        /// `secret`, `config`, `network`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Names of services.
        users: String,
    },
    /// The request cannot be.
    #[error("{0}")]
    Wrong(String),
    /// It needs what a swarm of one node has not.
    #[error("{0}")]
    Missing(String),
    /// There are as many as there may be.
    #[error("there are {most} {what} already, the most that a swarm of husk has")]
    TooMany {
        /// Plural.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// There is no room for more.
    #[error("{what} have at most {most} bytes together in a swarm of husk")]
    Full {
        /// Plural.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// A file or directory of the swarm failed.
    #[error("{step} {path}")]
    Disk {
        /// `read`, `write`, `remove`.
        step: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is not what husk writes.
    #[error(
        "the swarm's record {path} cannot be understood: {reason}; put it back from a copy, or remove {dir} to be without a swarm"
    )]
    Broken {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// The swarm's directory.
        dir: PathBuf,
    },
}

impl SwarmError {
    /// A request that cannot be, with the reason.
    pub(crate) fn wrong(reason: impl Into<String>) -> Self {
        Self::Wrong(reason.into())
    }

    /// For `map_err`: a step with a file failed.
    pub(crate) fn disk(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { step, path, source }
    }
}

impl Classify for SwarmError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotManager
            | Self::NotIn
            | Self::AlreadyIn
            | Self::Locked
            | Self::Leaving
            | Self::LastManager => Kind::Unavailable,
            Self::Failed(_) => Kind::Unavailable,
            Self::NotLocked | Self::Exists { .. } => Kind::AlreadyExists,
            Self::Absent { .. } => Kind::NotFound,
            Self::WrongKey
            | Self::OutOfSequence
            | Self::Ambiguous { .. }
            | Self::InUse { .. }
            | Self::Wrong(_) => Kind::InvalidArgument,
            Self::Missing(_) => Kind::Unimplemented,
            Self::TooMany { .. } | Self::Full { .. } => Kind::ResourceExhausted,
            Self::Disk { source, .. } => Kind::of_io(source),
            Self::Broken { .. } => Kind::DataLoss,
        }
    }
}

/// A stranger's word, as a message quotes it.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
