//! One request: span, version, headers, log line.
//!
//! What changes something runs in a task of its own: a client that goes away must not leave it half done. What only asks ends
//! with its client.

use std::{sync::Arc, time::Instant};

use husk_model::Blame;
use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, HeaderName, HeaderValue, SERVER},
};
use percent_encoding::percent_decode_str;
use tracing::{Instrument, debug, error, info_span, warn};

use super::routes::route;
use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, Content, MAX_API, Query, SessionSlot, Version, failed},
};

/// Longest path: names of images, volumes and containers are short.
const MAX_PATH: usize = 8 << 10;

const SERVED_BY: &str = concat!("husk/", env!("CARGO_PKG_VERSION"), " (linux)");

/// Answers a request.
pub(super) async fn answer(door: Arc<Parts>, session: SessionSlot, request: Request<Incoming>) -> Answer {
    let span = info_span!("docker", method = %request.method(), path = shown(request.uri().path()));
    let began = Instant::now();
    async move {
        let is_head = request.method() == Method::HEAD;
        let answered = dispatch(door, session, request).await;
        let mut answer = match answered {
            Ok(answer) => {
                debug!(took = ?began.elapsed(), status = answer.status().as_u16(), "done");
                answer
            }
            Err(failure) => {
                tell(&failure, began);
                failed(&failure)
            }
        };
        headers(&mut answer);
        if is_head {
            *answer.body_mut() = crate::http::Body::Whole(None);
        }
        answer
    }
    .instrument(span)
    .await
}

async fn dispatch(door: Arc<Parts>, session: SessionSlot, request: Request<Incoming>) -> Result<Answer> {
    let (head, body) = request.into_parts();
    let (version, rest) = Version::of_path(head.uri.path())?;
    if rest.len() > MAX_PATH {
        return Err(Failure::bad(format!("the path has more than {MAX_PATH} bytes")));
    }
    let path = percent_decode_str(rest)
        .decode_utf8()
        .ok()
        .filter(|path| !path.contains('\0'))
        .ok_or_else(|| Failure::bad("the path is not UTF-8, or has a NUL"))?
        .into_owned();
    let call = Call {
        query: Query::parse(head.uri.query().unwrap_or_default()),
        method: head.method,
        version,
        headers: head.headers,
        content: Content::Incoming(body),
        session,
    };
    let only_asks = matches!(call.method, Method::GET | Method::HEAD);
    let routed = async move {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
        route(door, call, &segments).await
    };
    if only_asks {
        return routed.await;
    }
    let task = tokio::spawn(routed.in_current_span());
    task.await
        .unwrap_or_else(|_| Err(Failure::internal("husk's answer to this request panicked; see huskd's log")))
}

/// As the CRI's calls: a caller's mistake is the caller's to log.
fn tell(failure: &Failure, began: Instant) {
    let (took, status, message) = (began.elapsed(), failure.status().as_u16(), failure.message());
    match failure.blame() {
        Blame::Caller => debug!(?took, status, message, "refused"),
        Blame::Workload | Blame::Node => warn!(?took, status, message, "failed"),
        Blame::Husk => error!(?took, status, message, "failed"),
    }
}

/// What every answer has, but for one that leaves HTTP.
fn headers(answer: &mut Answer) {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let headers = answer.headers_mut();
    for (name, value) in [("api-version", MAX_API), ("docker-experimental", "false"), ("ostype", "linux")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(SERVER, HeaderValue::from_static(SERVED_BY));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
}

/// A stranger's path, as the log has it.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}
