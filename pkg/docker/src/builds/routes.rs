//! Which answers what.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::{build, cache, hijacked};
use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, empty},
};

/// Answers a request; `path` has its decoded segments.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, path) {
        (&Method::POST, ["grpc"]) => hijacked::grpc(door, &call).await,
        (&Method::POST, ["session"]) => hijacked::session(door, &call).await,
        (&Method::POST, ["build"]) => build::build(door, call).await,
        (&Method::POST, ["build", "prune"]) => cache::prune(door, &call).await,
        // A build ends with its client's connection, which whoever asks for this closes next.
        (&Method::POST, ["build", "cancel"]) => Ok(empty(StatusCode::OK)),
        _ => Err(Failure::no_page()),
    }
}
