//! Objects of the swarm in Docker's spelling.

use husk_swarm::{Meta, Payload, PayloadKind, State};
use serde_json::{Value, json};

use crate::when;

/// What every object begins with.
pub(super) fn object(meta: &Meta) -> Value {
    json!({
        "ID": meta.id,
        "Version": { "Index": meta.version },
        "CreatedAt": when::text(meta.created),
        "UpdatedAt": when::text(meta.updated),
    })
}

/// The swarm itself, without its tokens.
fn cluster(state: &State) -> Value {
    let cluster = &state.cluster;
    let mut shown = object(&cluster.meta);
    shown["Spec"] = json!(cluster.spec);
    shown["TLSInfo"] = json!({});
    shown["RootRotationInProgress"] = false.into();
    shown["DefaultAddrPool"] = json!(cluster.pools);
    shown["SubnetSize"] = cluster.subnet_size.into();
    shown["DataPathPort"] = cluster.data_path_port.into();
    shown
}

/// `GET /swarm`
pub(super) fn swarm(state: &State) -> Value {
    let mut shown = cluster(state);
    shown["JoinTokens"] =
        json!({ "Worker": state.cluster.worker_token, "Manager": state.cluster.manager_token });
    shown
}

/// The part of `/info`.
pub(super) fn info(state: &State) -> Value {
    json!({
        "NodeID": state.node.meta.id,
        "NodeAddr": state.cluster.host(),
        "LocalNodeState": "active",
        "ControlAvailable": true,
        "Error": "",
        "RemoteManagers": [{ "NodeID": state.node.meta.id, "Addr": state.cluster.address }],
        "Nodes": 1,
        "Managers": 1,
        "Cluster": cluster(state),
    })
}

/// What of the node is not in its record.
pub(super) struct Machine {
    pub(super) hostname: String,
    pub(super) cpus: usize,
    pub(super) memory: u64,
    pub(super) engine: &'static str,
}

/// The node.
pub(super) fn node(state: &State, machine: &Machine) -> Value {
    let node = &state.node;
    let mut shown = object(&node.meta);
    shown["Spec"] = json!(node.spec);
    shown["Description"] = json!({
        "Hostname": machine.hostname,
        "Platform": { "Architecture": std::env::consts::ARCH, "OS": "linux" },
        "Resources": { "NanoCPUs": machine.cpus.saturating_mul(1_000_000_000), "MemoryBytes": machine.memory },
        "Engine": {
            "EngineVersion": machine.engine,
            "Plugins": [
                { "Type": "Log", "Name": "json-file" },
                { "Type": "Log", "Name": "local" },
                { "Type": "Log", "Name": "none" },
                { "Type": "Network", "Name": "bridge" },
                { "Type": "Network", "Name": "host" },
                { "Type": "Network", "Name": "null" },
                { "Type": "Network", "Name": "overlay" },
                { "Type": "Volume", "Name": "local" },
            ],
        },
        "TLSInfo": {},
    });
    shown["Status"] = json!({ "State": "ready", "Addr": state.cluster.host() });
    shown["ManagerStatus"] =
        json!({ "Leader": true, "Reachability": "reachable", "Addr": state.cluster.address });
    shown
}

/// A secret, without its data, or a config.
pub(super) fn payload(kind: PayloadKind, payload: &Payload) -> Value {
    let mut shown = object(&payload.meta);
    shown["Spec"] = json!(payload.spec);
    if kind == PayloadKind::Secret
        && let Some(spec) = shown["Spec"].as_object_mut()
    {
        spec.remove("Data");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_without_its_data_and_a_config_with_it() {
        let mut made = Payload::default();
        made.spec.name = "a".to_owned();
        made.spec.data = "eA==".to_owned();
        assert_eq!(payload(PayloadKind::Secret, &made)["Spec"], json!({ "Name": "a", "Labels": {} }));
        assert_eq!(payload(PayloadKind::Config, &made)["Spec"]["Data"], "eA==");
    }
}
