//! From the domain to answers.

use std::collections::HashMap;

use husk_images::Image;
use husk_model::{ContainerState, ContainerStatus, NamespaceMode, Namespaces, PodState, PodStatus};
use husk_proto::cri::v1;

use super::{mount, resources, security, signal};

/// An unsigned value that is there.
pub(crate) fn unsigned(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

pub(super) fn map(map: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

pub(super) fn pod_metadata(pod: &PodStatus) -> v1::PodSandboxMetadata {
    let metadata = &pod.config.metadata;
    v1::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

fn pod_state(pod: &PodStatus) -> v1::PodSandboxState {
    match pod.state {
        PodState::Ready => v1::PodSandboxState::SandboxReady,
        PodState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

/// An entry of ListPodSandbox.
pub(crate) fn pod_item(pod: &PodStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: pod.id.to_string(),
        metadata: Some(pod_metadata(pod)),
        state: pod_state(pod).into(),
        created_at: pod.created_at,
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.config.runtime_handler.clone(),
    }
}

fn namespace_mode(mode: NamespaceMode) -> i32 {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target => v1::NamespaceMode::Target,
    }
    .into()
}

fn user_namespace(namespaces: &Namespaces) -> v1::UserNamespace {
    let mode = if namespaces.user.is_some() { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Node };
    v1::UserNamespace {
        mode: mode.into(),
        uids: namespaces.user.iter().map(|user| security::id_mapping_message(user.uids)).collect(),
        gids: namespaces.user.iter().map(|user| security::id_mapping_message(user.gids)).collect(),
    }
}

fn namespaces(namespaces: &Namespaces) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: namespace_mode(namespaces.network),
        pid: namespace_mode(namespaces.pid),
        ipc: namespace_mode(namespaces.ipc),
        target_id: namespaces.target_id.clone(),
        userns_options: Some(user_namespace(namespaces)),
    }
}

/// Status of a sandbox.
pub(crate) fn pod_status(pod: &PodStatus) -> v1::PodSandboxStatus {
    let mut ips = pod.ips.iter().map(ToString::to_string);
    v1::PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some(pod_metadata(pod)),
        state: pod_state(pod).into(),
        created_at: pod.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(namespaces(pod.config.namespaces())) }),
        }),
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.config.runtime_handler.clone(),
    }
}

pub(super) fn container_metadata(container: &ContainerStatus) -> v1::ContainerMetadata {
    let metadata = &container.config.metadata;
    v1::ContainerMetadata { name: metadata.name.clone(), attempt: metadata.attempt }
}

/// State of a container for lists and filters.
pub(crate) fn container_state(state: &ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running { .. } => v1::ContainerState::ContainerRunning,
        ContainerState::Exited { .. } => v1::ContainerState::ContainerExited,
        ContainerState::Unknown { .. } => v1::ContainerState::ContainerUnknown,
    }
}

/// By its name, as both peers answer: what a client creates by (an id, from the kubelet) is `image_id`.
fn image_spec(container: &ContainerStatus) -> v1::ImageSpec {
    v1::ImageSpec {
        image: container.image_name.clone(),
        user_specified_image: container.config.user_specified_image.clone(),
        ..Default::default()
    }
}

/// An entry of ListContainers.
pub(crate) fn container_item(container: &ContainerStatus) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod_id.to_string(),
        metadata: Some(container_metadata(container)),
        image: Some(image_spec(container)),
        image_ref: container.image_ref.clone(),
        state: container_state(&container.state).into(),
        created_at: container.created_at,
        labels: map(&container.config.labels),
        annotations: map(&container.config.annotations),
        image_id: container.image_id.to_string(),
    }
}

/// Status of a container.
pub(crate) fn container_status(container: &ContainerStatus) -> v1::ContainerStatus {
    let mut status = v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(container_metadata(container)),
        state: container_state(&container.state).into(),
        created_at: container.created_at,
        image: Some(image_spec(container)),
        image_ref: container.image_ref.clone(),
        labels: map(&container.config.labels),
        annotations: map(&container.config.annotations),
        mounts: container.config.mounts.iter().map(|request| mount::shown(container, request)).collect(),
        log_path: container.log_path.clone(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources::to_proto(&container.resources)),
            windows: None,
        }),
        image_id: container.image_id.to_string(),
        user: container.user.as_ref().map(|user| v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: user.groups.iter().map(|gid| i64::from(*gid)).collect(),
            }),
        }),
        stop_signal: signal::to_proto(container.stop_signal).into(),
        ..Default::default()
    };
    match &container.state {
        ContainerState::Created => {}
        ContainerState::Running { started_at } => status.started_at = *started_at,
        ContainerState::Exited { started_at, exit } => {
            status.started_at = *started_at;
            status.finished_at = exit.finished_at;
            status.exit_code = exit.code;
            status.reason = exit.reason.as_str().to_owned();
            status.message = exit.message.clone();
        }
        ContainerState::Unknown { reason } => {
            status.reason = "Unreadable".to_owned();
            status.message = reason.clone();
        }
    }
    status
}

/// An image. The user's group is not part of the answer (CRI, Image.username).
pub(crate) fn image(image: &Image, pinned: bool) -> v1::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<u32>().ok();
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.iter().map(ToString::to_string).collect(),
        repo_digests: image.repo_digests.iter().map(ToString::to_string).collect(),
        size: image.size,
        uid: uid.map(|uid| v1::Int64Value { value: uid.into() }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: None,
        pinned,
    }
}
