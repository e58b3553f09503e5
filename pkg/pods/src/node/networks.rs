//! The network of a pod: pods that share the node's have none of their own.

use std::{os::fd::OwnedFd, sync::Arc};

use husk_model::{NamespaceMode, PodConfig, PodSandboxId};

use crate::{
    error::{PodsError, Result},
    facilities::{Networked, PodNetworks},
    records::{PodFile, Records},
};

/// Networks of pods, and where their namespaces are pinned.
#[derive(Clone)]
pub(crate) struct Networks {
    pub(crate) facility: Arc<dyn PodNetworks>,
    pub(crate) records: Arc<Records>,
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Networks").finish_non_exhaustive()
    }
}

impl Networks {
    /// Makes the pod's network namespace.
    ///
    /// # Errors
    /// Of the step that failed; [`Networks::tear_down`] takes back what it left.
    pub(crate) async fn make(&self, file: &PodFile) -> Result<()> {
        if !has_own(&file.config) {
            return Ok(());
        }
        self.facility.make(&self.records.netns(&file.id)).await.map_err(PodsError::Network)
    }

    /// Takes the namespace that pause was born in for the pod's.
    ///
    /// # Errors
    /// As [`Networks::make`].
    pub(crate) async fn adopt(&self, file: &PodFile, made: OwnedFd) -> Result<()> {
        self.facility.adopt(&self.records.netns(&file.id), made).await.map_err(PodsError::Network)
    }

    /// Gives a pod its network, in its namespace.
    ///
    /// # Errors
    /// As [`Networks::make`].
    pub(crate) async fn set_up(&self, file: &PodFile) -> Result<Networked> {
        if !has_own(&file.config) {
            return Ok(Networked::default());
        }
        let netns = self.records.netns(&file.id);
        self.facility.set_up(&file.id, &netns, &file.config).await.map_err(PodsError::Network)
    }

    /// Undoes the network; nothing to do is fine.
    ///
    /// # Errors
    /// A step failed; a repeated call goes on.
    pub(crate) async fn tear_down(&self, id: &PodSandboxId, config: &PodConfig) -> Result<()> {
        if !has_own(config) {
            return Ok(());
        }
        self.facility.tear_down(id, &self.records.netns(id)).await.map_err(PodsError::NetworkTeardown)
    }
}

/// Whether a pod has a network of its own.
pub(crate) fn has_own(config: &PodConfig) -> bool {
    config.namespaces().network != NamespaceMode::Node
}
