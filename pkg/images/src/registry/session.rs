//! One pull's dealings with the registries of one reference.

mod auth;
mod fetch;
mod http;
mod lists;
mod purpose;
mod signatures;
mod upload;

use std::sync::Arc;

pub(crate) use fetch::{Blob, Fetched};
pub use lists::SearchResult;
use purpose::Purpose;
pub(crate) use upload::{Begun, Content, Upload};

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
    purpose: Purpose,
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
        Ok(Self::of(reference, auth, config, endpoints, Purpose::Pull))
    }

    /// Finds the registry of `reference` itself, to push there.
    pub(crate) fn to_push(
        reference: Reference,
        auth: Auth,
        config: RegistryConfig,
        clients: &Arc<Clients>,
    ) -> Result<Self> {
        let endpoints = hosts::home(&reference, &config, clients)?;
        Ok(Self::of(reference, auth, config, endpoints, Purpose::Push))
    }

    /// Finds the registry of `reference` itself, to ask it what concerns no repository.
    pub(crate) fn to_ask(
        reference: Reference,
        auth: Auth,
        config: RegistryConfig,
        clients: &Arc<Clients>,
    ) -> Result<Self> {
        let endpoints = hosts::home(&reference, &config, clients)?;
        Ok(Self::of(reference, auth, config, endpoints, Purpose::Registry))
    }

    fn of(
        reference: Reference,
        auth: Auth,
        config: RegistryConfig,
        endpoints: Vec<Arc<Endpoint>>,
        purpose: Purpose,
    ) -> Self {
        let keyring = Keyring::new(auth, config.credentials.clone());
        Self { reference, endpoints, keyring, tokens: Tokens::default(), config, purpose }
    }
}
