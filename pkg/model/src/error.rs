//! The one classification of errors: every crate's error type says which [`Kind`] it is, and `pkg/cri` maps a kind to
//! a gRPC status in a single exhaustive match.

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
