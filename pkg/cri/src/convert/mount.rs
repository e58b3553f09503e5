//! Mounts, from the request and back: all that a kind of volume is at the door.

use husk_model::{ContainerStatus, Mount, MountSource, Propagation};
use husk_proto::cri::v1;

use super::{
    check::{Checked, absolute, inside, invalid, known, line, text},
    security,
};

/// Checks a mount of a request.
pub(super) fn from_request(index: usize, message: v1::Mount) -> Checked<Mount> {
    let field = |name: &str| format!("config.mounts[{index}].{name}");
    let propagation = match known::<v1::MountPropagation>(&field("propagation"), message.propagation)? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if message.recursive_read_only && (!message.readonly || propagation != Propagation::Private) {
        return Err(invalid(field("recursive_read_only"), "needs readonly and PROPAGATION_PRIVATE"));
    }
    let id_mapping = match (message.uid_mappings.as_slice(), message.gid_mappings.as_slice()) {
        ([], []) => None,
        (uids, gids) => Some(security::id_mapping(&field("uidMappings"), &field("gidMappings"), uids, gids)?),
    };
    for (number, option) in message.mount_options.iter().enumerate() {
        if !["noexec", "nodev", "nosuid"].contains(&option.as_str()) {
            return Err(invalid(
                field(&format!("mount_options[{number}]")),
                format!("{option:?} is not noexec, nodev or nosuid"),
            ));
        }
    }
    let container_path = text(&field("container_path"), message.container_path.clone())?;
    if container_path.is_empty() {
        return Err(invalid(field("container_path"), "is empty"));
    }
    if is_root(&container_path) {
        return Err(invalid(field("container_path"), "is the root, which comes from the image"));
    }
    let source = source(&field, &message)?;
    Ok(Mount {
        container_path,
        source,
        readonly: message.readonly,
        recursive_readonly: message.recursive_read_only,
        selinux_relabel: message.selinux_relabel,
        propagation,
        options: message.mount_options,
        id_mapping,
    })
}

/// Where its content comes from.
fn source(field: &impl Fn(&str) -> String, message: &v1::Mount) -> Checked<MountSource> {
    let image = message.image.as_ref().map(|image| &image.image).filter(|image| !image.is_empty());
    match image {
        Some(_) if !message.readonly => {
            Err(invalid(field("readonly"), "is false, but an image volume is always read-only"))
        }
        Some(_) if !message.host_path.is_empty() => {
            Err(invalid(field("host_path"), "is set together with image"))
        }
        Some(image) => Ok(MountSource::Image {
            reference: line(&field("image.image"), image.clone())?,
            sub_path: inside(&field("image_sub_path"), message.image_sub_path.clone())?,
        }),
        // `image_sub_path` means nothing here, and the kubelet (1.37) sets it: once one volume of a pod is an image, it copies the
        // `subPath` of every mount.
        None => Ok(MountSource::HostPath(absolute(&field("host_path"), message.host_path.clone())?)),
    }
}

/// Whether a path inside a container, relative to its root with or without a slash, names the root itself.
fn is_root(path: &str) -> bool {
    let depth = path.split('/').fold(0usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    depth == 0
}

/// A mount as a container's status has it.
pub(super) fn shown(container: &ContainerStatus, mount: &Mount) -> v1::Mount {
    let (host_path, image, image_sub_path) = match &mount.source {
        MountSource::HostPath(path) => (path.clone(), None, String::new()),
        MountSource::Image { reference, sub_path } => {
            let image_ref = container.image_volumes.get(&mount.container_path).cloned().unwrap_or_default();
            let image = v1::ImageSpec { image: reference.clone(), image_ref, ..Default::default() };
            (String::new(), Some(image), sub_path.clone())
        }
        // The CRI has no word for one; nothing that came through it has one.
        // No request of this door has them.
        MountSource::Below { .. } | MountSource::Tmpfs { .. } => (String::new(), None, String::new()),
    };
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path,
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            Propagation::Private => v1::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
        }
        .into(),
        recursive_read_only: mount.recursive_readonly,
        image,
        image_sub_path,
        mount_options: mount.options.clone(),
        uid_mappings: mount
            .id_mapping
            .iter()
            .map(|mappings| security::id_mapping_message(mappings.uids))
            .collect(),
        gid_mappings: mount
            .id_mapping
            .iter()
            .map(|mappings| security::id_mapping_message(mappings.gids))
            .collect(),
    }
}
