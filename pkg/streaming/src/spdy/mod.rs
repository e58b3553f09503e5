//! SPDY/3.1, the server's side: what the clients' library (moby/spdystream) speaks of it.
//!
//! | module | concern |
//! | --- | --- |
//! | `frame` | bytes to events and back, without I/O |
//! | `headers` | header blocks and their limits |
//! | `dictionary` | the preset dictionary of their compression |
//! | `connection` | streams on a socket |

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use connection::{Accepted, serve};
pub(crate) use frame::ResetReason;

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
