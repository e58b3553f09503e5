//! Who has which port of the node, and the elements in the nftables maps that make it so.
//!
//! The records are the truth; this is rebuilt from them at start, and the table is loaded with all of them whenever it
//! is (re)made.

use std::collections::{BTreeMap, HashMap, HashSet};

use husk_model::PodSandboxId;

use crate::{BridgeConfig, Free, NetworkError};

use super::{
    mapping::{Key, Mapping},
    nft,
    user_rules::UserRules,
};

/// All mappings of the node, and the user networks that the table they are in speaks of.
#[derive(Debug, Default)]
pub(crate) struct HostPorts {
    owners: HashMap<Key, (PodSandboxId, Mapping)>,
    user: BTreeMap<String, UserRules>,
    /// Of those, the ones that this process has loaded.
    loaded: HashSet<String>,
}

impl HostPorts {
    /// Takes over what a record says, at start.
    pub(crate) fn adopt(&mut self, id: &PodSandboxId, mappings: &[Mapping]) {
        for mapping in mappings {
            self.owners.insert(mapping.key(), (id.clone(), mapping.clone()));
        }
    }

    /// Loads the whole table with every mapping there is.
    ///
    /// # Errors
    /// Those of nft.
    pub(crate) async fn load_table(&mut self, config: &BridgeConfig) -> Result<(), NetworkError> {
        let all: Vec<Mapping> = self.owners.values().map(|(_, mapping)| mapping.clone()).collect();
        nft::run("load the table", nft::table(config, &all, self.user.values())).await?;
        self.loaded = self.user.keys().cloned().collect();
        Ok(())
    }

    /// Takes over a user network; the next load of the table has it.
    pub(crate) fn adopt_network(&mut self, id: &str, rules: UserRules) {
        self.user.insert(id.to_owned(), rules);
    }

    /// Loads the table with a user network, unless it is in it.
    ///
    /// # Errors
    /// Those of nft; the table is as it was then.
    pub(crate) async fn add_network(
        &mut self,
        config: &BridgeConfig,
        id: &str,
        rules: UserRules,
    ) -> Result<(), NetworkError> {
        if self.loaded.contains(id) && self.user.get(id) == Some(&rules) {
            return Ok(());
        }
        self.adopt_network(id, rules);
        let loaded = self.load_table(config).await;
        if loaded.is_err() {
            self.user.remove(id);
        }
        loaded
    }

    /// Loads the table without a user network.
    ///
    /// # Errors
    /// Those of nft.
    pub(crate) async fn remove_network(
        &mut self,
        config: &BridgeConfig,
        id: &str,
    ) -> Result<(), NetworkError> {
        let Some(rules) = self.user.remove(id) else { return Ok(()) };
        match self.load_table(config).await {
            // Without nft there is nothing that it could be in.
            Ok(()) | Err(NetworkError::NftMissing) => Ok(()),
            Err(error) => {
                self.user.insert(id.to_owned(), rules);
                Err(error)
            }
        }
    }

    /// Who has a port of the node already, if it is not `id`.
    ///
    /// # Errors
    /// [`NetworkError::HostPortTaken`].
    pub(crate) fn check_free(&self, id: &PodSandboxId, mappings: &[Mapping]) -> Result<(), NetworkError> {
        for mapping in mappings {
            if let Some((owner, _)) = self.owners.get(&mapping.key()).filter(|(owner, _)| owner != id) {
                return Err(NetworkError::HostPortTaken {
                    protocol: mapping.protocol,
                    address: mapping.host_ip,
                    port: mapping.host_port,
                    owner: owner.clone(),
                });
            }
        }
        Ok(())
    }

    /// Gives `id` its ports. When nft refuses, perhaps because somebody flushed the rule set, the table is loaded anew.
    ///
    /// # Errors
    /// [`NetworkError::HostPortTaken`], or those of nft; none of the ports is mapped then.
    pub(crate) async fn add(
        &mut self,
        config: &BridgeConfig,
        id: &PodSandboxId,
        mappings: &[Mapping],
    ) -> Result<(), NetworkError> {
        if mappings.is_empty() {
            return Ok(());
        }
        self.check_free(id, mappings)?;
        self.adopt(id, mappings);
        let added = match nft::run("map host ports", nft::add(&config.table, mappings)).await {
            Err(NetworkError::Nft { .. }) => self.load_table(config).await,
            other => other,
        };
        if added.is_err() {
            self.forget(id, mappings);
        }
        added
    }

    /// Takes the ports of `id` away again; those that are not there are fine, and so is a table that is gone.
    ///
    /// # Errors
    /// Those of nft.
    pub(crate) async fn remove(
        &mut self,
        config: &BridgeConfig,
        id: &PodSandboxId,
        mappings: &[Mapping],
    ) -> Result<(), NetworkError> {
        let own: Vec<Mapping> = mappings
            .iter()
            .filter(|mapping| self.owners.get(&mapping.key()).is_some_and(|(owner, _)| owner == id))
            .cloned()
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        match nft::run("unmap host ports", nft::remove(&config.table, &own)).await {
            // Without nft, or without the table, there is nothing they could be mapped by.
            Ok(()) | Err(NetworkError::NftMissing) => {}
            Err(NetworkError::Nft { message, .. }) if message.contains("No such file or directory") => {}
            Err(error) => return Err(error),
        }
        self.forget(id, &own);
        Ok(())
    }

    /// Finds elements in the kernel that no pod has, and deletes those that `free` agrees to. Returns them as nft writes
    /// them.
    ///
    /// # Errors
    /// Those of nft.
    pub(crate) async fn free_stale(
        &mut self,
        config: &BridgeConfig,
        free: &Free,
    ) -> Result<Vec<String>, NetworkError> {
        let present = match nft::list(&config.table).await {
            Ok(present) => present,
            // Without nft, or without the table, there is nothing that could be stale.
            Err(NetworkError::NftMissing) => return Ok(Vec::new()),
            Err(NetworkError::Nft { message, .. }) if message.contains("No such file or directory") => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let owned = |mapping: &Mapping| self.owners.values().any(|(_, of_pod)| of_pod == mapping);
        let stale: Vec<Mapping> = present.into_iter().filter(|mapping| !owned(mapping)).collect();
        let goes = |mapping: &&Mapping| free(&nft::element(mapping));
        let freed: Vec<Mapping> = stale.iter().filter(goes).cloned().collect();
        if !freed.is_empty() {
            nft::run("delete stale host ports", nft::remove(&config.table, &freed)).await?;
        }
        Ok(stale.iter().map(nft::element).collect())
    }

    /// Gives ports back that were adopted and never mapped.
    pub(crate) fn forget(&mut self, id: &PodSandboxId, mappings: &[Mapping]) {
        for mapping in mappings {
            if self.owners.get(&mapping.key()).is_some_and(|(owner, _)| owner == id) {
                self.owners.remove(&mapping.key());
            }
        }
    }
}
