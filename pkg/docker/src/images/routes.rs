//! Requests below `/images` and `/distribution`. Names have slashes, so a name is everything between the first word and the last.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::{list, pull};
use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, empty},
};

/// Answers a request; `path` has its decoded segments, the first being one of them.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, &path[1..]) {
        (&Method::GET, ["json"]) => list::list(door, &call),
        (&Method::POST, ["create"]) => pull::pull(door, &call).await,
        (&Method::POST, [name @ .., "tag"]) if !name.is_empty() => tag(door, &call, &name.join("/")).await,
        _ => Err(Failure::no_page()),
    }
}

async fn tag(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let new = match (call.query.need("repo")?, call.query.get("tag")) {
        (repository, Some(tag)) => format!("{repository}:{tag}"),
        (repository, None) => repository.to_owned(),
    };
    door.images.tag(name, &new).await?;
    Ok(empty(StatusCode::CREATED))
}
