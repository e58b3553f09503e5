//! The one layer around every RPC: span, metric, deadline, log line.
//!
//! The deadline is the caller's own (`grpc-timeout`). tonic would enforce it with CANCELLED; clients expect
//! DEADLINE_EXCEEDED, so it is enforced here, a moment earlier. Work that changes state runs in tasks of its own, so a
//! deadline ends the waiting and not the work.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use husk_model::Blame;
use husk_telemetry::{
    Metrics, Rpc,
    traces::{self, Call, Parent},
};
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service};
use tracing::{Instrument, Span, debug, error, info_span, warn};

use crate::status::blame;

/// How much earlier than tonic the deadline is enforced.
const HEAD_START: Duration = Duration::from_millis(2);

/// Wraps services with [`Observed`].
#[derive(Debug, Clone)]
pub struct Observe {
    metrics: Arc<Metrics>,
}

impl Observe {
    /// Counts into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// A service whose calls are observed.
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

type Answer<Body, Error> = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

impl<S, RequestBody, Body> Service<Request<RequestBody>> for Observed<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>>,
    S::Future: Send + 'static,
    Body: Default + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<Body, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let (service, method) = called(request.uri().path());
        let deadline = timeout(request.headers());
        let span = info_span!("rpc", method, trace_id = tracing::field::Empty);
        let parent = parent(request.headers());
        let begun = traces::begin(&span, Call { service, method, parent });
        if let Some(trace) = begun.or(parent.map(|parent| parent.trace)) {
            span.record("trace_id", tracing::field::display(trace));
        }
        let mut running = Running {
            metrics: Arc::clone(&self.metrics),
            method: method.to_owned(),
            began: Instant::now(),
            code: None,
            span: span.clone(),
        };
        self.metrics.rpc_began();
        let answer = self.inner.call(request);
        let observed = async move {
            let response = match deadline {
                Some(limit) => match tokio::time::timeout(limit.saturating_sub(HEAD_START), answer).await {
                    Ok(response) => response?,
                    Err(_) => late(limit),
                },
                None => answer.await?,
            };
            running.ended(&response);
            Ok(response)
        };
        Box::pin(observed.instrument(span))
    }
}

fn late<Body: Default>(limit: Duration) -> Response<Body> {
    Status::deadline_exceeded(format!("no result within the {limit:?} that the caller gave")).into_http()
}

/// The status of an answer that ended without a stream: tonic puts errors into the headers.
fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// An RPC in progress. Dropped without an answer, its caller went away.
struct Running {
    metrics: Arc<Metrics>,
    method: String,
    began: Instant,
    code: Option<Code>,
    span: Span,
}

impl Running {
    fn ended<Body>(&mut self, response: &Response<Body>) {
        let code = code(response.headers());
        self.code = Some(code);
        let took = self.began.elapsed();
        let message = Status::from_header_map(response.headers())
            .map(|status| status.message().to_owned())
            .unwrap_or_default();
        match blame(code) {
            None => debug!(?took, "done"),
            // A caller's mistake is the caller's to log.
            Some(Blame::Caller) => debug!(?took, ?code, message, "refused"),
            Some(Blame::Workload | Blame::Node) => warn!(?took, ?code, message, "failed"),
            Some(Blame::Husk) => error!(?took, ?code, message, "failed"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let rpc = Rpc { method: std::mem::take(&mut self.method), code: format!("{code:?}") };
        self.metrics.rpc_ended(&rpc, self.began.elapsed());
        // A caller's mistake is no failure of the server's (OpenTelemetry, "gRPC server status").
        let failed = matches!(blame(code), Some(Blame::Workload | Blame::Node | Blame::Husk));
        traces::end(&self.span, code.into(), failed);
    }
}

/// Service and method of a call: `/runtime.v1.RuntimeService/Version`.
fn called(path: &str) -> (&str, &str) {
    let (service, method) = path.rsplit_once('/').unwrap_or_default();
    (service.trim_start_matches('/'), method)
}

/// The span that a caller's call is made in. Of several, none is known to be the one.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut sent = headers.get_all("traceparent").iter();
    let first = sent.next()?.to_str().ok()?;
    if sent.next().is_some() { None } else { Parent::parse(first) }
}

/// The caller's deadline (gRPC over HTTP/2, `Timeout`): at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().last()?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number.checked_mul(3600)?),
        'M' => Duration::from_secs(number.checked_mul(60)?),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inner service that answers after `takes`, behind the layer.
    async fn call(takes: Duration, grpc_timeout: &str) -> (Status, String) {
        let metrics = Arc::new(Metrics::new("test"));
        let slow = tower::service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let mut service = Observe::new(Arc::clone(&metrics)).layer(slow);
        let request = Request::builder()
            .uri("/runtime.v1.ImageService/PullImage")
            .header("grpc-timeout", grpc_timeout)
            .body(())
            .unwrap();
        let response = service.call(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""));
        (status, metrics.text().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_too_late_is_deadline_exceeded() {
        for limit in ["1m", "2S"] {
            let (status, metrics) = call(Duration::from_secs(60), limit).await;
            assert_eq!(status.code(), Code::DeadlineExceeded, "{limit}: {status}");
            let line = "rpc_duration_seconds_count{method=\"PullImage\",code=\"DeadlineExceeded\"} 1";
            assert!(metrics.contains(line), "{metrics}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_passed_on() {
        let (status, metrics) = call(Duration::from_secs(1), "2S").await;
        assert_eq!(status.code(), Code::Ok);
        assert!(metrics.contains("method=\"PullImage\",code=\"Ok\"} 1"), "{metrics}");
        assert!(metrics.contains("rpcs_running 0"), "{metrics}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_is_counted_as_cancelled() {
        let metrics = Arc::new(Metrics::new("test"));
        let stuck = tower::service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<String>, std::convert::Infallible>>()
        });
        let mut service = Observe::new(Arc::clone(&metrics)).layer(stuck);
        let answer = service.call(Request::builder().uri("/x/StopContainer").body(()).unwrap());
        drop(answer);
        let text = metrics.text().unwrap();
        assert!(text.contains("method=\"StopContainer\",code=\"Cancelled\"} 1"), "{text}");
        assert!(text.contains("rpcs_running 0"), "{text}");
    }

    #[test]
    fn a_trace_is_taken_from_the_callers_context_if_it_is_one() {
        let of = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append("traceparent", text.parse().unwrap());
            }
            parent(&headers).map(|parent| parent.trace.to_string())
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let text = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(of(&[&text]).as_deref(), Some(id));
        assert_eq!(of(&[&text, &text]), None);
        assert_eq!(of(&["00-short-00f067aa0ba902b7-01"]), None);
        assert_eq!(of(&["nonsense"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_path_names_service_and_method() {
        assert_eq!(called("/runtime.v1.RuntimeService/Version"), ("runtime.v1.RuntimeService", "Version"));
        assert_eq!(called("/Version"), ("", "Version"));
        assert_eq!(called(""), ("", ""));
    }

    #[test]
    fn the_callers_deadline_is_read_in_every_unit() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("1m", Some(Duration::from_millis(1))),
            ("7M", Some(Duration::from_secs(420))),
            ("9u", Some(Duration::from_micros(9))),
            ("", None),
            ("S", None),
            ("5x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout(&headers), expected, "{text:?}");
        }
    }
}
