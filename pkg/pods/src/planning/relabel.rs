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
    use husk_model::MountSource;
    use husk_test_support::mount;

    use super::*;

    #[test]
    fn volumes_are_relabelled_because_their_mount_says_so_not_for_their_place() {
        let relabel = |mount| Mount { selinux_relabel: true, ..mount };
        let source = MountSource::Image { reference: "x".to_owned(), sub_path: String::new() };
        let mounts = vec![
            mount("/etc/hosts", "/etc/hosts"),
            relabel(mount("/data", "/data")),
            mount("/other", "/other"),
            relabel(Mount { source, ..mount("", "/image") }),
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
