//! From a status to whose fault it is. What status an error has is decided in `husk_proto::status`.

use husk_model::Blame;
pub(crate) use husk_proto::status::status;
use tonic::{Code, Status};

use crate::convert::Invalid;

/// Whose fault an answer tells of; `None` is no fault.
pub(crate) fn blame(code: Code) -> Option<Blame> {
    match code {
        Code::Ok => None,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Unimplemented
        | Code::OutOfRange => Some(Blame::Caller),
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated | Code::DataLoss => {
            Some(Blame::Workload)
        }
        Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Unavailable
        | Code::Cancelled => Some(Blame::Node),
        Code::Internal | Code::Unknown => Some(Blame::Husk),
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        Status::invalid_argument(invalid.to_string())
    }
}
