//! Requests below `/secrets` and `/configs`.

use husk_swarm::{PayloadKind, PayloadSpec, State};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{cluster::version, filtered::suits, room::Room, shown};
use crate::{
    error::{Failure, Result},
    events::Subject,
    filters::Filters,
    http::{Answer, Call, empty, json},
};

/// Answers a request; `path` has what follows `secrets` or `configs`.
pub(super) async fn route(room: &Room, kind: PayloadKind, mut call: Call, path: &[&str]) -> Result<Answer> {
    match (call.method.clone(), path) {
        (Method::GET, []) => list(room, kind, &call),
        (Method::POST, ["create"]) => {
            let spec: PayloadSpec = call.json().await?;
            let name = spec.name.clone();
            let id = room.swarm.change(|state| state.create_payload(kind, spec))?;
            publish(room, kind, "create", &id, &name);
            json(StatusCode::CREATED, &json!({ "ID": id }))
        }
        (Method::GET, [name]) => {
            let look =
                |state: &State| state.find_payload(kind, name).map(|payload| shown::payload(kind, payload));
            json(StatusCode::OK, &room.swarm.read(look)??)
        }
        (Method::POST, [name, "update"]) => {
            let seen = version(&call)?;
            let spec: PayloadSpec = call.json().await?;
            let id = room.swarm.change(|state| {
                let id = state.find_payload(kind, name)?.meta.id.clone();
                state.update_payload(kind, &id, seen, &spec)?;
                Ok(id)
            })?;
            publish(room, kind, "update", &id, &spec.name);
            Ok(empty(StatusCode::OK))
        }
        (Method::DELETE, [name]) => {
            let removed = room.swarm.change(|state| state.remove_payload(kind, name))?;
            publish(room, kind, "remove", &removed.meta.id, &removed.spec.name);
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Failure::no_page()),
    }
}

fn list(room: &Room, kind: PayloadKind, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["id", "label", "name", "names"])?;
    let look = |state: &State| -> Vec<Value> {
        let all = state.payloads(kind).values();
        let wanted =
            all.filter(|payload| suits(&filters, &payload.meta.id, &payload.spec.name, &payload.spec.labels));
        wanted.map(|payload| shown::payload(kind, payload)).collect()
    };
    json(StatusCode::OK, &room.swarm.read(look)?)
}

fn publish(room: &Room, kind: PayloadKind, action: &str, id: &str, name: &str) {
    let subject = match kind {
        PayloadKind::Secret => Subject::Secret,
        PayloadKind::Config => Subject::Config,
    };
    room.shared.events.publish(subject, action, id, [("name".to_owned(), name.to_owned())].into());
}
