//! The registry side: which hosts to ask (mirrors, then the registry), how to log in, how to fetch and repeat.

mod auth;
mod challenge;
mod clients;
mod error;
mod fetch;
mod hosts;
mod http;
mod proxy;
mod reach;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use auth::Auth;
pub(crate) use clients::Clients;
pub use error::{Attempts, RegistryError};
pub(crate) use fetch::{Blob, Fetched};
pub(crate) use hosts::Endpoint;

use crate::{Reference, Result};

/// Settings that every pull shares.
#[derive(Debug, Clone)]
pub(crate) struct RegistryConfig {
    /// `<host>/hosts.toml` files.
    pub(crate) config_dir: PathBuf,
    /// A transfer without a byte for this long fails.
    pub(crate) progress_timeout: Duration,
}

/// One pull's dealings with the registries of one reference. Tokens live as long as it does.
pub(crate) struct Session {
    pub(crate) reference: Reference,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) auth: Auth,
    tokens: auth::Tokens,
    config: RegistryConfig,
}

impl Session {
    /// Finds the hosts for `reference`.
    pub(crate) fn new(
        reference: Reference,
        auth: Auth,
        config: RegistryConfig,
        clients: &Arc<Clients>,
    ) -> Result<Self> {
        let endpoints = hosts::endpoints(&reference, &config.config_dir, clients)?;
        Ok(Self { reference, endpoints, auth, tokens: auth::Tokens::default(), config })
    }
}

/// Reads the hosts.toml `text` for `reference`.
#[cfg(feature = "fuzzing")]
pub(crate) fn hosts_of(reference: &Reference, text: &str) {
    use std::{path::Path, sync::LazyLock};
    static CLIENTS: LazyLock<Arc<Clients>> = LazyLock::new(Arc::default);
    let _refused = hosts::from_file(reference, Path::new("/nowhere"), text, &CLIENTS);
}

/// The challenges in a header's value.
#[cfg(feature = "fuzzing")]
pub(crate) fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let parsed = challenge::parse(header).into_iter();
    parsed.map(|challenge| (challenge.scheme, challenge.parameters.into_iter().collect())).collect()
}
