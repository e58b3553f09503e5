//! Tracing to text or JSON with a level that can change while running, and Prometheus metrics.
#![forbid(unsafe_code)]

mod log;
mod metrics;
mod server;

pub use log::{LogError, LogHandle, LogShape, init};
pub use metrics::{LeakKind, Leaks, Metrics, Rpc};
pub use server::serve;
