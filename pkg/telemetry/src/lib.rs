//! Tracing to text or JSON with a level that can change while running, traces to an OpenTelemetry collector, and Prometheus metrics.
#![forbid(unsafe_code)]

mod log;
mod metrics;
mod server;
pub mod traces;

pub use log::{LogError, LogHandle, LogShape, init};
pub use metrics::{LeakKind, Leaks, Metrics, Rpc, TraceSpans};
pub use server::serve;
