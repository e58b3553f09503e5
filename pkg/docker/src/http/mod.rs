//! A request as handlers see it, and what they answer.
//!
//! | module | concern |
//! | --- | --- |
//! | `version` | which version of the API a path asks for |
//! | `query` | the query, with Go's idea of true and false |
//! | `body` | the body of an answer: bytes, a stream, or nothing with an open end |
//! | `answer` | answers |
//! | `multiplex` | the frames by which output and errors share a stream |
//! | `hijack` | a connection that leaves HTTP |
//! | `call` | a request |
//! | `blocking` | its body, for a thread that may block |

mod answer;
mod blocking;
mod body;
mod call;
mod hijack;
mod multiplex;
mod query;
mod version;

pub(crate) use answer::{Answer, empty, failed, json, plain, streamed, streamed_as};
pub(crate) use body::{Body, Pieces};
pub(crate) use call::{Call, Content};
pub(crate) use hijack::{Hijacked, MULTIPLEXED, Presence, RAW, SessionSlot};
pub(crate) use multiplex::{Frames, Output, frame};
pub(crate) use query::Query;
pub(crate) use version::Version;
pub use version::{MAX_API, MIN_API};
