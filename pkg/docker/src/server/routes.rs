//! Which part answers what.

use std::sync::Arc;

use crate::{
    builds, containers,
    door::Parts,
    error::Result,
    http::{Answer, Call},
    images, networks, swarm, system, volumes,
};

/// Answers a request; `path` has its decoded segments, without the version.
pub(super) async fn route(door: Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match path {
        ["containers" | "exec", ..] | ["commit"] => {
            Box::pin(containers::route(&door.containers, call, path)).await
        }
        ["images", ..] | ["distribution", ..] => images::route(&door, call, path).await,
        ["build" | "session" | "grpc", ..] => Box::pin(builds::route(&door, call, path)).await,
        ["volumes", ..] => volumes::route(&door, call, path).await,
        ["networks", ..] => networks::route(&door, call, path).await,
        ["swarm" | "nodes" | "secrets" | "configs" | "services" | "tasks", ..] => {
            swarm::route(&door.swarm, call, path).await
        }
        _ => system::route(&door, call, path).await,
    }
}
