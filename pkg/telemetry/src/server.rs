//! The endpoint that Prometheus scrapes.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use husk_lobby::Lobby;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::{debug, warn};

use crate::Metrics;

/// Connections at once. Anybody who reaches the address may ask, so the oldest makes way for the next one.
const CONNECTIONS: usize = 64;
/// How long a connection lasts at most: a scrape takes milliseconds, and Prometheus connects again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long accepting rests when the node has no descriptors or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves `GET /metrics` on `address` until the task is dropped; calls `refresh` before each answer.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    refresh: impl Fn(&Metrics) + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let lobby = Lobby::new(CONNECTIONS, PATIENCE);
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: the next connection may find some.
                    warn!(%error, "cannot accept a metrics connection");
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let (metrics, refresh, lobby) = (Arc::clone(&metrics), refresh.clone(), Arc::clone(&lobby));
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(&request, &metrics, &refresh);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                match lobby.host(|_guest| connection).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "a metrics connection ended early"),
                    Err(cut) => debug!("a metrics connection was closed: {cut}"),
                }
            });
        }
    });
    Ok(())
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    refresh: &impl Fn(&Metrics),
) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned());
    }
    refresh(metrics);
    match metrics.text() {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, text);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
