//! GetContainerEvents.
//!
//! A sandbox's events carry its own id as the container id, as containerd's and CRI-O's do: one that becomes ready is created
//! and started. Every event has the status of the sandbox and of all its containers, so a client needs no further call
//! (KEP-3386).

use futures_util::{Stream, StreamExt, stream};
use husk_pods::{Follower, Lifecycle, PodEvent, Unfollowed};
use husk_proto::cri::v1;
use tonic::Status;

use super::RuntimeApi;
use crate::convert;

/// Follows the node from now on.
pub(super) fn get_container_events(
    api: &RuntimeApi,
) -> impl Stream<Item = Result<v1::ContainerEventResponse, Status>> + use<> {
    let follower = api.engine.follow();
    stream::unfold(Some(follower), next).flat_map(stream::iter)
}

/// What the next event is told as; an error is the last.
async fn next(
    follower: Option<Follower>,
) -> Option<(Vec<Result<v1::ContainerEventResponse, Status>>, Option<Follower>)> {
    let mut follower = follower?;
    Some(match follower.next().await {
        Ok(event) => (messages(&event).into_iter().map(Ok).collect(), Some(follower)),
        Err(end) => (vec![Err(status(end))], None),
    })
}

/// Both ask for a new call: the first has lost events and should list what there is; the second finds the next daemon.
fn status(end: Unfollowed) -> Status {
    match end {
        Unfollowed::Behind(lost) => Status::aborted(format!(
            "this client was too slow and lost {lost} events; call again and list pods and containers"
        )),
        Unfollowed::Stopping => Status::unavailable("huskd stops; call again when it is back"),
    }
}

fn messages(event: &PodEvent) -> Vec<v1::ContainerEventResponse> {
    use v1::ContainerEventType as Type;
    let (id, types): (&str, &[Type]) = match &event.what {
        Lifecycle::Created(_, id) => (id.as_str(), &[Type::ContainerCreatedEvent]),
        Lifecycle::Started(_, id) => (id.as_str(), &[Type::ContainerStartedEvent]),
        Lifecycle::Stopped(_, id) => (id.as_str(), &[Type::ContainerStoppedEvent]),
        Lifecycle::Deleted(_, id) => (id.as_str(), &[Type::ContainerDeletedEvent]),
        Lifecycle::PodReady(id) => (id.as_str(), &[Type::ContainerCreatedEvent, Type::ContainerStartedEvent]),
        Lifecycle::PodNotReady(id) => (id.as_str(), &[Type::ContainerStoppedEvent]),
        Lifecycle::PodDeleted(id) => (id.as_str(), &[Type::ContainerDeletedEvent]),
    };
    types
        .iter()
        .map(|&what| v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: what.into(),
            created_at: event.at,
            pod_sandbox_status: Some(convert::pod_status(&event.pod)),
            containers_statuses: event
                .containers
                .iter()
                .map(|container| convert::container_status(container))
                .collect(),
        })
        .collect()
}
