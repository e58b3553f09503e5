//! How the kinds of errors travel between a monitor and the daemon.

use husk_model::Kind;

use crate::podmon::error::Code;

impl From<Kind> for Code {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::InvalidArgument => Self::InvalidArgument,
            Kind::NotFound => Self::NotFound,
            Kind::AlreadyExists => Self::AlreadyExists,
            Kind::FailedPrecondition => Self::FailedPrecondition,
            Kind::PermissionDenied => Self::PermissionDenied,
            Kind::ResourceExhausted => Self::ResourceExhausted,
            Kind::DeadlineExceeded => Self::DeadlineExceeded,
            Kind::Aborted => Self::Aborted,
            Kind::Unimplemented => Self::Unimplemented,
            // A monitor speaks to no registry and reads nothing that is checked by a digest.
            Kind::Unauthenticated | Kind::Unavailable | Kind::DataLoss | Kind::Internal => Self::Internal,
        }
    }
}

impl From<Code> for Kind {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Aborted => Self::Aborted,
            Code::Unimplemented => Self::Unimplemented,
            Code::Unspecified | Code::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_itself() {
        for code in (1..).map_while(|number| Code::try_from(number).ok()) {
            assert_eq!(Code::from(Kind::from(code)), code);
        }
    }
}
