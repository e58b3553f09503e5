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

mod exporter;
mod parent;
mod recorder;
mod step;

use std::{fmt, path::PathBuf};

pub use exporter::{Exporter, Flush};
pub use parent::Parent;
pub use recorder::{Call, Description, Recorder, begin, describe, end};
pub use step::step;
use tokio::sync::mpsc;

use crate::TraceSpans;

/// Spans that may wait for the exporter; a pod's start has some thirty. A span is a KiB and at most five.
const QUEUE: usize = 2048;

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// `http://host:port` or `https://host:port` of a collector's gRPC receiver.
    pub endpoint: String,
    /// PEM of the authorities that may have signed the collector's certificate; the node's own if `None`.
    pub ca: Option<PathBuf>,
    /// Of a million calls whose caller sends no trace, how many begin one. Of the others the caller decides.
    pub per_million: u32,
    /// The version that spans say they are of.
    pub version: &'static str,
}

/// Why there can be no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The endpoint is no address.
    #[error("tracing.endpoint: {endpoint:?} is not the address of a collector")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// The authorities cannot be read.
    #[error("tracing.tls_ca: cannot read {}", path.display())]
    Ca {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// They can be read, and are none; or the node has none.
    #[error("tracing.endpoint: cannot set up TLS for {endpoint}")]
    Tls {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The two ends of a queue of spans: one goes into the log's [`init`](crate::init), the other is started once there are tasks.
///
/// # Errors
/// When the collector cannot be reached as configured; it is not asked.
pub fn traces(config: &TracesConfig, counts: &TraceSpans) -> Result<(Recorder, Exporter), TracesError> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let exporter = Exporter::new(config, queue, counts.clone())?;
    Ok((Recorder::new(sender, counts.clone(), config.per_million), exporter))
}

/// A trace's id, as logs and callers write it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
