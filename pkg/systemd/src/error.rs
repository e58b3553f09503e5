//! The errors of this crate: each names the step, and the unit it was for.

use std::{io, path::PathBuf, time::Duration};

use husk_model::{Classify, Kind};

/// Why a unit could not be made or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// systemd cannot be reached.
    #[error("connect to systemd by {bus}: {reason}")]
    Connect {
        /// The bus.
        bus: String,
        /// The reason.
        reason: String,
    },
    /// systemd refused a call, or it could not be sent.
    #[error("{call} {unit}")]
    Call {
        /// D-Bus method.
        call: &'static str,
        /// The unit.
        unit: String,
        /// The reason.
        #[source]
        source: zbus::Error,
    },
    /// The connection broke while an answer or a job was waited for.
    #[error("{step} {unit}: the connection to systemd broke")]
    Lost {
        /// What was waited for.
        step: &'static str,
        /// The unit.
        unit: String,
    },
    /// systemd, or the bus before it, did not answer.
    #[error("{step} {unit}: systemd did not answer within {after:?}")]
    Deadline {
        /// What was waited for.
        step: &'static str,
        /// The unit.
        unit: String,
        /// How long.
        after: Duration,
    },
    /// The job ended otherwise than wanted.
    #[error("{call} {unit}: the job ended with result {result:?}")]
    Job {
        /// D-Bus method that made the job.
        call: &'static str,
        /// The unit.
        unit: String,
        /// systemd's word for it: `failed`, `canceled`, `timeout`, `dependency`…
        result: String,
    },
    /// The process that began the unit is elsewhere.
    #[error(
        "systemd says that {unit} runs, but its first process is in cgroup {found:?} instead of {expected}"
    )]
    Misplaced {
        /// The unit.
        unit: String,
        /// Where the process should be.
        expected: String,
        /// Where it is; empty when it is gone.
        found: String,
    },
    /// The process that a unit begins with cannot be started.
    #[error("start {}", program.display())]
    Anchor {
        /// The program.
        program: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The delegated cgroups cannot be made.
    #[error(transparent)]
    Cgroup(#[from] husk_cgroup::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Connect { .. } | Error::Lost { .. } => Kind::Unavailable,
            Error::Deadline { .. } => Kind::DeadlineExceeded,
            Error::Cgroup(error) => error.kind(),
            Error::Call { .. } | Error::Job { .. } | Error::Misplaced { .. } | Error::Anchor { .. } => {
                Kind::Internal
            }
        }
    }
}
