//! Why a build, or its daemon, failed.

use std::{io, path::PathBuf, time::Duration};

use husk_images::ImageError;
use husk_model::{Classify, Kind};
use husk_network::NetworkError;

/// The outcome of what concerns builds.
pub type Result<T, E = BuildError> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// buildkitd is not on this node.
    #[error(
        "builds need BuildKit's daemon and {program:?} is not on this node: install buildkitd (0.12 or later) into huskd's PATH, or name it with docker.buildkitd in husk.toml"
    )]
    Missing {
        /// The name or path that was looked for.
        program: PathBuf,
    },
    /// It could not be started, or ended at once.
    #[error("buildkitd did not start: {reason}; its log is {log}")]
    Start {
        /// What it said last, or what became of it.
        reason: String,
        /// Where it writes.
        log: PathBuf,
    },
    /// It did not answer in time.
    #[error("buildkitd did not answer within {} seconds; its log is {log}", .after.as_secs())]
    Slow {
        /// How long it was waited for.
        after: Duration,
        /// Where it writes.
        log: PathBuf,
    },
    /// A file, directory or socket of the builder.
    #[error("{step} {path} for the builder")]
    File {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The builder's network.
    #[error("the network of the builder")]
    Network(#[from] NetworkError),
    /// The image store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The connection to buildkitd broke off.
    #[error("buildkitd broke off {call}: {reason}")]
    Broken {
        /// What was asked of it.
        call: &'static str,
        /// What the connection said.
        reason: String,
    },
    /// buildkitd refused, or the build failed.
    #[error("{message}")]
    Refused {
        /// gRPC's code.
        code: i32,
        /// In buildkitd's words.
        message: String,
    },
    /// What a client asks for is not what it should be.
    #[error("{0}")]
    Request(String),
}

impl BuildError {
    /// For `map_err`: a step with a file.
    pub(crate) fn file(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { step, path, source }
    }
}

impl Classify for BuildError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::Unimplemented,
            Self::Start { .. } | Self::Slow { .. } | Self::Broken { .. } => Kind::Unavailable,
            Self::File { source, .. } => Kind::of_io(source),
            Self::Network(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Request(_) => Kind::InvalidArgument,
            // The codes of gRPC that buildkitd uses (google.rpc.Code).
            Self::Refused { code, .. } => match code {
                1 => Kind::Aborted,
                3 => Kind::InvalidArgument,
                4 => Kind::DeadlineExceeded,
                5 => Kind::NotFound,
                7 => Kind::PermissionDenied,
                8 => Kind::ResourceExhausted,
                9 => Kind::FailedPrecondition,
                12 => Kind::Unimplemented,
                14 => Kind::Unavailable,
                16 => Kind::Unauthenticated,
                _ => Kind::Internal,
            },
        }
    }
}
