//! The daemon's own metrics, in Prometheus' OpenMetrics text.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

/// One RPC that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Rpc {
    /// Method without its service: `RunPodSandbox`.
    pub method: String,
    /// gRPC code: `Ok`, `NotFound`.
    pub code: String,
}

/// A kind of what belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeakKind {
    /// `process`, `cgroup`…
    pub kind: String,
}

/// What the search for leftovers found, by kind.
#[derive(Debug, Default)]
pub struct Leaks {
    /// Objects that were found, each time they were.
    pub found: Family<LeakKind, Counter>,
    /// Objects that were removed.
    pub repaired: Family<LeakKind, Counter>,
    /// Removals that failed.
    pub failed: Family<LeakKind, Counter>,
    /// Searches that ended.
    pub searches: Counter,
}

/// Why spans were not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Loss {
    reason: &'static str,
}

/// What became of the spans of traces.
#[derive(Debug, Clone, Default)]
pub struct TraceSpans {
    exported: Counter,
    dropped: Family<Loss, Counter>,
}

impl TraceSpans {
    /// A collector took them.
    pub(crate) fn exported(&self, count: u64) {
        self.exported.inc_by(count);
    }

    /// They are lost; `reason` is `queue_full`, `export` (the collector did not take them in time) or `rejected` (it refused them).
    pub(crate) fn dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&Loss { reason }).inc_by(count);
        }
    }
}

/// Upper bounds in seconds: husk's calls take from a tenth of a millisecond to the minutes of a pull.
const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0];

/// The metrics of a daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rpcs: Family<Rpc, Histogram>,
    running: Gauge,
    /// Pods that are ready.
    pub pods: Gauge<u64, AtomicU64>,
    /// Containers that run.
    pub containers: Gauge<u64, AtomicU64>,
    /// Image pulls that began.
    pub pulls: Counter,
    /// What the doctor found.
    pub leaks: Leaks,
    /// What became of spans.
    pub spans: TraceSpans,
}

impl Metrics {
    /// All at zero.
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::with_prefix("husk");
        let rpcs = Family::<Rpc, Histogram>::new_with_constructor(|| Histogram::new(BOUNDS));
        let (running, pods, containers, pulls) =
            (Gauge::default(), Gauge::default(), Gauge::default(), Counter::default());
        registry.register("build", "The build", Info::new(vec![("version", version.to_owned())]));
        registry.register("rpc_duration_seconds", "Time an RPC took, by method and code", rpcs.clone());
        registry.register("rpcs_running", "RPCs in progress", running.clone());
        registry.register("pods_ready", "Pods that are ready", pods.clone());
        registry.register("containers_running", "Containers that run", containers.clone());
        registry.register("image_pulls", "Image pulls that began", pulls.clone());
        let leaks = Leaks::default();
        registry.register("leaks_found", "Objects of nobody that were found", leaks.found.clone());
        registry.register("leaks_repaired", "Objects of nobody that were removed", leaks.repaired.clone());
        registry.register(
            "leaks_failed",
            "Objects of nobody that could not be removed",
            leaks.failed.clone(),
        );
        registry.register(
            "leak_searches",
            "Searches for objects of nobody that ended",
            leaks.searches.clone(),
        );
        let spans = TraceSpans::default();
        registry.register("trace_spans_exported", "Spans that a collector took", spans.exported.clone());
        // From the start on, so that the first loss is an increase.
        for reason in ["queue_full", "rejected", "export"] {
            drop(spans.dropped.get_or_create(&Loss { reason }));
        }
        registry.register("trace_spans_dropped", "Spans that were lost, by reason", spans.dropped.clone());
        Self { registry, rpcs, running, pods, containers, pulls, leaks, spans }
    }

    /// An RPC began.
    pub fn rpc_began(&self) {
        self.running.inc();
    }

    /// An RPC ended, or its caller went away.
    pub fn rpc_ended(&self, rpc: &Rpc, took: Duration) {
        self.running.dec();
        self.rpcs.get_or_create(rpc).observe(took.as_secs_f64());
    }

    /// The text a scraper gets.
    ///
    /// # Errors
    /// When a metric cannot be formatted.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_is_counted_by_method_and_code() {
        let metrics = Metrics::new("0");
        metrics.rpc_began();
        metrics.rpc_ended(&Rpc { method: "Version".into(), code: "Ok".into() }, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        assert!(text.contains("husk_rpc_duration_seconds_count{method=\"Version\",code=\"Ok\"} 1"), "{text}");
        assert!(text.contains("husk_rpcs_running 0"), "{text}");
    }
}
