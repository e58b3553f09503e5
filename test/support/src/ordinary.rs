//! Requests that say nothing but a name. A test changes what it is about: `PodConfig { hostname: ..., ..pod("web") }`.

use husk_model::{ContainerConfig, ContainerMetadata, PodConfig, PodMetadata};

/// The first attempt at a pod `name` of namespace `default`; its UID is derived from the name.
pub fn pod(name: &str) -> PodConfig {
    PodConfig {
        metadata: PodMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: String::new(),
        dns: None,
        host_ports: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        cgroup_parent: String::new(),
        sysctls: Default::default(),
        security: Default::default(),
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
    }
}

/// The first attempt at a container `name` of `image`, which runs what the image says.
pub fn container(name: &str, image: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: name.to_owned(), attempt: 0 },
        image: image.to_owned(),
        user_specified_image: String::new(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        log_path: String::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Default::default(),
        security: Default::default(),
        stop_signal: None,
    }
}
