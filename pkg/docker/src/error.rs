//! A failed request: its status and what the client is told.
//!
//! Errors of other crates say which [`Kind`] they are; what a kind is in HTTP is decided here and nowhere else, as dockerd's
//! errdefs decide it.

use std::{error::Error, fmt::Display, path::PathBuf};

use husk_model::{Blame, Classify, Kind, chain};
use hyper::StatusCode;

/// The outcome of a request.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Longest message that a client is sent. Causes can quote what an image or a registry says.
const MAX_MESSAGE: usize = 8 << 10;

/// Why the door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the door's records cannot be made, read or written.
    #[error("{step} {path}")]
    Records {
        /// What was tried: `make`, `read`, `write`.
        step: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A record is not what husk writes; what it is about cannot be used until it is mended or removed.
    #[error("the record {path} cannot be understood: {reason}; mend it or remove it")]
    Broken {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine, the images or the network failed.
    #[error("{step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// For `map_err`: a step with a file or directory failed.
    pub(crate) fn records(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Records { step, path, source }
    }
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    blame: Blame,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, blame: Blame, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        Self { status, blame, message }
    }

    /// The request is wrong: 400.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Blame::Caller, message)
    }

    /// What it names does not exist: 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Blame::Caller, message)
    }

    /// No such route: 404, in dockerd's words.
    pub(crate) fn no_page() -> Self {
        Self::not_found("page not found")
    }

    /// What it names is in a state that does not allow this, or in use: 409.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, Blame::Caller, message)
    }

    /// It may not be done: 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Blame::Caller, message)
    }

    /// It is so already: 304, which has no body.
    pub(crate) fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, Blame::Caller, "")
    }

    /// The body is larger than requests may be: 413.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Blame::Caller, message)
    }

    /// husk has no such thing: 501.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, Blame::Caller, message)
    }

    /// Not now, or not on this node: 503.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Blame::Node, message)
    }

    /// A bug, or an unexpected failure of the node: 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Blame::Husk, message)
    }

    /// A failed file operation: what was tried, on what.
    pub(crate) fn io(step: impl Display) -> impl FnOnce(std::io::Error) -> Self {
        move |source| {
            let kind = Kind::of_io(&source);
            Self::new(status(kind), blame(kind), format!("{step}: {source}"))
        }
    }

    /// The same failure with another status, where dockerd's is not its kind's.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same failure, told as of this step or object.
    pub(crate) fn of(self, what: impl Display) -> Self {
        Self::new(self.status, self.blame, format!("{what}: {}", self.message))
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whose fault it is: how loudly it is logged.
    pub(crate) fn blame(&self) -> Blame {
        self.blame
    }

    /// What the client is told.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl<E: Error + Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        let kind = error.kind();
        Self::new(status(kind), blame(kind), chain(&error))
    }
}

/// dockerd's errdefs.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidArgument => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::FailedPrecondition => StatusCode::CONFLICT,
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::ResourceExhausted
        | Kind::DeadlineExceeded
        | Kind::Aborted
        | Kind::DataLoss
        | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn blame(kind: Kind) -> Blame {
    match kind {
        Kind::InvalidArgument | Kind::NotFound | Kind::AlreadyExists | Kind::Unimplemented => Blame::Caller,
        Kind::FailedPrecondition | Kind::PermissionDenied | Kind::Unauthenticated | Kind::DataLoss => {
            Blame::Workload
        }
        Kind::ResourceExhausted | Kind::DeadlineExceeded | Kind::Aborted | Kind::Unavailable => Blame::Node,
        Kind::Internal => Blame::Husk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("pull busybox")]
    struct Outer(#[source] std::io::Error);

    impl Classify for Outer {
        fn kind(&self) -> Kind {
            Kind::NotFound
        }
    }

    #[test]
    fn an_error_becomes_its_kinds_status_and_its_chain_of_causes() {
        let failure = Failure::from(Outer(std::io::Error::other("no such name")));
        assert_eq!(failure.status(), StatusCode::NOT_FOUND);
        assert_eq!(failure.message(), "pull busybox: no such name");
    }

    #[test]
    fn a_message_that_a_stranger_wrote_is_cut_at_a_character() {
        let failure = Failure::bad("ä".repeat(MAX_MESSAGE));
        assert!(failure.message().len() <= MAX_MESSAGE + '…'.len_utf8());
        assert!(failure.message().ends_with("ä…"));
    }
}
