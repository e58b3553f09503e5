//! Which answers what; the last to be asked.

use std::sync::Arc;

use hyper::{
    Method, StatusCode,
    header::{CACHE_CONTROL, HeaderValue, PRAGMA},
};

use super::{about, disk, follow, info, login, plugins};
use crate::{
    door::Parts,
    error::Result,
    http::{Answer, Call, plain},
};

/// Answers a request; `path` has its decoded segments.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, path) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(ping(door)),
        (&Method::GET, ["version"]) => about::version(),
        (&Method::GET, ["info"]) => info::info(door).await,
        (&Method::GET, ["events"]) => follow::follow(door, &call),
        (&Method::GET, ["system", "df"]) => disk::disk(door, &call).await,
        (&Method::POST, ["auth"]) => login::login(door, call).await,
        _ => plugins::route(&call, path),
    }
}

/// Clients learn versions from the headers, which every answer has. A proxy must not answer for the daemon.
fn ping(door: &Parts) -> Answer {
    let mut answer = plain(StatusCode::OK, "OK");
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // BuildKit's, by which both kinds of clients build.
    headers.insert("builder-version", HeaderValue::from_static("2"));
    headers.insert("swarm", HeaderValue::from_static(door.swarm.header()));
    answer
}
