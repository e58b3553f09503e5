//! One pull's dealings with the registries of one reference.

mod auth;
mod fetch;
mod http;
mod signatures;

use std::sync::Arc;

pub(crate) use fetch::{Blob, Fetched};

use super::{
    clients::Clients,
    config::RegistryConfig,
    credentials::{Auth, Tokens},
    hosts::{self, Endpoint},
    keyring::Keyring,
};
use crate::{Reference, Result};

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
