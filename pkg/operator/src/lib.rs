//! husk's own service for operators (`proto/husk/v1/workloads.proto`): pods and containers of every door, what they use, write and come
//! through. It only looks; what changes pods are the doors.
//!
//! | module | concern |
//! | --- | --- |
//! | `serve` | which call is served by what |
//! | `find` | what a name means |
//! | `convert` | snapshots as messages |
//! | `why` | how something came to be, what it waits for, what ended it |
//! | `logs` | a container's log, from its file |
//! | `events`, `top` | what happens, what is used |
#![forbid(unsafe_code)]

mod convert;
mod error;
mod events;
mod find;
mod logs;
mod serve;
mod top;
mod why;

pub use serve::WorkloadsApi;
