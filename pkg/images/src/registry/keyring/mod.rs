//! Whose credentials a host gets. The first that there are:
//!
//! 1. those that came with the pull, if they are meant for the host: for the registry, not for its mirrors, unless they name
//!    one of these (`server_address`);
//! 2. those of `auth.json` beside the hosts.toml that names the host;
//! 3. those of the node's file (`images.auth_file`).
//!
//! In files they are by the host that is asked, so no host gets those of another. They are looked up when a host asks for
//! them, and kept as long as the pull.

mod file;
mod helper;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use file::{File, Found};
use tokio::sync::Mutex as Turn;

use super::{config::Places, credentials::Auth, error::RegistryError, hosts::Endpoint};
use crate::Reference;

/// The credentials of one pull.
pub(super) struct Keyring {
    given: Arc<Auth>,
    places: Places,
    /// What was found for each host. Held while a host's are looked up, so that no helper is run twice.
    known: Turn<HashMap<String, Option<Arc<Auth>>>>,
}

impl Keyring {
    pub(super) fn new(given: Auth, places: Places) -> Self {
        Self { given: Arc::new(given), places, known: Turn::default() }
    }

    /// Those that came with the pull, if `endpoint` may have them.
    pub(super) fn given(&self, endpoint: &Endpoint, reference: &Reference) -> Option<&Arc<Auth>> {
        let given = &self.given;
        // Those that name no registry are for the one of the image, wherever registries.conf says that it is mirrored.
        let is_elsewhere = endpoint.registry != reference.host() && given.server_address.is_empty();
        let is_meant = given.is_for(&endpoint.registry, &endpoint.host, endpoint.mirror) && !is_elsewhere;
        (endpoint.is_confidential() && is_meant && !given.is_empty()).then_some(given)
    }

    /// The credentials for `endpoint`. They never leave the node unencrypted.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] for a file or a helper that cannot be used.
    pub(super) async fn of(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Option<Arc<Auth>>, RegistryError> {
        if let Some(given) = self.given(endpoint, reference) {
            return Ok(Some(Arc::clone(given)));
        }
        if !endpoint.is_confidential() {
            return Ok(None);
        }
        let name = endpoint.name_there();
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(&name) {
            return Ok(found.clone());
        }
        let mut found = None;
        for path in [Some(&endpoint.auth_file), self.places.file.as_ref()].into_iter().flatten() {
            let failed =
                |reason: String| RegistryError::Credentials { file: path.display().to_string(), reason };
            found = match self.look_into(path, &name).await.map_err(failed)? {
                Some(auth) => Some(Arc::new(auth)),
                None => continue,
            };
            break;
        }
        known.insert(name, found.clone());
        Ok(found)
    }

    async fn look_into(&self, path: &Path, name: &str) -> Result<Option<Auth>, String> {
        let shown = path.display();
        let Some((file, is_open)) = File::read(path)? else {
            // As for the peers: who logs in with podman makes it, and a reboot takes it away.
            if self.places.file.as_deref() == Some(path) && is_news(path) {
                tracing::warn!(file = %shown, "images.auth_file is not there; pulls go without its credentials");
            }
            return Ok(None);
        };
        if is_open && is_news(path) {
            tracing::warn!(file = %shown, "every user of this node can read these credentials; chmod 0600 it");
        }
        match file.find(name)? {
            None => Ok(None),
            Some(Found::Auth(auth)) => Ok(Some(auth)),
            Some(Found::Helper { helper, server }) => {
                helper::ask(&helper, &server, self.places.helper_dir.as_deref()).await
            }
        }
    }
}

/// Reads a file and looks names up.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8], names: &[&str]) {
    if let Ok(file) = crate::json::read::<File>(bytes) {
        names.iter().for_each(|name| drop(file.find(name)));
    }
}

/// Whether nothing was said of `path` yet.
fn is_news(path: &Path) -> bool {
    static SAID: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned())
}
