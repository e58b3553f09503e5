//! Requests below `/containers` and `/exec`.

use hyper::{Method, StatusCode};

use crate::{
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call, json},
};

/// Answers a request; `path` has its decoded segments, the first being `containers` or `exec`.
pub(crate) async fn route(_door: &Parts, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, path) {
        (&Method::GET, ["containers", "json"]) => json(StatusCode::OK, &[(); 0]),
        (_, ["containers" | "exec", id, ..]) => {
            Err(Failure::not_found(format!("No such container: {}", id.chars().take(80).collect::<String>())))
        }
        _ => Err(Failure::no_page()),
    }
}
