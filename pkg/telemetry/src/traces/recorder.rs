//! What records spans: a layer of `tracing` that keeps a record in each span of a sampled call, and queues it at its end.

use std::{
    fmt,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use husk_model::Phase;
use husk_proto::otlp::{self, any_value::Value, span::Kind, status};
use tokio::sync::mpsc;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterFn, filter_fn},
    layer::Context,
    registry::LookupSpan,
};

use super::{Parent, TraceId};
use crate::TraceSpans;

/// Longest text of an attribute or a name, in bytes: a pod's name has 253.
const TEXT_MAX: usize = 256;
/// Attributes of a span.
const ATTRIBUTES_MAX: usize = 16;
/// A span says that it is known whether its parent is another process's (OTLP, `SpanFlags`), and that it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;
/// The flag of W3C Trace Context that a span of ours always has, because others are not recorded.
const SAMPLED: u32 = 1;
/// The field with which a step says that it failed.
const FAILED: &str = "failed";

/// The layer. It sees the spans of husk's own crates.
#[derive(Debug)]
pub struct Recorder {
    queue: mpsc::Sender<otlp::Span>,
    counts: TraceSpans,
    per_million: u32,
}

/// A call, as its span begins.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Package and name: `runtime.v1.RuntimeService`.
    pub service: &'a str,
    /// `RunPodSandbox`.
    pub method: &'a str,
    /// The span that the caller made it in.
    pub parent: Option<Parent>,
}

/// In the extensions of a span that is recorded.
struct Recording {
    trace: TraceId,
    id: [u8; 8],
    began: Instant,
    /// Taken when it ends; those below it may go on.
    span: Option<otlp::Span>,
}

/// Begins to record `span` as that of a call, if the call is sampled; returns the trace it is in.
pub fn begin(span: &tracing::Span, call: Call<'_>) -> Option<TraceId> {
    with_recorder(span, |recorder, span| {
        let recording = recorder.call(call)?;
        let trace = recording.trace;
        span.extensions_mut().replace(recording);
        Some(trace)
    })
}

/// Ends the record of a call, whatever still goes on below it, with its gRPC code; `failed` if that is a failure of the node's.
pub fn end(span: &tracing::Span, code: i32, failed: bool) {
    with_recorder(span, |recorder, span| {
        let mut extensions = span.extensions_mut();
        let recording = extensions.get_mut::<Recording>()?;
        recording.add("rpc.grpc.status_code", Value::IntValue(code.into()));
        if failed {
            recording.failed();
        }
        recorder.finish(recording);
        Some(())
    });
}

/// Records what is over already, beneath the current span.
pub(super) fn past(step: &Phase) {
    with_recorder(&tracing::Span::current(), |recorder, span| {
        // A statement of its own: nothing is held while it is queued.
        let above = span.extensions().get::<Recording>().map(|above| (above.trace, above.id));
        let (trace, above) = above?;
        let mut recording = Recording::new(trace, above.to_vec(), &step.name, Kind::Internal, 0)?;
        let mut span = recording.span.take()?;
        span.start_time_unix_nano = u64::try_from(step.began).unwrap_or(0);
        span.end_time_unix_nano = span.start_time_unix_nano.saturating_add(step.took.unwrap_or(0));
        recorder.queue(span);
        Some(())
    });
}

/// Adds attributes to the current span. `with` is called only if that is recorded.
pub fn describe(with: impl FnOnce(&mut Description)) {
    with_recorder(&tracing::Span::current(), |_, span| {
        // Not held while `with` looks things up.
        span.extensions().get::<Recording>()?;
        let mut description = Description(Vec::new());
        with(&mut description);
        let mut extensions = span.extensions_mut();
        let recording = extensions.get_mut::<Recording>()?;
        for (key, value) in description.0 {
            recording.add(key, Value::StringValue(value));
        }
        Some(())
    });
}

/// What a span is about.
#[derive(Debug)]
pub struct Description(Vec<(&'static str, String)>);

impl Description {
    /// Adds an attribute; of one that is empty nothing is said.
    pub fn set(&mut self, key: &'static str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.0.push((key, cut(value).to_owned()));
        }
        self
    }
}

/// Calls `with` if spans are recorded at all and `span` is one.
fn with_recorder<T>(
    span: &tracing::Span,
    with: impl FnOnce(&Recorder, tracing_subscriber::registry::SpanRef<'_, Registry>) -> Option<T>,
) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| {
        let recorder = dispatch.downcast_ref::<Recorder>()?;
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        with(recorder, span)
    })?
}

// === impl Recorder ===

impl Recorder {
    pub(super) fn new(queue: mpsc::Sender<otlp::Span>, counts: TraceSpans, per_million: u32) -> Self {
        Self { queue, counts, per_million }
    }

