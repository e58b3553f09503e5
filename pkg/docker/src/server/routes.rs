//! Which part answers what.

use std::sync::Arc;

use hyper::Method;

use crate::{
    containers,
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call},
    images, networks, system, volumes,
};

/// Answers a request; `path` has its decoded segments, without the version.
pub(super) async fn route(door: Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    let is_post = call.method == Method::POST;
    match path {
        ["containers" | "exec", ..] | ["commit"] => {
            Box::pin(containers::route(&door.containers, call, path)).await
        }
        ["images", ..] | ["distribution", ..] => images::route(&door, call, path).await,
        ["build", "prune"] if is_post => Err(Failure::missing(
            "husk keeps no build cache: it has no builder yet; buildx can drive a buildkitd of its own (driver docker-container or remote)",
        )),
        ["build" | "session" | "grpc"] if is_post => Err(Failure::missing(
            "husk has no builder yet: build elsewhere and pull or load the image, or let buildx drive a buildkitd of its own (driver remote)",
        )),
        ["volumes", ..] => volumes::route(&door, call, path).await,
        ["networks", ..] => networks::route(&door, call, path).await,
        _ => system::route(&door, call, path).await,
    }
}
