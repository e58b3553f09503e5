//! Requests below `/swarm`.

use husk_swarm::{ClusterSpec, Init, Rotate, Status, SwarmError};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{room::Room, shown};
use crate::{
    api::request,
    error::{Failure, Result},
    http::{Answer, Call, empty, json},
};

request! {
    /// `POST /swarm/unlock`
    struct Unlock {
        /// `SWMKEY-1-...`
        unlock_key: String = "UnlockKey",
    }
}

/// Answers a request; `path` has what follows `swarm`.
pub(super) async fn route(room: &Room, mut call: Call, path: &[&str]) -> Result<Answer> {
    match (call.method.clone(), path) {
        (Method::GET, []) => json(StatusCode::OK, &room.swarm.read(shown::swarm)?),
        (Method::GET, ["unlockkey"]) => {
            let key = room.swarm.read(|state| state.cluster.unlock_key())?;
            json(StatusCode::OK, &json!({ "UnlockKey": key }))
        }
        (Method::POST, ["init"]) => {
            let init: Init = call.json().await?;
            json(StatusCode::OK, &room.init(init).await?)
        }
        (Method::POST, ["join"]) => Err(join(room)),
        (Method::POST, ["leave"]) => {
            room.leave(call.query.flag("force")).await?;
            Ok(empty(StatusCode::OK))
        }
        (Method::POST, ["update"]) => update(room, call).await,
        (Method::POST, ["unlock"]) => {
            let Unlock { unlock_key } = call.json().await?;
            room.swarm.unlock(&unlock_key)?;
            Ok(empty(StatusCode::OK))
        }
        _ => Err(Failure::no_page()),
    }
}

fn join(room: &Room) -> Failure {
    match room.swarm.status() {
        Status::Inactive => Failure::missing(
            "husk's swarm has one node and joins no other: run docker swarm init here, and a kubelet on each node for several",
        ),
        Status::Locked => SwarmError::Locked.into(),
        Status::Leaving => SwarmError::Leaving.into(),
        Status::Failed => SwarmError::Failed(room.swarm.failure().unwrap_or_default()).into(),
        Status::Active => SwarmError::AlreadyIn.into(),
    }
}

async fn update(room: &Room, mut call: Call) -> Result<Answer> {
    let seen = version(&call)?;
    let rotate = Rotate {
        worker: call.query.flag("rotateWorkerToken"),
        manager: call.query.flag("rotateManagerToken"),
        unlock: call.query.flag("rotateManagerUnlockKey"),
    };
    let spec: ClusterSpec = call.json_if_any().await?.unwrap_or_default();
    room.swarm.change(|state| state.update_cluster(seen, spec, rotate))?;
    Ok(empty(StatusCode::OK))
}

/// The version that the client changes.
///
/// # Errors
/// 400.
pub(super) fn version(call: &Call) -> Result<u64> {
    call.query
        .number("version")?
        .ok_or_else(|| Failure::bad("invalid version: the version of the object is expected"))
}
