//! One connection: HTTP, and what it becomes when it leaves HTTP.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use husk_lobby::Guest;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tracing::debug;

use super::answering::answer;
use crate::{
    door::Parts,
    http::{Answer, Hijacked, SessionSlot},
};

/// Longest head of a request. A registry's token in `X-Registry-Auth` can have some KiB; dockerd takes 1 MiB.
const MAX_HEAD: usize = 256 << 10;
/// How long a connection may stay without a request. Clients keep some open for the next one.
const IDLE: Duration = Duration::from_secs(300);

/// Serves a connection until it ends.
pub(super) async fn serve(stream: UnixStream, door: Arc<Parts>, guest: Guest) {
    let session = SessionSlot::default();
    let service = service_fn(|request: Request<Incoming>| -> Pin<Box<dyn Future<Output = _> + Send>> {
        // Whoever makes a request is no stranger any more; the second time this changes nothing.
        let _was_put_out = guest.leave();
        let (door, session) = (Arc::clone(&door), session.clone());
        Box::pin(async move { Ok::<Answer, Infallible>(answer(door, session, request).await) })
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        // As dockerd sends them: scripts look for `Api-Version`.
        .title_case_headers(true)
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut closing = pin!(door.closed());
    let served = tokio::select! {
        served = poll_fn(|cx| http.poll_without_shutdown(cx)) => served,
        () = &mut closing => {
            // The request in progress is answered, and no other.
            Pin::new(&mut http).graceful_shutdown();
            poll_fn(|cx| http.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection of a Docker client ended in the middle");
        return;
    }
    let parts = http.into_parts();
    if let Some(session) = session.take() {
        session(Hijacked::new(parts.io.into_inner(), parts.read_buf)).await;
    }
}
