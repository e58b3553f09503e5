//! Who is known, and so is nobody's leftover.

use std::{collections::BTreeSet, sync::Arc};

use husk_model::{ContainerId, PodSandboxId};

use crate::{
    records::{Records, ids_in},
    registry::Registry,
};

/// Who has a name or a directory.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<Records>,
}

impl Known {
    /// Pods that are known: made, being made, being removed, or just with a directory.
    pub(super) fn pods(&self) -> BTreeSet<PodSandboxId> {
        let mut pods: BTreeSet<PodSandboxId> =
            ids_in(&self.records.pods()).unwrap_or_default().into_iter().collect();
        pods.extend(self.registry.known_pods());
        pods
    }

    /// Process ids of the monitors that the daemon speaks to.
    pub(super) fn monitors(&self) -> BTreeSet<u32> {
        let pods = self.registry.pods();
        pods.iter().filter_map(|pod| Some(pod.monitor().ok()?.process().pid)).collect()
    }

    /// Containers that are known: those that the daemon has in hand, and all that have a directory.
    pub(super) fn containers(&self) -> BTreeSet<ContainerId> {
        let mut containers: BTreeSet<ContainerId> = self
            .pods()
            .iter()
            .flat_map(|pod| ids_in(&self.records.pod(pod).join("containers")).unwrap_or_default())
            .collect();
        containers.extend(self.registry.known_containers());
        containers
    }
}
