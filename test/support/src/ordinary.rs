//! Values that say nothing but a name. A test changes what it is about: `PodConfig { hostname: ..., ..pod("web") }`.

use std::sync::Arc;

use husk_model::{
    ContainerConfig, ContainerMetadata, Mount, MountSource, PodConfig, PodMetadata, PodSandboxId, PodState,
    PodStatus, Propagation,
};

/// The first attempt at a pod `name` of namespace `default`; its UID is derived from the name.
pub fn pod(name: &str) -> PodConfig {
    PodConfig::named(PodMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        attempt: 0,
    })
}

/// The status of a [`pod`] that is ready.
pub fn pod_status(id: PodSandboxId, name: &str) -> PodStatus {
    PodStatus {
        id,
        config: Arc::new(pod(name)),
        state: PodState::Ready,
        created_at: 1,
        ips: Vec::new(),
        process: None,
        message: String::new(),
    }
}

/// The first attempt at a container `name` of `image`, which runs what the image says.
pub fn container(name: &str, image: &str) -> ContainerConfig {
    ContainerConfig::named(ContainerMetadata { name: name.to_owned(), attempt: 0 }, image.to_owned())
}

/// A path of the node in a container, writable and private.
pub fn mount(host_path: &str, container_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        source: MountSource::HostPath(host_path.to_owned()),
        readonly: false,
        recursive_readonly: false,
        selinux_relabel: false,
        propagation: Propagation::Private,
        options: Vec::new(),
        id_mapping: None,
    }
}
