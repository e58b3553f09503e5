//! Requests below `/nodes`.

use husk_swarm::NodeSpec;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{cluster::version, room::Room, shown};
use crate::{
    error::{Failure, Result},
    filters::Filters,
    http::{Answer, Call, empty, json},
};

/// Answers a request; `path` has what follows `nodes`.
pub(super) async fn route(room: &Room, mut call: Call, path: &[&str]) -> Result<Answer> {
    let machine = machine();
    match (call.method.clone(), path) {
        (Method::GET, []) => list(room, &call, &machine),
        (Method::GET, [name]) => {
            let look = |state: &husk_swarm::State| {
                state.find_node(name, &machine.hostname).map(|_| shown::node(state, &machine))
            };
            json(StatusCode::OK, &room.swarm.read(look)??)
        }
        (Method::DELETE, [name]) => {
            room.swarm.read(|state| state.remove_node(name, &machine.hostname))??;
            Ok(empty(StatusCode::OK))
        }
        (Method::POST, [name, "update"]) => {
            let seen = version(&call)?;
            let spec: NodeSpec = call.json().await?;
            room.swarm.change(|state| {
                state.find_node(name, &machine.hostname)?;
                state.update_node(seen, spec)
            })?;
            Ok(empty(StatusCode::OK))
        }
        _ => Err(Failure::no_page()),
    }
}

fn list(room: &Room, call: &Call, machine: &shown::Machine) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["id", "label", "membership", "name", "node.label", "role"])?;
    let look = |state: &husk_swarm::State| -> Vec<Value> {
        let spec = &state.node.spec;
        let names = [spec.name.as_str(), machine.hostname.as_str()];
        let begins = |key: &str, values: &[&str]| {
            let mut wanted = filters.values(key);
            !filters.has(key) || wanted.any(|wanted| values.iter().any(|value| value.starts_with(wanted)))
        };
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => spec.labels.get(name).is_some_and(|have| have == value),
            None => spec.labels.contains_key(wanted),
        };
        let suits = begins("id", &[&state.node.meta.id])
            && begins("name", &names)
            && filters.is("role", "manager")
            && filters.is("membership", "accepted")
            && filters.values("node.label").all(has)
            // Labels of engines: husk's has none.
            && !filters.has("label");
        suits.then(|| shown::node(state, machine)).into_iter().collect()
    };
    json(StatusCode::OK, &room.swarm.read(look)?)
}

/// What the node is made of.
fn machine() -> shown::Machine {
    let memory = rustix::system::sysinfo();
    shown::Machine {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        memory: (memory.totalram as u64).saturating_mul(memory.mem_unit.into()),
        engine: crate::system::ENGINE,
    }
}
