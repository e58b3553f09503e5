//! RuntimeService: `serve` says which RPC is served where, one file a group of them.

mod api;
mod containers;
mod events;
mod ids;
mod info;
mod lists;
mod metrics;
mod pods;
mod serve;
mod stats;
mod streaming;

pub use api::RuntimeApi;
pub(crate) use lists::{BoxStream, batches};
pub use streaming::StreamedContainers;
