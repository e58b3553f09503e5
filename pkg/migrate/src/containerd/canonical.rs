//! One name for a key, whatever version of the format it is in.
//!
//! Version 1 had short names of plugins, version 2 has their URIs, version 3 splits the CRI plugin in three, version 4 makes
//! servers plugins (containerd, cmd/containerd/server/config and docs/PLUGINS.md). Here the CRI's parts are all `cri`, and
//! servers are the tables that they were before version 4.

/// The canonical path of a key.
pub(super) fn canonical(raw: &[String]) -> Vec<String> {
    let Some((plugin, rest)) =
        raw.split_first().filter(|(top, _)| *top == "plugins").and_then(|(_, rest)| rest.split_first())
    else {
        return raw.to_vec();
    };
    let top: &[&str] = match plugin.as_str() {
        "cri"
        | "io.containerd.grpc.v1.cri"
        | "io.containerd.cri.v1.images"
        | "io.containerd.cri.v1.runtime" => &["cri"],
        "io.containerd.server.v1.grpc" => &["grpc"],
        "io.containerd.server.v1.grpc-tcp" => &["grpc-tcp"],
        "io.containerd.server.v1.ttrpc" => &["ttrpc"],
        "io.containerd.server.v1.debug" => &["debug"],
        "io.containerd.server.v1.metrics" | "io.containerd.metrics.v1.grpc-prometheus" => &["metrics"],
        "io.containerd.nri.v1.nri" => &["nri"],
        "io.containerd.transfer.v1.local" => &["transfer"],
        other => {
            return ["plugins", other].into_iter().map(str::to_owned).chain(rest.iter().cloned()).collect();
        }
    };
    top.iter().map(|part| (*part).to_owned()).chain(rest.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_in_all_versions() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (raw, name) in [
            ("plugins/cri/cni/conf_dir", "cri/cni/conf_dir"),
            ("plugins/io.containerd.grpc.v1.cri/cni/conf_dir", "cri/cni/conf_dir"),
            ("plugins/io.containerd.cri.v1.runtime/cni/conf_dir", "cri/cni/conf_dir"),
            ("plugins/io.containerd.server.v1.grpc/address", "grpc/address"),
            ("grpc/address", "grpc/address"),
            ("plugins/io.containerd.gc.v1.scheduler/x", "plugins/io.containerd.gc.v1.scheduler/x"),
            ("plugins", "plugins"),
        ] {
            assert_eq!(canonical(&path(raw)), path(name));
        }
    }
}
