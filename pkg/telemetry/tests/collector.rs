//! Spans on their way to a collector: one that takes them, and those that do not.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use husk_proto::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, PartialSuccess, Span,
    trace_service_server::{TraceService, TraceServiceServer},
};
use husk_telemetry::{
    Metrics, step,
    traces::{Call, Exporter, Recorder, TracesConfig, begin, traces},
};
use tokio::{net::TcpListener, sync::Notify, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};
use tracing::{Instrument, info_span, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

/// What a collector does with a message.
#[derive(Clone, Copy)]
enum Answer {
    Take,
    Refuse(Code),
    TakeAllBut(i64),
    Hang,
}

#[derive(Clone)]
struct Collector {
    /// Answers in their order; the last one stays.
    answers: Arc<Mutex<Vec<Answer>>>,
    messages: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    came: Arc<Notify>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.messages.lock().unwrap().push(request.into_inner());
        self.came.notify_one();
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0] }
        };
        let mut response = ExportTraceServiceResponse::default();
        match answer {
            Answer::Take => {}
            Answer::Refuse(code) => return Err(Status::new(code, "not today")),
            Answer::Hang => pending().await,
            Answer::TakeAllBut(rejected_spans) => {
                response.partial_success =
                    Some(PartialSuccess { rejected_spans, ..PartialSuccess::default() });
            }
        }
        Ok(Response::new(response))
    }
}

