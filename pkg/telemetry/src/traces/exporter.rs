//! What delivers spans: one task that takes them from the queue in batches and sends them to the collector.
//!
//! Nobody waits for it. While the collector is away the queue fills, then spans are lost; a batch is tried a few times, then lost.

use std::time::Duration;

use husk_proto::otlp::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span,
    any_value::Value, trace_service_client::TraceServiceClient,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tracing::{debug, info, warn};

use super::{TracesConfig, TracesError};
use crate::TraceSpans;

/// Spans in one message: at some 5 KiB each at most, below the 4 MiB that a collector takes.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch, and to be connected to.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between the tries for a batch. Then it is lost, so that one which cannot be delivered does not hold up the next.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// The end of the queue of spans; [`Exporter::start`] begins to deliver them.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<Span>,
    endpoint: Endpoint,
    shown: String,
    resource: Resource,
    version: &'static str,
    counts: TraceSpans,
}

/// Ends the delivery.
#[derive(Debug)]
#[must_use = "without it the last spans are lost"]
pub struct Flush {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Flush {
    /// Delivers what is queued, and gives up after `deadline`.
    pub async fn within(self, deadline: Duration) {
        let Self { stop, mut task } = self;
        // An error is the task's end, which means the same.
        let _ = stop.send(true);
        if timeout(deadline, &mut task).await.is_err() {
            task.abort();
            info!(?deadline, "the collector did not take the last spans in time");
        }
    }
}

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(
        config: &TracesConfig,
        queue: mpsc::Receiver<Span>,
        counts: TraceSpans,
    ) -> Result<Self, TracesError> {
        let resource = Resource {
            attributes: vec![
                pair("service.name", "huskd".to_owned()),
                pair("service.version", config.version.to_owned()),
                pair("host.name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
            ],
        };
        let (shown, version) = (config.endpoint.clone(), config.version);
        Ok(Self { queue, endpoint: endpoint(config)?, shown, resource, version, counts })
    }

    /// Delivers from now on, in a task.
    pub fn start(self) -> Flush {
        let (stop, stopped) = watch::channel(false);
        Flush { stop, task: tokio::spawn(self.run(stopped)) }
    }

    async fn run(self, mut stop: Stop) {
        let Self { mut queue, endpoint, shown, resource, version, counts } = self;
        let delivery = Delivery { resource, version, counts, shown };
        let mut client = TraceServiceClient::new(endpoint.connect_lazy());
        let (mut batch, mut reached) = (Vec::new(), true);
        loop {
            let filled = tokio::select! {
                filled = fill(&mut queue, &mut batch) => filled,
                () = stopped(&mut stop) => false,
            };
            if !filled {
                break;
            }
            let taken = delivery.deliver(&mut client, std::mem::take(&mut batch), &mut stop).await;
            delivery.tell(taken, &mut reached);
        }
        queue.close();
        loop {
            while batch.len() < BATCH
                && let Ok(span) = queue.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            if !delivery.deliver(&mut client, std::mem::take(&mut batch), &mut stop).await {
                return delivery.counts.dropped("export", queue.len() as u64);
            }
        }
    }
}

/// Whether the end has come.
type Stop = watch::Receiver<bool>;

async fn stopped(stop: &mut Stop) {
    // An error is the end of whoever would say so, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for a first span and a moment for more; `false` at the end of the queue. May be cancelled: what came stays in `batch`.
async fn fill(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    if queue.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let linger = sleep(LINGER);
    tokio::pin!(linger);
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            more = queue.recv_many(batch, room) => if more == 0 { break },
            () = &mut linger => break,
        }
    }
    true
}

/// How spans are sent.
struct Delivery {
    resource: Resource,
    version: &'static str,
    counts: TraceSpans,
    shown: String,
}

impl Delivery {
    /// Sends `spans`, again after each of [`PAUSES`] until the end; `false` if the collector could not be brought to take them.
    async fn deliver(
        &self,
        client: &mut TraceServiceClient<Channel>,
        spans: Vec<Span>,
        stop: &mut Stop,
    ) -> bool {
        let count = spans.len() as u64;
        let request = self.request(spans);
        let mut pauses = PAUSES.iter();
        loop {
            let last = *stop.borrow();
            let status = match client.export(request.clone()).await {
                Ok(answer) => {
                    let partial = answer.into_inner().partial_success.unwrap_or_default();
                    let refused = u64::try_from(partial.rejected_spans).unwrap_or_default().min(count);
                    self.counts.dropped("rejected", refused);
                    self.counts.exported(count - refused);
                    return true;
                }
                Err(status) => status,
            };
            debug!(collector = %self.shown, code = ?status.code(), message = status.message(), "no spans were taken");
            if !may_be_repeated(status.code()) {
                self.counts.dropped("rejected", count);
                return false;
            }
            let Some(pause) = pauses.next().filter(|_| !last) else { break };
            tokio::select! {
                () = sleep(*pause) => {}
                () = stopped(stop) => {}
            }
        }
        self.counts.dropped("export", count);
        false
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = Some(Scope { name: "husk".to_owned(), version: self.version.to_owned() });
        let resource = Some(self.resource.clone());
        let scope_spans = vec![ScopeSpans { scope, spans }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }

    /// Logs a change, not each batch.
    fn tell(&self, taken: bool, reached: &mut bool) {
        match (taken, *reached) {
            (false, true) => warn!(
                collector = %self.shown,
                "the collector of traces takes no spans; they are lost until it does (level debug has the reason)"
            ),
            (true, false) => info!(collector = %self.shown, "the collector of traces takes spans again"),
            _ => {}
        }
        *reached = taken;
    }
}

/// As the protocol has it (OTLP/gRPC, "Failures"), but that a collector which is full is asked again too.
fn may_be_repeated(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            // What tonic makes of a connection that was cut.
            | Code::Unknown
    )
}

fn endpoint(config: &TracesConfig) -> Result<Endpoint, TracesError> {
    let name = &config.endpoint;
    let endpoint = Endpoint::from_shared(name.clone())
        .map_err(|source| TracesError::Endpoint { endpoint: name.clone(), source })?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    if !name.starts_with("https://") {
        return Ok(endpoint);
    }
    let tls = match &config.ca {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| TracesError::Ca { path: path.clone(), source })?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    };
    endpoint.tls_config(tls).map_err(|source| TracesError::Tls { endpoint: name.clone(), source })
}

fn pair(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::StringValue(value)) }) }
}
