//! The one classification of errors: every crate's error type says which [`Kind`] it is, and `pkg/cri` maps a kind to
//! a gRPC status in a single exhaustive match. And how an error reads.

use std::{error::Error, io};

use serde::{Deserialize, Serialize};

/// What an error means to the caller of an RPC. Each kind corresponds to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The request itself is wrong; repeating it cannot help.
    InvalidArgument,
    /// The object named by the request does not exist.
    NotFound,
    /// The name is taken by an object made from a different request.
    AlreadyExists,
    /// The object exists but is in a state that does not allow the operation.
    FailedPrecondition,
    /// The caller may not do this (a registry refused the credentials, for example).
    PermissionDenied,
    /// The caller must authenticate first.
    Unauthenticated,
    /// A limit was reached: address pool, disk, response size.
    ResourceExhausted,
    /// The operation did not end before its deadline.
    DeadlineExceeded,
    /// The caller went away or the operation was overtaken by a stop.
    Aborted,
    /// A peer (registry, CNI plugin, monitor) cannot be reached now; a retry may succeed.
    Unavailable,
    /// This node or this version cannot do it.
    Unimplemented,
    /// Stored or received data fails its check (digest, checksum, format).
    DataLoss,
    /// A bug or an unexpected failure of the node.
    Internal,
}

impl Kind {
    /// The kind of a failed file operation: a full disk is the node's limit, everything else is unexpected.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::ResourceExhausted,
            _ => Self::Internal,
        }
    }
}

/// Whose fault an error is. It decides how loudly a failed call is told, and of what kind it is that a process could not be
/// set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request's: whoever made it has to change it.
    Caller,
    /// The workload's: its image, its volumes or its credentials are not as they must be.
    Workload,
    /// The node's, or that of somebody whom it depends on: there is no room, no time, no answer.
    Node,
    /// husk's own, or nobody foresaw it.
    Husk,
}

impl Blame {
    /// The kind of an error of which no more is known than this.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Caller => Kind::InvalidArgument,
            Self::Workload => Kind::FailedPrecondition,
            Self::Node => Kind::ResourceExhausted,
            Self::Husk => Kind::Internal,
        }
    }
}

/// Implemented by every error type that can reach an RPC.
pub trait Classify {
    /// The kind of this error.
    fn kind(&self) -> Kind;
}

/// An error with all its causes, on one line. A cause that says what is said already, as behind a transparent wrapper, is
/// not said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Step {
        #[error("mount {0}")]
        Mount(&'static str, #[source] Box<Step>),
        #[error(transparent)]
        Wrapped(Box<Step>),
        #[error("no such thing")]
        Absent,
    }

    #[test]
    fn an_error_is_told_with_every_cause_once() {
        let cause = || Box::new(Step::Absent);
        assert_eq!(chain(&*cause()), "no such thing");
        assert_eq!(chain(&Step::Mount("/data", cause())), "mount /data: no such thing");
        let wrapped = Step::Mount("/data", Box::new(Step::Wrapped(cause())));
        assert_eq!(chain(&Step::Wrapped(Box::new(wrapped))), "mount /data: no such thing");
    }
}
