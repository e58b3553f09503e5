//! From an error's kind to a gRPC status: the only place where that is decided, for the CRI and for husk's own services.

use std::error::Error;

use husk_model::{Classify, Kind, chain};
use tonic::{Code, Status};

fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Aborted => Code::Aborted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::DataLoss => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

/// gRPC puts the message into a header, and a client refuses headers that are too large.
const MAX_MESSAGE: usize = 4096;

/// The status of an error: its kind's code, and its chain of causes as the message.
pub fn status<E: Error + Classify>(error: E) -> Status {
    let code = code(error.kind());
    let mut message = chain(&error);
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    Status::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("mount /data")]
    struct Outer(#[source] std::io::Error);

    impl Classify for Outer {
        fn kind(&self) -> Kind {
            Kind::NotFound
        }
    }

    #[test]
    fn the_message_is_the_chain_of_causes() {
        let status = status(Outer(std::io::Error::other("no such thing")));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "mount /data: no such thing"));
    }
}
