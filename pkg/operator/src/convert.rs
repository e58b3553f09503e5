//! Snapshots as messages.

use std::collections::{BTreeMap, HashMap};

use husk_model::{ContainerState, ContainerStatus, Door, History, PodState, PodStatus};
use husk_proto::admin as v1;
use serde_json::{Value, json};

use crate::find::container_name;

/// A door as messages have it.
pub(crate) fn door(door: Door) -> v1::Door {
    match door {
        Door::Cri => v1::Door::Cri,
        Door::Docker => v1::Door::Docker,
        Door::Husk => v1::Door::Husk,
    }
}

/// A door in words.
pub(crate) fn door_name(door: Door) -> &'static str {
    match door {
        Door::Cri => "the CRI (a kubelet's or crictl's call)",
        Door::Docker => "the Docker Engine API",
        Door::Husk => "husk's command line",
    }
}

/// A pod with these of its containers.
pub(crate) fn pod<'c>(
    status: &PodStatus,
    containers: impl IntoIterator<Item = &'c std::sync::Arc<ContainerStatus>>,
) -> v1::Pod {
    let (config, metadata) = (&status.config, &status.config.metadata);
    v1::Pod {
        id: status.id.to_string(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        attempt: metadata.attempt,
        door: door(config.door).into(),
        ready: status.state == PodState::Ready,
        created_at: status.created_at,
        ips: status.ips.iter().map(ToString::to_string).collect(),
        labels: tags(&config.labels),
        annotations: tags(&config.annotations),
        message: status.message.clone(),
        containers: containers.into_iter().map(|one| container(status, one)).collect(),
    }
}

fn container(pod: &PodStatus, status: &ContainerStatus) -> v1::Container {
    let config = &status.config;
    let mut message = v1::Container {
        id: status.id.to_string(),
        pod_id: status.pod_id.to_string(),
        name: container_name(pod, status).to_owned(),
        attempt: config.metadata.attempt,
        image: status.image_name.clone(),
        image_id: status.image_id.to_string(),
        created_at: status.created_at,
        pid: status.process.map_or(0, |process| process.pid.cast_signed()),
        labels: tags(&config.labels),
        annotations: tags(&config.annotations),
        log_path: status.log_path.clone(),
        ..v1::Container::default()
    };
    let state = match &status.state {
        ContainerState::Created => v1::State::Created,
        ContainerState::Running { started_at } => {
            message.started_at = *started_at;
            v1::State::Running
        }
        ContainerState::Exited { started_at, exit } => {
            message.started_at = *started_at;
            message.finished_at = exit.finished_at;
            message.exit_code = exit.code;
            exit.reason.as_str().clone_into(&mut message.reason);
            message.message.clone_from(&exit.message);
            v1::State::Exited
        }
        ContainerState::Unknown { reason } => {
            message.message.clone_from(reason);
            v1::State::Unknown
        }
    };
    message.state = state.into();
    message
}

fn tags(tags: &BTreeMap<String, String>) -> HashMap<String, String> {
    tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// All that is known of a pod, as JSON.
pub(crate) fn pod_json(status: &PodStatus, history: &History, containers: Vec<Value>) -> Value {
    json!({
        "id": status.id,
        "state": status.state,
        "created_at": status.created_at,
        "ips": status.ips,
        "pause": status.process,
        "message": status.message,
        "config": *status.config,
        "history": history,
        "containers": containers,
    })
}

/// All that is known of a container, as JSON.
pub(crate) fn container_json(status: &ContainerStatus, history: &History) -> Value {
    json!({
        "id": status.id,
        "pod_id": status.pod_id,
        "state": status.state,
        "created_at": status.created_at,
        "image_id": status.image_id,
        "image_ref": status.image_ref,
        "image": status.image_name,
        "image_volumes": status.image_volumes,
        "process": status.process,
        "user": status.user,
        "cgroup": status.cgroup_path,
        "log_path": status.log_path,
        "resources": status.resources,
        "stop_signal": status.stop_signal,
        "config": *status.config,
        "history": history,
    })
}
