//! One request: `GET` or `POST /exec|attach|portforward/<token>` with an upgrade. Everything else gets an error.
//!
//! The token is taken last, when nothing else can go wrong: a client that is refused because of its protocol may try another
//! with the same URL, as the clients' libraries do.

use std::sync::Arc;

use http_body_util::Full;
use husk_lobby::Guest;
use hyper::{
    Method, Request as HttpRequest, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tracing::{Instrument, debug, info_span};

use crate::{
    Wanted,
    activity::Activity,
    channel::Output,
    negotiate::{Agreement, Carriage, Format, Purpose, Refusal, Version, negotiate, refuse},
    peer::Peer,
    places::Place,
    request::Request,
    session::{self, Channels, Context},
    shared::Shared,
    spdy, websocket,
};

/// Answers a request; an upgraded connection goes on in a task of its own.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    peer: &Peer,
    guest: &Guest,
    mut http: HttpRequest<Incoming>,
) -> Response<Full<Bytes>> {
    match accept(shared, guest, &http) {
        Ok(accepted) => {
            let upgrade = hyper::upgrade::on(&mut http);
            let response = switching(&accepted.agreement);
            let span = info_span!("stream", kind = accepted.request.purpose().path());
            tokio::spawn(run(Arc::clone(shared), peer.clone(), upgrade, accepted).instrument(span));
            response
        }
        Err(refusal) => {
            debug!(code = %refusal.code, refusal.reason, "a streaming request was refused");
            error(refusal)
        }
    }
}

struct Accepted {
    request: Request,
    agreement: Agreement,
    place: Place,
}

fn accept(shared: &Shared, guest: &Guest, http: &HttpRequest<Incoming>) -> Result<Accepted, Refusal> {
    let not_found = || refuse(StatusCode::NOT_FOUND, "unknown, expired or used URL");
    let (purpose, token) =
        http.uri().path().strip_prefix('/').and_then(|path| path.split_once('/')).ok_or_else(not_found)?;
    let purpose = Purpose::of_path(purpose).ok_or_else(not_found)?;
    if ![Method::GET, Method::POST].contains(http.method()) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "GET and POST are served"));
    }
    let agreement = negotiate(purpose, http.headers())?;
    // Before a session's place is taken, if only for a moment: whoever has no token holds nothing.
    let pod = shared.tokens.pod(purpose, token).ok_or_else(not_found)?;
    let place = shared.sessions.take(&pod).map_err(|held| {
        let most = shared.config.max_sessions;
        let reason = format!("the pod has {held} sessions open, its share of the node's {most}");
        refuse(StatusCode::SERVICE_UNAVAILABLE, reason)
    })?;
    let mut request = shared.tokens.take(purpose, token).ok_or_else(not_found)?;
    if let (Request::PortForward { ports, .. }, Carriage::Channels(..)) = (&mut request, agreement.carriage) {
        if ports.is_empty() {
            *ports = ports_of(http.uri().query().unwrap_or_default());
        }
        if ports.is_empty() || ports.len() > MAX_CHANNEL_PORTS {
            let reason = format!("between 1 and {MAX_CHANNEL_PORTS} ports can be forwarded in channels");
            return Err(refuse(StatusCode::BAD_REQUEST, reason));
        }
    }
    if !guest.leave() {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many connections"));
    }
    Ok(Accepted { request, agreement, place })
}

/// Two channels each, which are numbered in a byte.
const MAX_CHANNEL_PORTS: usize = 100;

/// Ports of a query: `port=80&port=81` or `ports=80,81`.
fn ports_of(query: &str) -> Vec<u16> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| ["port", "ports"].contains(key))
        .flat_map(|(_, ports)| ports.split(','))
        .filter_map(|port| port.parse().ok())
        .filter(|port| *port != 0)
        .collect()
}

fn switching(agreement: &Agreement) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in &agreement.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn error(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{}\n", refusal.reason)));
    *response.status_mut() = refusal.code;
    // Here and not as the server's setting, which would put it into the upgrade's answer too.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for (name, value) in refusal.headers {
        response.headers_mut().append(name, value);
    }
    response
}

// === running the session ===

