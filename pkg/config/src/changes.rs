//! What differs between two configurations, key by key.

use std::fmt::Debug;

use crate::Config;

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.key`, or a key of the top level.
    pub key: &'static str,
    /// The value in force.
    pub from: String,
    /// The value that was read.
    pub to: String,
}

/// Every key whose value differs, in the order of the file.
pub fn changes(from: &Config, to: &Config) -> Vec<Change> {
    let pairs = entries(from).into_iter().zip(entries(to));
    pairs
        .filter(|((_, from), (_, to))| from != to)
        .map(|((key, from), (_, to))| Change { key, from, to })
        .collect()
}

/// All keys with their values, in the order of the file.
fn entries(config: &Config) -> Vec<(&'static str, String)> {
    fn text(value: impl Debug) -> String {
        format!("{value:?}")
    }
    // Taken apart, so that a key that is added and not compared is an error of the compiler.
    let Config {
        root,
        state,
        address,
        network,
        images,
        cgroup,
        log,
        metrics_address,
        tracing,
        doctor,
        runtime,
        nri,
        streaming,
        docker,
    } = config;
    let crate::NetworkConfig {
        cni_conf_dir,
        cni_bin_dir,
        bridge,
        subnet,
        subnet6,
        mtu,
        nft_table,
        netns_pool,
    } = network;
    let crate::ImagesConfig {
        registry_config_dir,
        registries_conf,
        max_parallel_layers,
        pull_progress_timeout,
        signature_policy,
        auth_file,
        credential_helper_dir,
        pinned_images,
    } = images;
    let crate::CgroupConfig { driver, parent } = cgroup;
    let crate::LogConfig { level, format } = log;
    let crate::DoctorConfig { interval, repair } = doctor;
    let crate::RuntimeConfig { podmon, pause, cdi_dirs, handlers, unprivileged_ports, unprivileged_icmp } =
        runtime;
    let crate::StreamingConfig {
        address: streaming_address,
        tls,
        idle_timeout,
        creation_timeout,
        max_sessions,
    } = streaming;
    vec![
        ("root", text(root)),
        ("state", text(state)),
        ("address", text(address)),
        ("network.cni_conf_dir", text(cni_conf_dir)),
        ("network.cni_bin_dir", text(cni_bin_dir)),
        ("network.bridge", text(bridge)),
        ("network.subnet", text(subnet)),
        ("network.subnet6", text(subnet6)),
        ("network.mtu", text(mtu)),
        ("network.nft_table", text(nft_table)),
        ("network.netns_pool", text(netns_pool)),
        ("images.registry_config_dir", text(registry_config_dir)),
        ("images.registries_conf", text(registries_conf)),
        ("images.max_parallel_layers", text(max_parallel_layers)),
        ("images.pull_progress_timeout", text(pull_progress_timeout)),
        ("images.signature_policy", text(signature_policy)),
        ("images.auth_file", text(auth_file)),
        ("images.credential_helper_dir", text(credential_helper_dir)),
        ("images.pinned_images", text(pinned_images)),
        ("cgroup.driver", text(driver)),
        ("cgroup.parent", text(parent)),
        ("log.level", text(level)),
        ("log.format", text(format)),
        ("metrics.address", text(metrics_address)),
        ("tracing", text(tracing)),
        ("doctor.interval", text(interval)),
        ("doctor.repair", text(repair)),
        ("runtime.podmon", text(podmon)),
        ("runtime.pause", text(pause)),
        ("runtime.cdi_dirs", text(cdi_dirs)),
        ("runtime.handlers", text(handlers)),
        ("runtime.unprivileged_ports", text(unprivileged_ports)),
        ("runtime.unprivileged_icmp", text(unprivileged_icmp)),
        ("nri", text(nri)),
        ("streaming.address", text(streaming_address)),
        ("streaming.tls", text(tls)),
        ("streaming.idle_timeout", text(idle_timeout)),
        ("streaming.creation_timeout", text(creation_timeout)),
        ("streaming.max_sessions", text(max_sessions)),
        ("docker", text(docker)),
    ]
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn config(path: &Path, text: &str) -> Config {
        fs::write(path, text).unwrap();
        crate::load(Some(path), crate::Raw::default()).unwrap()
    }

    #[test]
    fn only_what_differs_is_told_with_both_values() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("husk.toml");
        let before = config(&file, "");
        assert_eq!(changes(&before, &config(&file, crate::DEFAULT_TOML)), []);
        let after =
            config(&file, "[log]\nlevel = \"debug\"\n[doctor]\ninterval = \"\"\n[nri]\nenabled = true\n");
        let told = changes(&before, &after);
        let keys: Vec<_> = told.iter().map(|change| change.key).collect();
        assert_eq!(keys, ["log.level", "doctor.interval", "nri"]);
        assert_eq!((told[0].from.as_str(), told[0].to.as_str()), ("\"info\"", "\"debug\""));
    }
}
