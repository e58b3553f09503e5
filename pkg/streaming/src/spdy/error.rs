//! Why a connection cannot go on.

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    /// Bytes that mean nothing.
    #[error("{0}")]
    Malformed(&'static str),
    /// More than a client may send.
    #[error("{0} exceeds its limit")]
    TooMuch(&'static str),
}