async fn run(shared: Arc<Shared>, peer: Peer, upgrade: OnUpgrade, accepted: Accepted) {
    let Accepted { request, agreement, place } = accepted;
    match upgrade.await {
        Ok(upgraded) => {
            let context = Context {
                containers: Arc::clone(&shared.containers),
                ending: shared.ending.clone(),
                activity: Activity::new(),
                idle_timeout: shared.config.idle_timeout,
                creation_timeout: shared.config.creation_timeout,
            };
            let io = TokioIo::new(upgraded);
            match request {
                Request::Exec { .. } | Request::Attach { .. } => {
                    command(&context, io, peer, agreement.carriage, request).await;
                }
                Request::PortForward { pod, ports } => {
                    forward(&context, io, peer, agreement.carriage, pod, ports).await;
                }
            }
        }
        Err(error) => debug!(%error, "a client was gone before its upgrade"),
    }
    drop(place);
}

type Io = TokioIo<Upgraded>;

async fn command(context: &Context, io: Io, peer: Peer, carriage: Carriage, request: Request) {
    let (container, argv, wanted) = match request {
        Request::Exec { container, argv, wanted, .. } => (container, Some(argv), wanted),
        Request::Attach { container, wanted, .. } => (container, None, wanted),
        Request::PortForward { .. } => return,
    };
    let activity = context.activity.clone();
    let (streams, link, accepted) = match carriage {
        Carriage::Spdy(version) => {
            let (mut accepted, link) = spdy::serve(io, peer, activity);
            let gathered = session::gather(&mut accepted, wanted, version, context.creation_timeout);
            match gathered.await {
                Ok(streams) => (streams, link, Some(accepted)),
                Err(reason) => {
                    debug!(reason, "a session ends before it began");
                    return;
                }
            }
        }
        Carriage::Channels(version, format) => {
            let (streams, link) = channel_streams(io, peer, activity, wanted, version, format).await;
            (streams, link, None)
        }
        // Only port-forwards are tunnelled.
        Carriage::Tunnel => return,
    };
    // Streams that come later are refused.
    drop(accepted);
    match argv {
        Some(argv) => session::exec(context, link, streams, container, argv, wanted.terminal).await,
        None => session::attach(context, link, streams, container).await,
    }
}

/// Channels of exec and attach: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize.
async fn channel_streams(
    io: Io,
    peer: Peer,
    activity: Activity,
    wanted: Wanted,
    version: Version,
    format: Format,
) -> (Channels, crate::link::Link) {
    let socket = websocket::server(io).await;
    let (inputs, frames, link) = websocket::channels(socket, format, &[0, 4], peer, activity);
    let mut inputs = inputs.into_iter();
    let (stdin, resize) = (inputs.next(), inputs.next());
    let output = |number: u32, wanted: bool| wanted.then(|| Output::new(number, frames.clone()));
    let streams = Channels {
        stdin: stdin.filter(|_| wanted.stdin),
        stdout: output(1, wanted.stdout),
        stderr: output(2, wanted.stderr),
        resize: resize.filter(|_| wanted.terminal),
        error: Output::new(3, frames.clone()),
        version,
    };
    // An empty message on the first channel to the client says that the session stands.
    let first = streams.stdout.as_ref().or(streams.stderr.as_ref()).unwrap_or(&streams.error);
    let _ = first.send(Bytes::new()).await;
    (streams, link)
}

async fn forward(
    context: &Context,
    io: Io,
    peer: Peer,
    carriage: Carriage,
    pod: husk_model::PodSandboxId,
    ports: Vec<u16>,
) {
    let activity = context.activity.clone();
    match carriage {
        Carriage::Spdy(_) => {
            let (accepted, link) = spdy::serve(io, peer, activity);
            session::forward_streams(context, link, accepted, pod).await;
        }
        Carriage::Tunnel => {
            let tunnel = websocket::Tunnel::new(websocket::server(io).await);
            let (accepted, link) = spdy::serve(tunnel, peer, activity);
            session::forward_streams(context, link, accepted, pod).await;
        }
        Carriage::Channels(_, format) => {
            let socket = websocket::server(io).await;
            let numbers = session::channel_numbers(ports.len());
            let (inputs, frames, link) = websocket::channels(socket, format, &numbers, peer, activity);
            session::forward_channels(context, link, inputs, frames, pod, ports).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_in_a_query() {
        assert_eq!(ports_of("port=80&port=81"), [80, 81]);
        assert_eq!(ports_of("x=1&ports=80,443"), [80, 443]);
        assert!(ports_of("port=0&port=65536&port=x&port").is_empty());
    }
}