impl Collector {
    async fn start(answers: &[Answer], tls: Option<Identity>) -> (Self, SocketAddr) {
        let collector = Self {
            answers: Arc::new(Mutex::new(answers.to_vec())),
            messages: Arc::default(),
            came: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(identity) = tls {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let server = server.add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    fn spans(&self) -> Vec<Span> {
        let messages = self.messages.lock().unwrap();
        let resources = messages.iter().flat_map(|message| &message.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// Records on this thread for as long as the guard lives.
fn record(endpoint: String) -> (Exporter, Arc<Metrics>, DefaultGuard) {
    let metrics = Arc::new(Metrics::new("0"));
    let config = TracesConfig { endpoint, ca: None, per_million: 1_000_000, version: "1.2.3" };
    let (recorder, exporter) = traces(&config, &metrics.spans).unwrap();
    (exporter, metrics, install(recorder))
}

fn install(recorder: Recorder) -> DefaultGuard {
    let layer = recorder.with_filter(LevelFilter::DEBUG);
    tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
}

/// A call with a step.
async fn call() {
    let call = info_span!("rpc");
    begin(&call, Call { service: "runtime.v1.RuntimeService", method: "Version", parent: None }).unwrap();
    let work = async { step!("network", async { Err::<(), ()>(()) }, pod = "abc").await };
    work.instrument(call).await.unwrap_err();
}

fn counted(metrics: &Metrics, line: &str) {
    let text = metrics.text().unwrap();
    assert!(text.contains(line), "{line:?} is not in {text}");
}

#[tokio::test]
async fn spans_arrive_with_who_made_them() {
    let (collector, address) = Collector::start(&[Answer::Take], None).await;
    let (exporter, metrics, _guard) = record(format!("http://{address}"));
    let flush = exporter.start();
    call().await;
    collector.came.notified().await;
    flush.within(Duration::from_secs(9)).await;
    let spans = collector.spans();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["network", "runtime.v1.RuntimeService/Version"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    let messages = collector.messages.lock().unwrap();
    let said = format!("{:?}", messages[0].resource_spans[0].resource);
    for part in ["service.name", "huskd", "service.version", "1.2.3", "host.name"] {
        assert!(said.contains(part), "{said}");
    }
    counted(&metrics, "husk_trace_spans_exported_total 2");
}

#[tokio::test]
async fn what_is_queued_at_the_end_is_delivered_in_messages_that_a_collector_takes() {
    let (collector, address) = Collector::start(&[Answer::Take], None).await;
    let (exporter, metrics, _guard) = record(format!("http://{address}"));
    for _ in 0..1_000 {
        call().await;
    }
    exporter.start().within(Duration::from_secs(30)).await;
    assert_eq!(collector.spans().len(), 2_000);
    counted(&metrics, "husk_trace_spans_exported_total 2000");
    for message in collector.messages.lock().unwrap().iter() {
        assert!(message.resource_spans[0].scope_spans[0].spans.len() <= 512);
    }
}

#[tokio::test]
async fn a_message_that_may_be_repeated_is() {
    let answers = [Answer::Refuse(Code::Unavailable), Answer::Take];
    let (collector, address) = Collector::start(&answers, None).await;
    let (exporter, metrics, _guard) = record(format!("http://{address}"));
    let flush = exporter.start();
    call().await;
    collector.came.notified().await;
    collector.came.notified().await;
    flush.within(Duration::from_secs(9)).await;
    let messages = collector.messages.lock().unwrap();
    assert_eq!(messages[0], messages[1]);
    counted(&metrics, "husk_trace_spans_exported_total 2");
}

#[tokio::test]
async fn refused_spans_are_counted_and_not_sent_again() {
    for (answer, exported, rejected) in [
        (Answer::Refuse(Code::InvalidArgument), 0, 2),
        (Answer::TakeAllBut(1), 1, 1),
        (Answer::TakeAllBut(i64::MAX), 0, 2),
        (Answer::TakeAllBut(i64::MIN), 2, 0),
    ] {
        let (collector, address) = Collector::start(&[answer], None).await;
        let (exporter, metrics, _guard) = record(format!("http://{address}"));
        call().await;
        exporter.start().within(Duration::from_secs(9)).await;
        assert_eq!(collector.messages.lock().unwrap().len(), 1);
        counted(&metrics, &format!("husk_trace_spans_exported_total {exported}"));
        if rejected > 0 {
            counted(&metrics, &format!("husk_trace_spans_dropped_total{{reason=\"rejected\"}} {rejected}"));
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nobody_up_and_what_is_lost_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (exporter, metrics, _guard) = record(format!("http://{nobody}"));
    let flush = exporter.start();
    let began = Instant::now();
    for _ in 0..3_000 {
        call().await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    flush.within(Duration::from_secs(9)).await;
    counted(&metrics, "husk_trace_spans_exported_total 0");
    let text = metrics.text().unwrap();
    let lost: u64 = text
        .lines()
        .filter(|line| line.starts_with("husk_trace_spans_dropped_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(lost, 6_000, "{text}");
}

#[tokio::test]
async fn a_collector_that_hangs_is_given_up_at_the_end() {
    let (collector, address) = Collector::start(&[Answer::Hang], None).await;
    let (exporter, _metrics, _guard) = record(format!("http://{address}"));
    let flush = exporter.start();
    call().await;
    collector.came.notified().await;
    let began = Instant::now();
    flush.within(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_collector_behind_tls_must_be_of_a_trusted_authority() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let (collector, address) = Collector::start(&[Answer::Take], Some(identity)).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("right.pem"), made.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("wrong.pem"), other.cert.pem()).unwrap();
    for (ca, taken) in [("wrong.pem", 0), ("right.pem", 2)] {
        let metrics = Metrics::new("0");
        let config = TracesConfig {
            endpoint: format!("https://localhost:{}", address.port()),
            ca: Some(dir.path().join(ca)),
            per_million: 1_000_000,
            version: "0",
        };
        let (recorder, exporter) = traces(&config, &metrics.spans).unwrap();
        let guard = install(recorder);
        call().await;
        drop(guard);
        exporter.start().within(Duration::from_secs(9)).await;
        assert_eq!(collector.spans().len(), taken, "{ca}");
        counted(&metrics, &format!("husk_trace_spans_exported_total {taken}"));
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_read_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.pem");
    let config = TracesConfig {
        endpoint: "https://localhost:4317".to_owned(),
        ca: Some(missing.clone()),
        per_million: 0,
        version: "0",
    };
    let error = traces(&config, &Metrics::new("0").spans).unwrap_err().to_string();
    assert_eq!(error, format!("tracing.tls_ca: cannot read {}", missing.display()));
}
