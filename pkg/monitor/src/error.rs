//! What can go wrong between huskd and a monitor.

use std::{fmt, io, path::PathBuf, time::Duration};

use husk_model::{Classify, Kind};
use husk_proto::podmon;

/// Failure of a call to a monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A step on this side of the socket failed.
    #[error("{step} {}", path.display())]
    Local {
        /// What was attempted.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No monitor lives behind this pod directory: it died, or the files are of another boot.
    #[error("monitor of {} is gone: {reason}", pod_dir.display())]
    Gone {
        /// The pod directory.
        pod_dir: PathBuf,
        /// How that is known.
        reason: String,
    },
    /// The connection ended while the call was in flight.
    #[error("{call}: the monitor closed the connection")]
    Disconnected {
        /// Which call.
        call: &'static str,
    },
    /// The monitor did not answer in time. What it does for the call goes on.
    #[error("{call}: no answer from the monitor within {after:?}")]
    Deadline {
        /// Which call.
        call: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The monitor answered with an error.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The monitor's answer is not one to this call.
    #[error("{call}: unexpected answer from the monitor")]
    Protocol {
        /// Which call.
        call: &'static str,
    },
    /// A request that cannot be sent.
    #[error("{call}: request of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Which call.
        call: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl MonitorError {
    /// Whether no monitor lives behind the pod directory, so that its pod is dead.
    pub fn is_gone(&self) -> bool {
        matches!(self, MonitorError::Gone { .. })
    }
}

impl Classify for MonitorError {
    fn kind(&self) -> Kind {
        match self {
            MonitorError::Local { .. } | MonitorError::Protocol { .. } => Kind::Internal,
            MonitorError::Gone { .. } | MonitorError::Disconnected { .. } => Kind::Unavailable,
            MonitorError::Deadline { .. } => Kind::DeadlineExceeded,
            MonitorError::TooLarge { .. } => Kind::ResourceExhausted,
            MonitorError::Remote(error) => error.kind(),
        }
    }
}

/// An error as the monitor tells it. Displays as one line:
/// `create container 3f…: mount /data (from /nope): No such file or directory`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// The call, and the container's short id if it names one.
    pub context: String,
    /// Its kind.
    pub kind: Kind,
    /// The step that failed.
    pub step: String,
    /// What the step was applied to; may be empty.
    pub object: String,
    /// Kernel error number; 0 if none.
    pub errno: i32,
    /// More about it; may be empty.
    pub detail: String,
}

impl RemoteError {
    pub(crate) fn new(context: String, error: podmon::Error) -> Self {
        Self {
            context,
            kind: error.code().into(),
            step: error.step,
            object: error.object,
            errno: error.errno,
            detail: error.detail,
        }
    }
}

impl Classify for RemoteError {
    fn kind(&self) -> Kind {
        self.kind
    }
}

impl std::error::Error for RemoteError {}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.context, self.step)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", husk_sys::reason(self.errno))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use husk_proto::podmon::error::Code;

    use super::*;

    #[test]
    fn a_remote_error_reads_as_one_sentence_with_step_object_origin_and_reason() {
        let error = podmon::Error {
            code: Code::NotFound.into(),
            step: "mount".into(),
            object: "/data".into(),
            errno: 2,
            detail: "from /nope".into(),
        };
        let error = RemoteError::new("create container x".into(), error);
        assert_eq!(
            error.to_string(),
            "create container x: mount /data (from /nope): No such file or directory"
        );
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
