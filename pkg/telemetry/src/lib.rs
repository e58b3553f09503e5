//! Tracing to text or JSON with a level that can change while running, traces to an OpenTelemetry collector, Prometheus metrics, and
//! what steps an object has gone through.
#![forbid(unsafe_code)]

mod log;
mod metrics;
pub mod phases;
mod server;
pub mod traces;

pub use log::{LogError, LogHandle, LogShape, init};
pub use metrics::{LeakKind, Leaks, Metrics, Rpc, TraceSpans};
pub use server::serve;
