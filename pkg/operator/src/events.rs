//! What happens on the node, of every door.

use futures_util::{Stream, stream};
use husk_model::UnixNanos;
use husk_pods::{Engine, Follower, Lifecycle, PodEvent, Unfollowed};
use husk_proto::admin as v1;
use tonic::Status;

use crate::convert;

/// Follows the node from now on; with `since`, without what ended before that.
pub(crate) fn follow(
    engine: &Engine,
    since: Option<UnixNanos>,
) -> impl Stream<Item = Result<v1::EventsResponse, Status>> + use<> {
    stream::unfold(Some(engine.follow()), move |follower| next(follower, since))
}

/// The next event; an error is the last.
async fn next(
    follower: Option<Follower>,
    since: Option<UnixNanos>,
) -> Option<(Result<v1::EventsResponse, Status>, Option<Follower>)> {
    let mut follower = follower?;
    loop {
        match follower.next().await {
            Ok(event) if since.is_some_and(|since| event.at < since) => {}
            Ok(event) => return Some((Ok(message(&event)), Some(follower))),
            Err(end) => return Some((Err(status(end)), None)),
        }
    }
}

fn status(end: Unfollowed) -> Status {
    match end {
        Unfollowed::Behind(lost) => {
            Status::aborted(format!("this client was too slow and lost {lost} events; call again"))
        }
        Unfollowed::Stopping => Status::unavailable("huskd stops; call again when it is back"),
    }
}

fn message(event: &PodEvent) -> v1::EventsResponse {
    let (what, container) = match &event.what {
        Lifecycle::Created(_, id) => ("created", id.as_str()),
        Lifecycle::Started(_, id) => ("started", id.as_str()),
        Lifecycle::Stopped(_, id) => ("stopped", id.as_str()),
        Lifecycle::Deleted(_, id) => ("deleted", id.as_str()),
        Lifecycle::PodReady(_) => ("ready", ""),
        Lifecycle::PodNotReady(_) => ("not-ready", ""),
        Lifecycle::PodDeleted(_) => ("deleted", ""),
    };
    v1::EventsResponse {
        at: event.at,
        what: what.to_owned(),
        pod: Some(convert::pod(&event.pod, &event.containers)),
        container_id: container.to_owned(),
    }
}
