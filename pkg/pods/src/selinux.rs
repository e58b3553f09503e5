//! SELinux of pods and containers: a level per pod, which is on record; the contexts made of it; what is relabelled.

use std::path::PathBuf;

use husk_lsm::selinux::Hold;
use husk_model::{ContainerConfig, Mount, MountSource, PodConfig, SeLinuxContexts, SeLinuxLabel};
use husk_spec::PodFiles;

use crate::{Engine, PodsError, Result, pod::Pod, store::PodFile};

/// What a new pod gets; nothing on a node without SELinux.
#[derive(Debug)]
pub(crate) struct OfPod {
    /// Its level, taken.
    pub(crate) level: Option<Hold>,
    /// Of pause and of the pod's shared memory.
    pub(crate) labels: Option<SeLinuxContexts>,
}

/// Chooses for a new pod.
pub(crate) fn of_pod(engine: &Engine, config: &PodConfig) -> Result<OfPod> {
    let (wish, selinux) = (config.security.selinux.as_ref(), &engine.selinux);
    let level = selinux.pod_level(wish).map_err(PodsError::SeLinux)?;
    let labels = selinux.labels(level.as_ref().map(Hold::level), wish, config.security.privileged);
    Ok(OfPod { labels: labels.map_err(PodsError::SeLinux)?, level })
}

/// Takes the level that a pod has on record.
pub(crate) fn recovered(engine: &Engine, file: &PodFile) -> Option<Hold> {
    file.selinux_level.as_deref().map(|level| engine.selinux.recovered(level))
}

/// Chooses for a container: what it asks for, else what its pod asks for, and its pod's level.
pub(crate) fn of_container(
    engine: &Engine,
    pod: &Pod,
    config: &ContainerConfig,
) -> Result<Option<SeLinuxContexts>> {
    let pod_config = &pod.status.get().config;
    let asked = |wish: &&SeLinuxLabel| **wish != SeLinuxLabel::default();
    let own = config.security.selinux.as_ref().filter(asked);
    let wish = own.or(pod_config.security.selinux.as_ref());
    let level = pod.selinux_level.as_ref().map(Hold::level);
    engine.selinux.labels(level, wish, config.security.privileged).map_err(PodsError::SeLinux)
}

/// Whose files get the container's context: volumes that are to be relabelled, and the pod's own files. A volume on
/// `/etc/hosts` and the like is relabelled when its mount says so, not for its place (CVE-2021-43816).
pub(crate) fn relabelled(mounts: &[Mount], files: PodFiles) -> Vec<PathBuf> {
    let volumes = mounts.iter().filter(|mount| mount.selinux_relabel);
    let paths = volumes.filter_map(|mount| match &mount.source {
        MountSource::HostPath(path) => Some(PathBuf::from(path)),
        MountSource::Image { .. } => None,
    });
    paths.chain([files.hostname, files.hosts, files.resolv_conf]).collect()
}

#[cfg(test)]
mod tests {
    use husk_model::Propagation;

    use super::*;

    #[test]
    fn volumes_are_relabelled_because_their_mount_says_so_not_for_their_place() {
        let mount = |source: MountSource, container_path: &str, selinux_relabel| Mount {
            source,
            container_path: container_path.to_owned(),
            selinux_relabel,
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
            options: Vec::new(),
            id_mapping: None,
        };
        let host = |path: &str| MountSource::HostPath(path.to_owned());
        let image = MountSource::Image { reference: "x".to_owned(), sub_path: String::new() };
        let mounts = vec![
            mount(host("/etc/hosts"), "/etc/hosts", false),
            mount(host("/data"), "/data", true),
            mount(host("/other"), "/other", false),
            mount(image, "/image", true),
        ];
        let files = PodFiles {
            hostname: "/pod/hostname".into(),
            hosts: "/pod/hosts".into(),
            resolv_conf: "/pod/resolv".into(),
        };
        let paths = relabelled(&mounts, files);
        assert_eq!(paths, ["/data", "/pod/hostname", "/pod/hosts", "/pod/resolv"].map(PathBuf::from));
    }
}
