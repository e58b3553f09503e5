//! The node's security modules and seccomp: what a pod and a container get of them.

use std::sync::Arc;

use husk_lsm::{
    AppArmor,
    selinux::{Hold, SeLinux},
};
use husk_model::{ContainerConfig, PodConfig, SeLinuxContexts, SeLinuxLabel};
use husk_seccomp::Cache;

use crate::{
    error::{PodsError, Result},
    records::PodFile,
};

/// What the node has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    pub(crate) apparmor: Arc<AppArmor>,
    pub(crate) selinux: Arc<SeLinux>,
    pub(crate) filters: Cache,
}

/// What a new pod gets of SELinux; nothing on a node without.
#[derive(Debug)]
pub(crate) struct OfPod {
    /// Its level, taken.
    pub(crate) level: Option<Hold>,
    /// Of pause and of the pod's shared memory.
    pub(crate) labels: Option<SeLinuxContexts>,
}

impl Security {
    /// Chooses for a new pod: a level of its own, which is on record.
    ///
    /// # Errors
    /// [`PodsError::SeLinux`]
    pub(crate) fn of_pod(&self, config: &PodConfig) -> Result<OfPod> {
        let wish = config.security.selinux.as_ref();
        let level = self.selinux.pod_level(wish).map_err(PodsError::SeLinux)?;
        let labels = self.selinux.labels(level.as_ref().map(Hold::level), wish, config.security.privileged);
        Ok(OfPod { labels: labels.map_err(PodsError::SeLinux)?, level })
    }

    /// Takes the level of a pod that was made by a former daemon.
    pub(crate) fn recovered_level(&self, file: &PodFile) -> Option<Hold> {
        file.selinux_level.as_deref().map(|level| self.selinux.recovered(level))
    }

    /// Chooses for a container: what it asks for, else what its pod asks for, and its pod's level.
    ///
    /// # Errors
    /// [`PodsError::SeLinux`]
    pub(crate) fn of_container(
        &self,
        pod: &PodConfig,
        level: Option<&str>,
        config: &ContainerConfig,
    ) -> Result<Option<SeLinuxContexts>> {
        let asked = |wish: &&SeLinuxLabel| **wish != SeLinuxLabel::default();
        let own = config.security.selinux.as_ref().filter(asked);
        let wish = own.or(pod.security.selinux.as_ref());
        self.selinux.labels(level, wish, config.security.privileged).map_err(PodsError::SeLinux)
    }
}
