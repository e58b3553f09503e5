//! The configuration, as the parts of the daemon take theirs.

use std::{error::Error, sync::Arc};

use husk_config::Config;
use husk_images::{ImageStore, RegistriesConf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Checks the files that the configuration names and that huskd reads later.
pub(crate) fn check(config: &Config) -> Result<()> {
    registries(config)?;
    match &config.images.signature_policy {
        Some(policy) => Ok(ImageStore::check_policy(policy)?),
        None => Ok(()),
    }
}

/// What the image store is told.
pub(crate) fn images_config(config: &Config) -> Result<husk_images::ImagesConfig> {
    Ok(husk_images::ImagesConfig {
        registry_config_dir: config.images.registry_config_dir.clone(),
        registries: registries(config)?,
        max_parallel_layers: config.images.max_parallel_layers,
        pull_progress_timeout: config.images.pull_progress_timeout,
        signature_policy: config.images.signature_policy.clone(),
        auth_file: config.images.auth_file.clone(),
        credential_helper_dir: config.images.credential_helper_dir.clone(),
        pinned_images: config.images.pinned_images.clone(),
    })
}

/// The registries.conf that the configuration names, if any, with its mistakes.
pub(crate) fn registries(config: &Config) -> Result<Option<Arc<RegistriesConf>>> {
    let path = config.images.registries_conf.as_deref();
    Ok(path.map(RegistriesConf::load).transpose()?.map(Arc::new))
}

/// The pod network that the configuration asks for.
pub(crate) fn network_config(config: &Config) -> husk_network::NetworkConfig {
    let wanted = &config.network;
    let mut network = husk_network::NetworkConfig::new(&config.root, &config.state);
    let default = husk_network::BridgeConfig::default().subnet;
    network.choose_subnet = wanted.subnet.is_none();
    network.bridge = husk_network::BridgeConfig {
        name: wanted.bridge.clone(),
        subnet: wanted.subnet.unwrap_or(default),
        subnet6: wanted.subnet6,
        mtu: wanted.mtu,
        table: wanted.nft_table.clone(),
        former: Vec::new(),
    };
    network.cni_conf_dir.clone_from(&wanted.cni_conf_dir);
    network.cni_bin_dirs = vec![wanted.cni_bin_dir.clone()];
    network.netns_pool = wanted.netns_pool;
    network
}
