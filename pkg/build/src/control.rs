//! A client's calls to buildkitd: passed on as they are, but for those that begin a build.

use std::sync::Arc;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use husk_images::Auth;
use husk_model::chain;
use hyper::{HeaderMap, Request, Response, body::Incoming, header::CONTENT_LENGTH};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    error::Result,
    grpc::{self, AnyBody, Caller, frame, whole},
    proxy::{UNAVAILABLE, forward, send, serve},
    registry::{Credentials, Ticket},
    session, shown,
    site::{Builder, Built, Visit},
    solve::{self, Rewritten},
    workers,
};

/// gRPC's codes for what husk itself has to say.
const INVALID_ARGUMENT: i32 = 3;
const UNKNOWN: i32 = 2;

/// The call that is a build.
const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
/// The call that tells what the builder is.
const LIST_WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";
/// The call that follows a build.
const STATUS: &str = "/moby.buildkit.v1.Control/Status";
/// The details of an error, which repeat its words.
const DETAILS: &str = "grpc-status-details-bin";

/// A client's connection that has been let in.
#[derive(Debug)]
pub struct Control {
    visit: Arc<Visit>,
    buildkitd: Caller,
}

impl Builder {
    /// Lets a client in that wants to talk to buildkitd, which is started for it.
    ///
    /// # Errors
    /// [`crate::BuildError`]: what could not be started, with the remedy.
    pub async fn control(self: &Arc<Self>) -> Result<Control> {
        let visit = self.enter().await?;
        let buildkitd = visit.site.running.connect().await?;
        Ok(Control { visit: Arc::new(visit), buildkitd })
    }
}

impl Control {
    /// Serves the client until it hangs up, which ends the builds that it waits for.
    pub async fn attend(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (visit, buildkitd) = (self.visit, self.buildkitd);
        serve(io, move |request| {
            let (visit, buildkitd) = (Arc::clone(&visit), buildkitd.clone());
            async move {
                match request.uri().path() {
                    SOLVE => build(&visit, buildkitd, request).await,
                    STATUS => {
                        let port = visit.site.registry.port;
                        forward(buildkitd, request).await.map(|body| shown::statuses(body, port))
                    }
                    LIST_WORKERS => workers(&visit, buildkitd, request).await,
                    _ => forward(buildkitd, request).await,
                }
            }
            .boxed()
        })
        .await;
    }
}

/// A build: its request is changed on its way, and its answer on the way back.
async fn build(visit: &Visit, buildkitd: Caller, request: Request<Incoming>) -> Response<AnyBody> {
    let (head, body) = request.into_parts();
    let message = match grpc::only_message(body).await {
        Ok((Some(message), _)) => message,
        Ok((None, _)) => return grpc::status(INVALID_ARGUMENT, "the build has no request"),
        Err(reason) => return grpc::status(INVALID_ARGUMENT, &format!("the build's request: {reason}")),
    };
    let credentials = |session: String| credentials_of(&visit.builder, session);
    let Rewritten { message, ticket, makes_image } =
        match solve::rewrite(&message, &visit.site.registry, credentials) {
            Ok(rewritten) => rewritten,
            Err(error) => return grpc::status(INVALID_ARGUMENT, &chain(&error)),
        };
    let answer = match send(buildkitd, head, whole(frame(&message))).await {
        Ok(answer) => answer,
        Err(error) => return grpc::status(UNAVAILABLE, &format!("buildkitd broke off the build: {error}")),
    };
    let (mut head, body) = answer.into_parts();
    let (message, trailers) = match grpc::only_message(body).await {
        Ok(answered) => answered,
        Err(reason) => return grpc::status(UNAVAILABLE, &format!("buildkitd's answer: {reason}")),
    };
    let mut trailers = trailers.unwrap_or_default();
    let Some(message) = message else {
        explain(&mut head.headers, &ticket);
        explain(&mut trailers, &ticket);
        return Response::from_parts(head, with_trailers(whole(Default::default()), trailers));
    };
    let message = match done(visit, &ticket, makes_image, message) {
        Ok(message) => message,
        Err(reason) => return grpc::status(UNKNOWN, &reason),
    };
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, with_trailers(whole(frame(&message)), trailers))
}

/// A question for workers, whose answer is changed.
async fn workers(visit: &Visit, buildkitd: Caller, request: Request<Incoming>) -> Response<AnyBody> {
    let (head, body) = request.into_parts();
    let answer = match send(buildkitd, head, grpc::passed(body)).await {
        Ok(answer) => answer,
        Err(error) => return grpc::status(UNAVAILABLE, &format!("buildkitd cannot be asked: {error}")),
    };
    let (mut head, body) = answer.into_parts();
    let (message, trailers) = match grpc::only_message(body).await {
        Ok(answered) => answered,
        Err(reason) => return grpc::status(UNAVAILABLE, &format!("buildkitd's answer: {reason}")),
    };
    head.headers.remove(CONTENT_LENGTH);
    let described = message.map(|message| workers::described(&message, visit.site.gateway)).transpose();
    let body = match described {
        Ok(Some(message)) => whole(frame(&message)),
        Ok(None) => whole(Default::default()),
        Err(error) => return grpc::status(UNKNOWN, &format!("buildkitd's answer: {error}")),
    };
    Response::from_parts(head, with_trailers(body, trailers.unwrap_or_default()))
}

/// The answer to a build that went well.
fn done(visit: &Visit, ticket: &Ticket, makes_image: bool, message: bytes::Bytes) -> Result<Vec<u8>, String> {
    if !makes_image {
        return Ok(message.to_vec());
    }
    let Some(id) = ticket.built() else {
        return Err("the build ended well, and its image did not come to husk's store".to_owned());
    };
    let built = Built { id, names: ticket.order.names.clone() };
    visit.builder.tell(&built);
    solve::answered(&message, &built.id, &built.names).map_err(|error| format!("buildkitd's answer: {error}"))
}

/// Adds what went wrong in husk's registry to the words of an error, which else tell of a status of HTTP.
fn explain(headers: &mut HeaderMap, ticket: &Ticket) {
    let Some(Err(error)) = grpc::ended(headers) else { return };
    let Some(trouble) = ticket.trouble() else { return };
    // Clients take the words from the details, where there are any.
    headers.remove(DETAILS);
    headers.insert(grpc::MESSAGE, grpc::words(&format!("{error}: {trouble}")));
}

fn with_trailers(body: AnyBody, trailers: HeaderMap) -> AnyBody {
    if trailers.is_empty() {
        return body;
    }
    body.with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync()
}

/// Credentials as the session of this id has them.
pub(crate) fn credentials_of(builder: &Arc<Builder>, session: String) -> Credentials {
    let builder = Arc::downgrade(builder);
    Arc::new(move |host| {
        let (builder, session) = (builder.clone(), session.clone());
        async move {
            let caller = builder.upgrade()?.sessions().get(&session).cloned()?;
            let found: Option<Auth> = session::credentials(&caller, host).await;
            found
        }
        .boxed()
    })
}
