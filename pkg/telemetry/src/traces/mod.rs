//! Traces: spans of calls and of the steps beneath them, for an OpenTelemetry collector (OTLP over gRPC).
//!
//! ```text
//! begin(call) ─ sampled? ─▶ Recorder: a record in the span ─ at its end ─▶ bounded queue ─▶ Exporter ─ batches ─▶ collector
//!                           spans below it: likewise
//! ```
//!
//! A span of `tracing` is recorded when [`begin`] says so, or when its parent is. So the decision is taken once a call, and what no
//! call asked for is not traced. Whoever ends a span never waits: a full queue loses the span, and counts it.
//!
//! Attributes are what [`begin`] and [`describe`] are given, and the fields of spans below a call. These are written in husk and name
//! objects: ids, names, digests. No environment, argument, credential or message is ever one of them.

mod config;
mod exporter;
mod id;
mod parent;
mod recorder;
mod step;

pub use config::{TracesConfig, TracesError};
pub use exporter::{Exporter, Flush};
pub use id::TraceId;
pub use parent::Parent;
pub use recorder::{Call, Description, Recorder, begin, describe, end};
pub use step::{step, told};
use tokio::sync::mpsc;

use crate::TraceSpans;

/// Spans that may wait for the exporter; a pod's start has some thirty. A span is a KiB and at most five.
const QUEUE: usize = 2048;

/// The two ends of a queue of spans: one goes into the log's [`init`](crate::init), the other is started once there are tasks.
///
/// # Errors
/// When the collector cannot be reached as configured; it is not asked.
pub fn traces(config: &TracesConfig, counts: &TraceSpans) -> Result<(Recorder, Exporter), TracesError> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let exporter = Exporter::new(config, queue, counts.clone())?;
    Ok((Recorder::new(sender, counts.clone(), config.per_million), exporter))
}
