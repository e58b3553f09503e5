//! Docker's plugins, which husk has not, answered as by a dockerd without any: clients ask for them in passing.

use hyper::{Method, StatusCode};

use crate::{
    error::{Failure, Result},
    http::{Answer, Call, json},
};

pub(super) fn route(call: &Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, path) {
        (&Method::GET, ["plugins"]) => json(StatusCode::OK, &[(); 0]),
        (&Method::POST, ["plugins", "pull" | "create"]) | (&Method::GET, ["plugins", "privileges"]) => {
            Err(Failure::missing("husk has no Docker plugins: volumes are local, networks are bridges"))
        }
        (_, ["plugins", name, ..]) => Err(Failure::not_found(format!(
            "plugin {:?} not found",
            name.chars().take(80).collect::<String>()
        ))),
        _ => Err(Failure::no_page()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str) -> u16 {
        let segments: Vec<&str> = path.split('/').collect();
        match route(&Call::made_up(method, "", ""), &segments) {
            Ok(answer) => answer.status().as_u16(),
            Err(failure) => failure.status().as_u16(),
        }
    }

    #[test]
    fn a_node_without_plugins_answers_as_dockerd_does() {
        assert_eq!(status(Method::GET, "plugins"), 200);
        assert_eq!(status(Method::GET, "plugins/a/json"), 404);
        assert_eq!(status(Method::GET, "plugins/privileges"), 501);
        assert_eq!(status(Method::GET, "teapot"), 404);
    }
}
