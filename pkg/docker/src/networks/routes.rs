//! Requests below `/networks`.

use std::{collections::BTreeMap, sync::Arc};

use husk_network::{NetworkError, NetworkSpec, Overlay};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    shown::{inspected, summary},
    wanted,
    which::{Which, all, find},
};
use crate::{
    api::network::{NetworkConnect, NetworkDisconnect},
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    facilities::Containers,
    filters::Filters,
    http::{Answer, Call, empty, json},
    when,
};

/// Answers a request; `path` has its decoded segments, the first being `networks`.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, &path[1..]) {
        (&Method::GET, []) => list(door, &call).await,
        (&Method::POST, ["create"]) => create(door, call).await,
        (&Method::POST, ["prune"]) => prune(door, &call).await,
        (&Method::GET, [name]) => inspect(door, &call, name).await,
        (&Method::DELETE, [name]) => remove(door, name).await,
        (&Method::POST, [name, "connect"]) => connect(door, call, name).await,
        (&Method::POST, [name, "disconnect"]) => disconnect(door, call, name).await,
        _ => Err(Failure::no_page()),
    }
}

async fn list(door: &Parts, call: &Call) -> Result<Answer> {
    let known = ["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];
    let filters = Filters::of(&call.query, &known)?;
    let dangling = filters.truth("dangling")?;
    if let Some(kind) = filters.single("type")?
        && !matches!(kind, "builtin" | "custom")
    {
        return Err(Failure::bad("invalid filter 'type': builtin or custom is expected"));
    }
    let none = BTreeMap::new();
    let suits = |which: &Which| {
        let labels = match which {
            Which::User(network) => &network.labels,
            Which::Host | Which::None => &none,
        };
        filters.suits("name", which.name())
            && filters.suits("id", which.id())
            && filters.is("driver", which.driver())
            && filters.is("scope", which.scope())
            && filters.is("type", if which.is_predefined() { "builtin" } else { "custom" })
            && filters.labels_suit(labels)
            && dangling.is_none_or(|wanted| is_dangling(door, which) == wanted)
    };
    let networks: Vec<Value> = all(door).await.iter().filter(|which| suits(which)).map(summary).collect();
    json(StatusCode::OK, &networks)
}

/// Whether nothing keeps it: it is not always there, and no container has it.
fn is_dangling(door: &Parts, which: &Which) -> bool {
    !which.is_predefined() && door.containers.of_network(which.id()).is_empty()
}

async fn inspect(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let which = find(door, name).await?;
    if call.query.get("scope").is_some_and(|scope| scope != which.scope()) {
        return Err(absent(name));
    }
    json(StatusCode::OK, &inspected(&which, &door.containers.of_network(which.id())))
}

fn absent(name: &str) -> Failure {
    NetworkError::NoNetwork { name: name.chars().take(80).collect() }.into()
}

async fn create(door: &Parts, mut call: Call) -> Result<Answer> {
    let mut spec = wanted::spec(call.json().await?)?;
    if spec.overlay.is_some() {
        door.swarm.check()?;
        check_ingress(door, &spec)?;
        spec.pool = door.swarm.pool();
    }
    let network = door.network.user().create(spec).await.map_err(|error| match error {
        // dockerd's; for others a pool that is used up is the node's matter.
        NetworkError::SubnetOverlaps { .. } => Failure::from(error).with_status(StatusCode::FORBIDDEN),
        error => error.into(),
    })?;
    let which = Which::User(network);
    publish(door, "create", &which);
    json(StatusCode::CREATED, &json!({ "Id": which.id(), "Warning": "" }))
}

/// There is one network for published ports at most.
fn check_ingress(door: &Parts, spec: &NetworkSpec) -> Result<()> {
    let is_ingress = |overlay: Option<Overlay>| overlay.is_some_and(|overlay| overlay.ingress);
    let other = door.network.user().list().into_iter().find(|network| is_ingress(network.overlay));
    match other.filter(|_| is_ingress(spec.overlay)) {
        None => Ok(()),
        Some(other) => Err(Failure::conflict(format!("ingress network ({}) is already present", other.id))),
    }
}

async fn remove(door: &Parts, name: &str) -> Result<Answer> {
    let which = find(door, name).await?;
    remove_one(door, &which).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn remove_one(door: &Parts, which: &Which) -> Result<()> {
    let name = which.name();
    if which.is_predefined() {
        return Err(Failure::forbidden(format!("{name} is a pre-defined network and cannot be removed")));
    }
    match door.network.user().remove(which.id()).await {
        Ok(_) => {}
        Err(NetworkError::NetworkInUse { .. }) => {
            let users =
                door.containers.of_network(which.id()).into_iter().filter(|endpoint| endpoint.user.running);
            let users: Vec<String> = users
                .map(|endpoint| format!("name:{:?} id:{:?}", endpoint.user.name, endpoint.user.id))
                .collect();
            return Err(Failure::forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                users.join(", ")
            )));
        }
        Err(error) => return Err(error.into()),
    }
    publish(door, "destroy", which);
    Ok(())
}

async fn connect(door: &Parts, mut call: Call, name: &str) -> Result<Answer> {
    let NetworkConnect { container, endpoint_config } = call.json().await?;
    let which = find(door, name).await?;
    if let Which::Host | Which::None = which {
        return Err(Failure::forbidden(format!(
            "container cannot be connected to {0} network - container must be created in the {0} network",
            which.name()
        )));
    }
    if let Which::User(network) = &which
        && network.overlay.is_some()
        && !network.attachable
    {
        return Err(Failure::forbidden(format!("network {name} not manually attachable")));
    }
    door.containers.connect(which.id(), &container, endpoint_config.unwrap_or_default()).await?;
    Ok(empty(StatusCode::OK))
}

async fn disconnect(door: &Parts, mut call: Call, name: &str) -> Result<Answer> {
    let NetworkDisconnect { container, force } = call.json().await?;
    let which = find(door, name).await?;
    if which == Which::Host {
        return Err(Failure::forbidden("container cannot be disconnected from host network"));
    }
    door.containers.disconnect(which.id(), &container, force).await?;
    Ok(empty(StatusCode::OK))
}

async fn prune(door: &Parts, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let until = match filters.single("until")? {
        None => i64::MAX,
        Some(text) => when::moment(text, husk_node::now())
            .ok_or_else(|| Failure::bad("invalid filter 'until': a time or a duration is expected"))?,
    };
    let mut deleted = Vec::new();
    for which in all(door).await {
        let Which::User(network) = &which else { continue };
        let is_ingress = network.overlay.is_some_and(|overlay| overlay.ingress);
        if is_ingress
            || network.created >= until
            || !filters.labels_suit(&network.labels)
            || !is_dangling(door, &which)
        {
            continue;
        }
        // Somebody may have joined it meanwhile.
        if remove_one(door, &which).await.is_ok() {
            deleted.push(network.name.clone());
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
    door.events.publish(Subject::Network, "prune", "", attributes);
    json(StatusCode::OK, &json!({ "NetworksDeleted": deleted }))
}

fn publish(door: &Parts, action: &str, which: &Which) {
    let attributes = BTreeMap::from([
        ("name".to_owned(), which.name().to_owned()),
        ("type".to_owned(), which.driver().to_owned()),
    ]);
    door.events.publish(Subject::Network, action, which.id(), attributes);
}
