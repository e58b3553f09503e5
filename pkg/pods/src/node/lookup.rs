//! What a container's creation looks up on the node, on a thread that can be left behind.

use std::{path::PathBuf, sync::Arc};

use husk_cdi::{CdiError, Edits};
use husk_model::{ContainerConfig, PodConfig};
use husk_seccomp::Program;
use husk_spec::{DeviceNode, Labels};

use super::{
    devices,
    look::look,
    seccomp,
    security::Security,
    sources::{Claimed, Sources},
};
use crate::error::{PodsError, Result};

/// Where it is looked.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    pub(crate) security: Security,
    pub(crate) sources: Arc<Sources>,
    pub(crate) cdi_dirs: Arc<[PathBuf]>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct NodeFacts {
    pub(crate) devices: Vec<DeviceNode>,
    pub(crate) filter: Option<Arc<Program>>,
    pub(crate) labels: Labels,
    pub(crate) cdi: Edits,
}

impl Lookups {
    /// Looks up what a container needs. Makes the mount sources that are missing, too, once nothing else is wrong.
    ///
    /// # Errors
    /// Something of the request is not there, or the node's files do not answer.
    pub(crate) async fn container(
        &self,
        pod: &PodConfig,
        level: Option<&str>,
        config: &Arc<ContainerConfig>,
    ) -> Result<(NodeFacts, Claimed)> {
        let labels = self.labels(pod, level, config).await?;
        let (config, cache) = (Arc::clone(config), self.security.filters.clone());
        let (cdi_dirs, sources) = (Arc::clone(&self.cdi_dirs), Arc::clone(&self.sources));
        look("look up mount sources and devices", move || {
            let filter = seccomp::filter(&cache, &config.security)?;
            let cdi = devices::cdi(&cdi_dirs, &config.cdi_devices).map_err(PodsError::Cdi)?;
            let devices = devices::collect(&config)?;
            let sources = sources.make(&config)?;
            Ok((NodeFacts { devices, filter, labels, cdi }, sources))
        })
        .await
    }

    async fn labels(&self, pod: &PodConfig, level: Option<&str>, config: &ContainerConfig) -> Result<Labels> {
        let security = &config.security;
        let apparmor = self.security.apparmor.profile(&security.apparmor, security.privileged).await;
        let apparmor = apparmor.map_err(PodsError::AppArmor)?;
        let selinux = self.security.of_container(pod, level, config)?;
        let (selinux_process, selinux_mount) = selinux.map(|labels| (labels.process, labels.mount)).unzip();
        Ok(Labels { apparmor, selinux_process, selinux_mount })
    }

    /// What CDI devices of these names change; `Err` inside is about the devices.
    ///
    /// # Errors
    /// The node's files do not answer.
    pub(crate) async fn cdi(&self, names: Vec<String>) -> Result<std::result::Result<Edits, CdiError>> {
        let dirs = Arc::clone(&self.cdi_dirs);
        look("look up CDI devices", move || Ok(devices::cdi(&dirs, &names))).await
    }
}
