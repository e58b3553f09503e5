//! Calls that are passed on, from one connection of HTTP/2 to another.

use std::convert::Infallible;

use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_LENGTH, HOST},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::grpc::{self, AnyBody, Caller, WINDOWS};

/// gRPC's code for a connection that is not there.
pub(crate) const UNAVAILABLE: i32 = 14;

/// Serves HTTP/2 on a connection.
pub(crate) async fn serve<F>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F + Clone,
) where
    F: Future<Output = Response<AnyBody>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection of a build's client broke off");
    }
}

/// Passes a call on as it is.
pub(crate) async fn forward(to: Caller, request: Request<Incoming>) -> Response<AnyBody> {
    let (head, body) = request.into_parts();
    let passed = grpc::passed(body);
    send(to, head, passed).await.map_or_else(
        |error| grpc::status(UNAVAILABLE, &format!("the other side cannot be reached: {error}")),
        |answer| answer.map(grpc::passed),
    )
}

/// Sends a call on, with another body.
///
/// # Errors
/// When the connection has ended.
pub(crate) async fn send(
    mut to: Caller,
    head: hyper::http::request::Parts,
    body: AnyBody,
) -> Result<Response<Incoming>, hyper::Error> {
    let mut request = grpc::request(head.uri.path(), body);
    let mut headers = head.headers;
    headers.remove(HOST);
    headers.remove(CONTENT_LENGTH);
    *request.headers_mut() = headers;
    to.ready().await?;
    to.send_request(request).await
}
