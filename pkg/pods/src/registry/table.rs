//! All pods and containers of the node, by id and by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use husk_model::{ContainerConfig, ContainerId, ContainerMetadata, PodConfig, PodMetadata, PodSandboxId};

use super::{
    attempts::Attempts,
    claims::{Claim, Claims},
    container::{Container, ContainerName},
    pod::Pod,
};
use crate::error::{PodsError, Result};

/// What claiming a pod's name led to.
pub(crate) type PodClaim = Claim<PodMetadata, PodSandboxId, PodConfig>;
/// What claiming a container's name led to.
pub(crate) type ContainerClaim = Claim<ContainerName, ContainerId, ContainerConfig>;

/// All containers, and which pod they are of.
#[derive(Debug, Default)]
struct Containers {
    all: BTreeMap<ContainerId, Arc<Container>>,
    of_pods: BTreeMap<PodSandboxId, BTreeMap<ContainerId, Arc<Container>>>,
}

/// Who exists. What a reader gets is a moment's picture; no lock is held beyond a call.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pods: RwLock<BTreeMap<PodSandboxId, Arc<Pod>>>,
    containers: RwLock<Containers>,
    /// Names of pods, from before anything of one is made until after everything of it is gone.
    pod_names: Claims<PodMetadata, PodSandboxId, PodConfig>,
    /// Names of containers, likewise.
    container_names: Claims<ContainerName, ContainerId, ContainerConfig>,
    /// Pods that start-up undoes, which may go on behind it.
    undoing: Mutex<BTreeSet<PodSandboxId>>,
    attempts: Attempts,
}

impl Registry {
    /// A pod by the id of a request.
    ///
    /// # Errors
    /// [`PodsError::NoSuchPod`]
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        self.find_pod(id).ok_or_else(|| PodsError::NoSuchPod { id: id.to_owned() })
    }

    pub(crate) fn find_pod(&self, id: &str) -> Option<Arc<Pod>> {
        let id: PodSandboxId = id.parse().ok()?;
        self.pods.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A container by the id of a request.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`]
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.find_container(id).ok_or_else(|| PodsError::NoSuchContainer { id: id.to_owned() })
    }

    pub(crate) fn find_container(&self, id: &str) -> Option<Arc<Container>> {
        let id: ContainerId = id.parse().ok()?;
        self.read().all.get(&id).cloned()
    }

    /// All pods, in the order of their ids.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// All containers, in the order of their ids.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.read().all.values().cloned().collect()
    }

    pub(crate) fn add_pod(&self, pod: Arc<Pod>) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).insert(pod.id().clone(), pod);
    }

    pub(crate) fn forget_pod(&self, pod: &Pod) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(pod.id());
        self.pod_names.release(&pod.name());
    }

    /// A container of a pod.
    pub(crate) fn container_of(&self, pod: &Pod, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().of_pods.get(pod.id())?.get(id).cloned()
    }

    /// The containers of a pod, in the order of their ids.
    pub(crate) fn containers_of(&self, pod: &Pod) -> Vec<Arc<Container>> {
        self.read().of_pods.get(pod.id()).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(crate) fn add_container(&self, container: Arc<Container>) {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        let of_pod = containers.of_pods.entry(container.pod().id().clone()).or_default();
        of_pod.insert(container.id().clone(), Arc::clone(&container));
        containers.all.insert(container.id().clone(), container);
    }

    pub(crate) fn forget_container(&self, container: &Container) {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        containers.all.remove(container.id());
        if let Some(of_pod) = containers.of_pods.get_mut(container.pod().id()) {
            of_pod.remove(container.id());
            if of_pod.is_empty() {
                containers.of_pods.remove(container.pod().id());
            }
        }
        drop(containers);
        self.container_names.release(&container.name());
    }

    fn read(&self) -> RwLockReadGuard<'_, Containers> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a pod's name for a request, or joins whoever makes the same.
    ///
    /// # Errors
    /// [`PodsError::NameTaken`]
    pub(crate) fn claim_pod(&self, config: &Arc<PodConfig>, id: &PodSandboxId) -> Result<PodClaim> {
        let shown = shown(&config.metadata, None);
        self.pod_names.claim("pod sandbox", &config.metadata, &shown, config, id)
    }

    /// Claims a container's name for a request, or joins whoever makes the same.
    ///
    /// # Errors
    /// [`PodsError::NameTaken`]
    pub(crate) fn claim_container(
        &self,
        pod: &Pod,
        config: &Arc<ContainerConfig>,
        id: &ContainerId,
    ) -> Result<ContainerClaim> {
        let shown = shown(&pod.name(), Some(&config.metadata));
        let name = (pod.id().clone(), config.metadata.clone());
        self.container_names.claim("container", &name, &shown, config, id)
    }

    /// Takes in a pod that was found at start-up.
    pub(crate) fn restore_pod(&self, pod: &Arc<Pod>) {
        let config = pod.config();
        self.pod_names.restore(config.metadata.clone(), &config, pod.id());
        self.add_pod(Arc::clone(pod));
    }

    /// Takes in a container that was found at start-up.
    pub(crate) fn restore_container(&self, container: Arc<Container>) {
        let config = Arc::clone(&container.status().config);
        self.container_names.restore(container.name(), &config, container.id());
        self.add_container(container);
    }

    /// Pods that start-up undoes.
    pub(crate) fn undoing(&self) -> MutexGuard<'_, BTreeSet<PodSandboxId>> {
        self.undoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being made, and what lately failed to be.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Every pod that the daemon has in hand: made, being made, being removed or undone.
    pub(crate) fn known_pods(&self) -> BTreeSet<PodSandboxId> {
        let mut pods: BTreeSet<PodSandboxId> = self.pod_names.ids().into_iter().collect();
        pods.extend(self.pods().iter().map(|pod| pod.id().clone()));
        pods.extend(self.undoing().iter().cloned());
        pods
    }

    /// Every container that the daemon has in hand.
    pub(crate) fn known_containers(&self) -> BTreeSet<ContainerId> {
        let mut containers: BTreeSet<ContainerId> = self.container_names.ids().into_iter().collect();
        containers.extend(self.containers().iter().map(|container| container.id().clone()));
        containers
    }
}

/// Shown in errors: `namespace/name`, with the container's name behind it.
pub(crate) fn shown(pod: &PodMetadata, container: Option<&ContainerMetadata>) -> String {
    match container {
        Some(container) => format!("{}/{}/{}#{}", pod.namespace, pod.name, container.name, container.attempt),
        None => format!("{}/{}#{}", pod.namespace, pod.name, pod.attempt),
    }
}
