//! Pods that are set up, or being set up, by this process, each with the lock that keeps setup, change and teardown of it apart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_model::PodSandboxId;

/// The pods, with their locks.
#[derive(Debug, Default)]
pub(crate) struct PodLocks {
    pods: Mutex<HashMap<PodSandboxId, Arc<tokio::sync::Mutex<()>>>>,
}

impl PodLocks {
    /// The lock of a pod, which is known from now on.
    pub(crate) fn of(&self, id: &PodSandboxId) -> Arc<tokio::sync::Mutex<()>> {
        self.pods().entry(id.clone()).or_default().clone()
    }

    pub(crate) fn knows(&self, id: &PodSandboxId) -> bool {
        self.pods().contains_key(id)
    }

    pub(crate) fn all(&self) -> Vec<PodSandboxId> {
        self.pods().keys().cloned().collect()
    }

    /// Drops the lock of a pod that has no network any more, unless somebody else waits for it. Called by its holder.
    pub(crate) fn forget(&self, id: &PodSandboxId) {
        let mut pods = self.pods();
        // Two: the map's and the holder's guard. Others clone it only under `pods`.
        if pods.get(id).is_some_and(|lock| Arc::strong_count(lock) <= 2) {
            pods.remove(id);
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<PodSandboxId, Arc<tokio::sync::Mutex<()>>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
