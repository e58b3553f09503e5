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
    let closing = Arc::clone(&door);
    let answer = move |session, request| answer(Arc::clone(&door), session, request);
    speak(stream, async move { closing.closed().await }, guest, answer).await;
}

/// HTTP, until the end of the connection or of HTTP on it; then what a handler has left to be done.
async fn speak<F: Future<Output = Answer> + Send + 'static>(
    stream: UnixStream,
    closing: impl Future<Output = ()>,
    guest: Guest,
    answer: impl Fn(SessionSlot, Request<Incoming>) -> F,
) {
    let session = SessionSlot::default();
    let service = service_fn(|request: Request<Incoming>| -> Pin<Box<dyn Future<Output = _> + Send>> {
        // Whoever makes a request is no stranger any more; the second time this changes nothing.
        let _was_put_out = guest.leave();
        let answer = answer(session.clone(), request);
        Box::pin(async move { Ok::<Answer, Infallible>(answer.await) })
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        // As dockerd sends them: scripts look for `Api-Version`.
        .title_case_headers(true)
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut closing = pin!(closing);
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

#[cfg(test)]
mod tests {
    use husk_lobby::Lobby;
    use hyper::{Method, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::http::{Call, Content, Query, RAW, Version, plain};

    /// What a client reads that sends `request`, and then `after` when the head of the answer has come.
    async fn said(request: &str, after: &str) -> String {
        let (mut client, server) = UnixStream::pair().unwrap();
        let lobby = Lobby::new(1, Duration::from_secs(5));
        let serving = tokio::spawn(async move {
            let answer = |session: SessionSlot, request: Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let mut call = Call {
                    method: Method::POST,
                    version: Version::v1(56),
                    query: Query::default(),
                    headers: head.headers,
                    content: Content::Incoming(body),
                    session,
                };
                if head.uri.path() != "/attach" {
                    return plain(StatusCode::OK, "plain");
                }
                call.content.whole(1024).await.unwrap();
                call.hijack(RAW, |mut io| async move {
                    // Answers only when the client has said all: each way has its own end.
                    let mut heard = String::new();
                    io.reader.read_to_string(&mut heard).await.unwrap();
                    io.writer.write_all(format!("heard {heard}").as_bytes()).await.unwrap();
                })
            };
            lobby.host(|guest| speak(server, std::future::pending(), guest, answer)).await
        });
        client.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(client.read_u8().await.unwrap());
        }
        client.write_all(after.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        serving.await.unwrap().unwrap();
        String::from_utf8(seen).unwrap() + &rest
    }

    #[tokio::test]
    async fn a_client_that_asks_for_an_upgrade_gets_the_connection_with_both_its_ends() {
        let request = "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}";
        let said = said(request, "input").await;
        assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
        assert!(said.to_lowercase().contains("upgrade: tcp\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\nheard input"), "{said}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_gets_an_answer_with_an_open_end() {
        let said = said("POST /attach HTTP/1.1\r\nHost: d\r\n\r\n", "input").await;
        assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
        assert!(!said.to_lowercase().contains("content-length") && !said.contains("chunked"), "{said}");
        assert!(said.ends_with("\r\n\r\nheard input"), "{said}");
    }

    #[tokio::test]
    async fn what_came_with_the_request_is_not_lost() {
        let said = said(
            "POST /attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ",
            "late",
        )
        .await;
        assert!(said.ends_with("heard early late"), "{said}");
    }

    #[tokio::test]
    async fn other_requests_stay_http() {
        let said = said("POST /other HTTP/1.1\r\nHost: d\r\n\r\n", "").await;
        assert!(said.ends_with("plain"), "{said}");
    }
}
