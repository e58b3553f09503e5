//! What is relabelled for SELinux.

use std::path::PathBuf;

use husk_model::Mount;
use husk_spec::PodFiles;

/// Whose files get the container's context: volumes that are to be relabelled, and the pod's own files. A volume on
/// `/etc/hosts` and the like is relabelled when its mount says so, not for its place (CVE-2021-43816).
pub(crate) fn relabelled(mounts: &[Mount], files: PodFiles) -> Vec<PathBuf> {
    let volumes = mounts.iter().filter(|mount| mount.selinux_relabel);
    let paths = volumes.filter_map(|mount| mount.source.host_path().map(PathBuf::from));
    paths.chain([files.hostname, files.hosts, files.resolv_conf]).collect()
}

#[cfg(test)]
mod tests {
    use husk_model::{MountSource, Propagation};

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
