//! One pull's dealings with the registries of one reference.

mod auth;
mod fetch;
mod http;
mod signatures;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub(crate) use fetch::{Blob, Fetched};

use super::{
    clients::Clients,
    credentials::{Auth, Tokens},
    hosts::{self, Endpoint},
    keyring::{Keyring, Places},
};
use crate::{Reference, RegistriesConf, Result};

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

/// One pull's dealings. Tokens live as long as it does.
pub(crate) struct Session {
    pub(crate) reference: Reference,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    keyring: Keyring,
    tokens: Tokens,
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
        let endpoints = hosts::endpoints(&reference, &config, clients)?;
        let keyring = Keyring::new(auth, config.credentials.clone());
        Ok(Self { reference, endpoints, keyring, tokens: Tokens::default(), config })
    }
}
