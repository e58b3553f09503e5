//! What every pull has in common.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::RegistriesConf;

/// Settings that every pull shares.
#[derive(Debug, Clone)]
pub(crate) struct RegistryConfig {
    /// `<host>/hosts.toml` files.
    pub(crate) config_dir: PathBuf,
    /// registries.conf, if it is read.
    pub(crate) registries: Option<Arc<RegistriesConf>>,
    /// A transfer without a byte for this long fails.
    pub(crate) progress_timeout: Duration,
    /// The node's credentials.
    pub(crate) credentials: Places,
}

/// Where credentials are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The node's file.
    pub(crate) file: Option<PathBuf>,
    /// Where docker-credential-* programs are; `None` is `PATH`.
    pub(crate) helper_dir: Option<PathBuf>,
}
