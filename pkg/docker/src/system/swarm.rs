//! What dockerd has and husk has not, answered as by a dockerd that does not use it: clients ask for it in passing.

use hyper::{Method, StatusCode};

use crate::{
    error::{Failure, Result},
    http::{Answer, Call, json},
};

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

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
        (&Method::POST, ["swarm", "init" | "join"]) => {
            Err(Failure::missing("husk has no swarm: for several nodes, run a kubelet on each"))
        }
        (&Method::POST, ["swarm", "leave"]) => Err(Failure::unavailable("This node is not part of a swarm")),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            Err(Failure::unavailable(NO_MANAGER))
        }
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
    fn a_node_without_swarm_answers_as_dockerd_does() {
        assert_eq!(status(Method::GET, "plugins"), 200);
        assert_eq!(status(Method::GET, "plugins/a/json"), 404);
        assert_eq!(status(Method::GET, "plugins/privileges"), 501);
        for path in ["nodes", "services", "services/a", "swarm", "swarm/unlockkey", "secrets", "configs/x"] {
            assert_eq!(status(Method::GET, path), 503, "{path}");
        }
        assert_eq!(status(Method::POST, "swarm/init"), 501);
        assert_eq!(status(Method::GET, "teapot"), 404);
    }
}
