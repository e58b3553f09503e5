//! Why a question cannot be answered.

use std::io;

use husk_model::{Classify, Kind};
use husk_pods::PodsError;

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    /// Nothing has the name.
    #[error("no pod and no container is {name:?}; `husk ps -a` lists what there is")]
    Nothing {
        /// As in the request.
        name: String,
    },
    /// Several things have the name.
    #[error("{name:?} means {}; name one by its id", .meant.join(" and "))]
    Several {
        /// As in the request.
        name: String,
        /// What it means, each with its id.
        meant: Vec<String>,
    },
    /// A pod was named where a container is needed.
    #[error("pod {pod} has {}; name one of them", .containers.join(", "))]
    WhichContainer {
        /// The pod.
        pod: String,
        /// Its containers, or that there are none.
        containers: Vec<String>,
    },
    /// No log is written.
    #[error("container {id} writes no log: whoever made it asked for none")]
    NoLog {
        /// The container.
        id: String,
    },
    /// The log cannot be read.
    #[error("read the log of container {id}: {path}")]
    Log {
        /// The container.
        id: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It went away meanwhile.
    #[error(transparent)]
    Pods(#[from] PodsError),
}

impl Classify for OperatorError {
    fn kind(&self) -> Kind {
        match self {
            Self::Nothing { .. } => Kind::NotFound,
            Self::Several { .. } | Self::WhichContainer { .. } | Self::NoLog { .. } => {
                Kind::FailedPrecondition
            }
            Self::Log { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Log { source, .. } => Kind::of_io(source),
            Self::Pods(error) => error.kind(),
        }
    }
}

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, OperatorError>;
