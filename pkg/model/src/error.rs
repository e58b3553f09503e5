//! The one classification of errors: every crate's error type says which [`Kind`] it is, and `pkg/cri` maps a kind to
//! a gRPC status in a single exhaustive match. And how an error reads.

use std::error::Error;

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
