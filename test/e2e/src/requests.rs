//! Small requests that tests start from.

use std::path::Path;

use crate::{BUSYBOX, v1};

/// A pod named `name` with its logs in `logs`.
pub fn pod(name: &str, logs: &Path) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "e2e".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: logs.display().to_string(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

/// A busybox container named `name` that sleeps.
pub fn container(name: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: vec!["sleep".to_owned(), "1000000".to_owned()],
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

/// A busybox container named `name` that runs a shell script.
pub fn with_command(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        ..container(name)
    }
}