    /// The spans that there are to see: husk's, however little is logged.
    pub(crate) fn filter() -> FilterFn {
        let ours: fn(&Metadata<'_>) -> bool = |span| span.is_span() && span.target().starts_with("husk");
        filter_fn(ours).with_max_level_hint(LevelFilter::DEBUG)
    }

    fn call(&self, Call { service, method, parent }: Call<'_>) -> Option<Recording> {
        let (trace, above, remote) = match parent {
            Some(parent) => (parent.trace, parent.span.to_vec(), PARENT_REMOTE),
            None => (TraceId(random()?), Vec::new(), 0),
        };
        if !parent.map_or_else(|| self.chosen(trace), |parent| parent.sampled) {
            return None;
        }
        let name = format!("{service}/{method}");
        let mut recording = Recording::new(trace, above, &name, Kind::Server, remote)?;
        recording.add("rpc.system", text("grpc"));
        recording.add("rpc.service", text(service));
        recording.add("rpc.method", text(method));
        Some(recording)
    }

    /// By the trace's id, so that all who sample by it agree (OpenTelemetry's `TraceIdRatioBased`: 63 of its last 64 bits).
    fn chosen(&self, trace: TraceId) -> bool {
        let (_, low) = trace.0.split_at(8);
        let number = low.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)) >> 1;
        let bound = u128::from(self.per_million) << 63;
        u128::from(number) * 1_000_000 < bound
    }

    fn finish(&self, recording: &mut Recording) {
        let Some(mut span) = recording.span.take() else { return };
        let took = u64::try_from(recording.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        span.end_time_unix_nano = span.start_time_unix_nano.saturating_add(took);
        self.queue(span);
    }

    fn queue(&self, span: otlp::Span) {
        if self.queue.try_send(span).is_err() {
            self.counts.dropped("queue_full", 1);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(parent) = span.parent() else { return };
        // A statement of its own: two spans' extensions are never held at once.
        let above = parent.extensions().get::<Recording>().map(|above| (above.trace, above.id));
        let Some((trace, above)) = above else { return };
        let name = attributes.metadata().name();
        let Some(mut recording) = Recording::new(trace, above.to_vec(), name, Kind::Internal, 0) else {
            return;
        };
        attributes.record(&mut recording);
        span.extensions_mut().insert(recording);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(recording) = span.extensions_mut().get_mut::<Recording>()
            && recording.is_step()
        {
            values.record(recording);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let recording = span.extensions_mut().remove::<Recording>();
        if let Some(mut recording) = recording {
            self.finish(&mut recording);
        }
    }
}

// === impl Recording ===

impl Recording {
    /// `None` when the kernel has no random numbers.
    fn new(trace: TraceId, parent: Vec<u8>, name: &str, kind: Kind, remote: u32) -> Option<Self> {
        let id: [u8; 8] = random()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let span = otlp::Span {
            trace_id: trace.0.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent,
            name: cut(name).to_owned(),
            kind: kind.into(),
            start_time_unix_nano: u64::try_from(now).unwrap_or(u64::MAX),
            flags: SAMPLED | PARENT_KNOWN | remote,
            ..otlp::Span::default()
        };
        Some(Self { trace, id, began: Instant::now(), span: Some(span) })
    }

    fn add(&mut self, key: &str, value: Value) {
        let Some(span) = &mut self.span else { return };
        if span.attributes.len() == ATTRIBUTES_MAX {
            span.dropped_attributes_count += 1;
            return;
        }
        let value = Some(otlp::AnyValue { value: Some(value) });
        span.attributes.push(otlp::KeyValue { key: key.to_owned(), value });
    }

    fn failed(&mut self) {
        if let Some(span) = &mut self.span {
            span.status = Some(otlp::Status { code: status::Code::Error.into() });
        }
    }

    /// The fields of a call's span are the log's, and not attributes.
    fn is_step(&self) -> bool {
        self.span.as_ref().is_some_and(|span| span.kind() == Kind::Internal)
    }
}

impl Visit for Recording {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), text(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::IntValue(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            FAILED if value => self.failed(),
            FAILED => {}
            name => self.add(name, Value::BoolValue(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), text(&format!("{value:?}")));
    }
}

fn text(value: &str) -> Value {
    Value::StringValue(cut(value).to_owned())
}

/// At most [`TEXT_MAX`] bytes, and no half characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    // All zeros are no id (W3C Trace Context).
    (bytes != [0; N]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use tracing::{debug_span, field::Empty, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::Metrics;

    const CALL: Call<'_> = Call { service: "runtime.v1.RuntimeService", method: "Version", parent: None };

    fn parent(flags: &str) -> Option<Parent> {
        Parent::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"))
    }

    /// Runs `work` with a recorder; returns what was queued, at most `room` spans, and the metrics.
    fn recorded(per_million: u32, room: usize, work: impl FnOnce()) -> (Vec<otlp::Span>, String) {
        let metrics = Metrics::new("0");
        let (sender, mut queue) = mpsc::channel(room);
        let recorder = Recorder::new(sender, metrics.spans.clone(), per_million);
        let layer = recorder.with_filter(Recorder::filter());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let mut spans = Vec::new();
        while let Ok(span) = queue.try_recv() {
            spans.push(span);
        }
        (spans, metrics.text().unwrap())
    }

    fn attributes(span: &otlp::Span) -> Vec<(&str, Value)> {
        span.attributes
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap().value.unwrap()))
            .collect()
    }

    #[test]
    fn a_sampled_callers_trace_goes_on_and_a_step_is_below_the_call() {
        let (spans, _) = recorded(0, 9, || {
            let call = info_span!("rpc", method = "not an attribute", trace_id = Empty);
            let trace = begin(&call, Call { parent: parent("01"), ..CALL }).unwrap();
            call.record("trace_id", tracing::field::display(trace));
            call.in_scope(|| {
                describe(|about| _ = about.set("husk.pod.id", "abc").set("k8s.pod.name", ""));
                let step = debug_span!("network", pod = "abc", count = u64::MAX, failed = Empty);
                step.record("failed", true);
            });
            end(&call, 0, false);
        });
        let [step, call] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(call.name, "runtime.v1.RuntimeService/Version");
        assert_eq!(call.parent_span_id, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!((call.kind(), call.flags, call.status), (Kind::Server, 0x301, None));
        let said = [
            ("rpc.system", text("grpc")),
            ("rpc.service", text("runtime.v1.RuntimeService")),
            ("rpc.method", text("Version")),
            ("husk.pod.id", text("abc")),
            ("rpc.grpc.status_code", Value::IntValue(0)),
        ];
        assert_eq!(attributes(call), said);
        assert_eq!((&step.parent_span_id, &step.trace_id), (&call.span_id, &call.trace_id));
        assert_eq!((step.kind(), step.flags), (Kind::Internal, 0x101));
        assert_eq!(attributes(step), [("pod", text("abc")), ("count", Value::IntValue(i64::MAX))]);
        assert_eq!(step.status.unwrap().code(), status::Code::Error);
        assert!(call.start_time_unix_nano <= step.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= call.end_time_unix_nano);
    }

    #[test]
    fn who_samples_is_the_caller_and_the_rate_where_there_is_none() {
        let began = |per_million, parent| {
            let mut trace = None;
            let (spans, _) =
                recorded(per_million, 9, || trace = begin(&info_span!("rpc"), Call { parent, ..CALL }));
            assert_eq!(spans.len(), usize::from(trace.is_some()));
            trace.is_some()
        };
        assert!(began(0, parent("01")) && !began(1_000_000, parent("00")));
        assert!(began(1_000_000, None) && !began(0, None));
    }

    #[test]
    fn the_rate_is_of_a_million() {
        let recorder = |per_million| Recorder::new(mpsc::channel(1).0, TraceSpans::default(), per_million);
        let some = |per_million| {
            let recorder = recorder(per_million);
            (0..20_000).filter(|_| recorder.chosen(TraceId(random().unwrap()))).count()
        };
        assert!((1_600..2_400).contains(&some(100_000)), "a tenth");
        assert_eq!((some(0), some(1_000_000)), (0, 20_000));
        assert!(recorder(1_000_000).chosen(TraceId([0xff; 16])) && !recorder(0).chosen(TraceId([0; 16])));
    }

    #[test]
    fn what_is_below_no_sampled_call_is_not_recorded() {
        let (spans, _) = recorded(0, 9, || {
            info_span!("stream").in_scope(|| debug_span!("network"));
            let call = info_span!("rpc");
            assert!(begin(&call, CALL).is_none());
            call.in_scope(|| {
                describe(|_| panic!("nobody asks"));
                debug_span!("network");
            });
            end(&call, 13, true);
        });
        assert_eq!(spans, []);
    }

    #[test]
    fn a_full_queue_loses_spans_and_says_how_many() {
        let (spans, metrics) = recorded(1_000_000, 2, || {
            for _ in 0..10 {
                begin(&info_span!("rpc"), CALL);
            }
        });
        assert_eq!(spans.len(), 2);
        assert!(metrics.contains("husk_trace_spans_dropped_total{reason=\"queue_full\"} 8"), "{metrics}");
    }

    #[test]
    fn huge_texts_and_numbers_of_attributes_are_cut() {
        let (spans, _) = recorded(1_000_000, 9, || {
            let call = info_span!("rpc");
            let long = "é".repeat(100_000);
            begin(&call, Call { method: &long, ..CALL });
            call.in_scope(|| {
                describe(|about| {
                    for _ in 0..1_000 {
                        about.set("k", &long);
                    }
                });
            });
        });
        let span = &spans[0];
        assert!(span.name.len() <= TEXT_MAX && span.attributes.len() == ATTRIBUTES_MAX, "{span:?}");
        assert_eq!(span.dropped_attributes_count, 1_000 - 13);
        for (key, value) in attributes(span) {
            let Value::StringValue(value) = value else { continue };
            assert!(value.len() <= TEXT_MAX, "{key}");
        }
    }

    #[test]
    fn a_call_ends_before_the_work_below_it_which_stays_its_own() {
        let (spans, _) = recorded(1_000_000, 9, || {
            let call = info_span!("rpc");
            begin(&call, CALL);
            end(&call, 1, false);
            call.in_scope(|| debug_span!("network"));
            end(&call, 0, false);
        });
        let [call, step] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(step.parent_span_id, call.span_id);
    }
}
