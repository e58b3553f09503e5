//! What readers see of a container that was just made or found.

use std::collections::BTreeMap;

use husk_model::{ContainerConfig, ContainerState, ContainerStatus, ImageId, PodSandboxId};
use std::sync::Arc;

use crate::{facilities::ImageFacts, records::ContainerFile};

/// The snapshot of a container from its record, waiting at its gate.
pub(crate) fn shown(pod: &PodSandboxId, file: &ContainerFile) -> ContainerStatus {
    ContainerStatus {
        id: file.id.clone(),
        pod_id: pod.clone(),
        config: Arc::clone(&file.config),
        image_id: file.image_id.clone(),
        image_ref: file.image_ref.clone(),
        image_name: match file.image_name.as_str() {
            "" => file.config.user_specified_image.clone(),
            name => name.to_owned(),
        },
        state: ContainerState::Created,
        created_at: file.created_at,
        log_path: file.log_path.clone(),
        user: None,
        resources: file.resources.clone(),
        stop_signal: file.stop_signal,
        process: None,
        cgroup_path: file.cgroup_path.clone(),
        image_volumes: by_path(&file.config, &file.image_volumes),
    }
}

/// The images' ids by the container path of their mount, for the status.
fn by_path(config: &ContainerConfig, images: &[ImageId]) -> BTreeMap<String, String> {
    config
        .mounts
        .iter()
        .filter(|mount| mount.source.image().is_some())
        .map(|mount| mount.container_path.clone())
        .zip(images.iter().map(ToString::to_string))
        .collect()
}

/// What people know the image by. The kubelet creates containers by image id and says besides what the pod has
/// (CRI, `ImageSpec.user_specified_image`); a client that names an id only gets to see what that image is called.
pub(crate) fn image_name(config: &ContainerConfig, image: &ImageFacts) -> String {
    let asked = match config.user_specified_image.as_str() {
        "" => config.image.as_str(),
        specified => specified,
    };
    let hex = asked.strip_prefix("sha256:").unwrap_or(asked);
    // A repository may be called like the beginning of an id.
    let repository = || image.names.iter().any(|name| name.ends_with(&format!("/{asked}:latest")));
    if image.id.digest().hex().starts_with(hex) && !repository() {
        return image.names.first().cloned().unwrap_or_else(|| image.id.to_string());
    }
    asked.to_owned()
}
