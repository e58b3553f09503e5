//! Requests below `/images` and `/distribution`. Names have slashes, so a name is everything between the first word and the last.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::{archive, find::find, import, inspect, list, names::familiar, pull, push, remote, remove};
use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, empty},
};

/// Answers a request; `path` has its decoded segments, the first being one of them.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    let (method, named) = (call.method.clone(), |name: &[&str]| name.join("/"));
    if let ["distribution", name @ .., "json"] = path {
        return match method {
            Method::GET => remote::distribution(door, &call, &named(name)).await,
            _ => Err(Failure::no_page()),
        };
    }
    match (method, &path[1..]) {
        (Method::GET, ["json"]) => list::list(door, &call),
        (Method::GET, ["search"]) => remote::search(door, &call).await,
        (Method::GET, ["get"]) => {
            archive::save(door, call.query.all("names").map(str::to_owned).collect()).await
        }
        (Method::POST, ["create"]) if call.query.has("fromSrc") => import::import(door, call).await,
        (Method::POST, ["create"]) => pull::pull(door, &call).await,
        (Method::POST, ["load"]) => archive::load(door, call).await,
        (Method::POST, ["prune"]) => remove::prune(door, &call).await,
        (Method::GET, [name @ .., "json"]) => inspect::inspect(door, &call, &named(name)).await,
        (Method::GET, [name @ .., "history"]) => inspect::history(door, &named(name)).await,
        (Method::GET, [name @ .., "get"]) => archive::save(door, vec![named(name)]).await,
        (Method::POST, [name @ .., "push"]) => push::push(door, &call, &named(name)).await,
        (Method::POST, [name @ .., "tag"]) => tag(door, &call, &named(name)).await,
        (Method::DELETE, name) if !name.is_empty() => remove::remove(door, &call, &named(name)).await,
        _ => Err(Failure::no_page()),
    }
}

async fn tag(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let new = match (call.query.need("repo")?, call.query.get("tag")) {
        (repository, Some(tag)) => format!("{repository}:{tag}"),
        (repository, None) => repository.to_owned(),
    };
    let image = find(door, name)?;
    let full = door.images.tag(&image.id.to_string(), &new).await?;
    let shown = familiar(&full);
    let attributes = [("name".to_owned(), shown.to_owned())].into();
    door.events.publish(crate::events::Subject::Image, "tag", image.id.to_string(), attributes);
    Ok(empty(StatusCode::CREATED))
}
