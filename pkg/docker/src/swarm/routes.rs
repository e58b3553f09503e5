//! Requests about the swarm: which module answers what.

use husk_swarm::PayloadKind;

use super::{cluster, nodes, payloads, room::Room};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call},
};

/// Answers a request; `path` has its decoded segments.
///
/// # Errors
/// Those of what is asked for; 503 without a swarm.
pub(crate) async fn route(room: &Room, call: Call, path: &[&str]) -> Result<Answer> {
    match path {
        ["swarm", rest @ ..] => Box::pin(cluster::route(room, call, rest)).await,
        ["nodes", rest @ ..] => nodes::route(room, call, rest).await,
        ["secrets", rest @ ..] => payloads::route(room, PayloadKind::Secret, call, rest).await,
        ["configs", rest @ ..] => payloads::route(room, PayloadKind::Config, call, rest).await,
        _ => {
            room.check()?;
            Err(Failure::missing(
                "husk's swarm runs no services: containers, docker compose, or pods of a kubelet are what runs here",
            ))
        }
    }
}
