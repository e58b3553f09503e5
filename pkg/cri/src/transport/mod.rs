//! Connections of the CRI socket, made fit for clients that the http crates would refuse.
//!
//! | module | concern |
//! | --- | --- |
//! | `authority` | the request's `:authority`, replaced in the bytes of HTTP/2 |
//! | `hpack` | where the fields of a header block are (RFC 7541) |
//! | `connection` | an accepted connection, read through `authority` |

mod authority;
mod connection;
mod hpack;

pub use authority::Rewriter;
pub use connection::Connection;
