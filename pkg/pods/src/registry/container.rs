//! A container in memory: its state and the snapshot of it that readers take.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use husk_life::{ContainerEffect, ContainerEvent, ContainerLife, Refusal};
use husk_model::{
    ContainerId, ContainerMetadata, ContainerState, ContainerStatus, PodSandboxId, Process, ResolvedUser,
    Resources,
};
use tokio::sync::{MutexGuard, OnceCell};

use super::{chronicle::Chronicle, pod::Pod, snapshot::Snapshot};
use crate::{
    error::{PodsError, Result},
    facilities::Lease,
    records::ContainerFile,
};

/// Name under which a container is claimed.
pub(crate) type ContainerName = (PodSandboxId, ContainerMetadata);

/// A container that exists.
#[derive(Debug)]
pub(crate) struct Container {
    id: ContainerId,
    pod: Arc<Pod>,
    /// The one state; what readers see of it is in `status`.
    life: Mutex<ContainerLife>,
    status: Snapshot<ContainerStatus>,
    /// `None` when its record cannot be read.
    file: Mutex<Option<ContainerFile>>,
    /// Keep the layers of its image and its image volumes, but for images that could not be found again at start-up.
    _leases: Vec<Lease>,
    /// Writable layer.
    upper: PathBuf,
    /// Orders changes of its limits: see [`Container::limits_turn`].
    limits: tokio::sync::Mutex<()>,
    /// Orders removals: the second waits for the first.
    removal: tokio::sync::Mutex<()>,
    /// Set when plugins have been told of its end.
    told_end: OnceCell<()>,
    chronicle: Chronicle,
}

/// What a container is made of.
#[derive(Debug)]
pub(crate) struct NewContainer {
    pub(crate) pod: Arc<Pod>,
    pub(crate) life: ContainerLife,
    pub(crate) status: ContainerStatus,
    pub(crate) file: Option<ContainerFile>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) upper: PathBuf,
    pub(crate) chronicle: Chronicle,
}

impl Container {
    pub(crate) fn new(
        NewContainer { pod, life, status, file, leases, upper, chronicle }: NewContainer,
    ) -> Self {
        Self {
            id: status.id.clone(),
            pod,
            life: Mutex::new(life),
            status: Snapshot::new(status),
            file: Mutex::new(file),
            _leases: leases,
            upper,
            limits: tokio::sync::Mutex::default(),
            removal: tokio::sync::Mutex::default(),
            told_end: OnceCell::new(),
            chronicle,
        }
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    pub(crate) fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Its writable layer.
    pub(crate) fn upper(&self) -> &Path {
        &self.upper
    }

    /// The name under which it is claimed.
    pub(crate) fn name(&self) -> ContainerName {
        (self.pod.id().clone(), self.status.get().config.metadata.clone())
    }

    /// How it came to be, and who wanted it to end.
    pub(crate) fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    // === its state ===

    /// Where it is in its life.
    pub(crate) fn life(&self) -> ContainerLife {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what happened; what readers see changes with it. Only `observing` calls this, which carries the effects out.
    pub(crate) fn apply(&self, event: &ContainerEvent) -> std::result::Result<Vec<ContainerEffect>, Refusal> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, effects) = life.apply(event)?;
        if let Some(state) = next.shown() {
            self.status.update(|status| {
                if matches!(state, ContainerState::Exited { .. }) {
                    status.process = None;
                }
                status.state = state;
            });
        }
        *life = next;
        Ok(effects)
    }

    /// Whether it has processes.
    pub(crate) fn is_alive(&self) -> bool {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).is_alive()
    }

    /// Fails unless the container waits at its gate.
    pub(crate) fn check_created(&self) -> Result<()> {
        match self.life() {
            ContainerLife::Created => Ok(()),
            life => Err(self.refuse(&life, "starting it", "created")),
        }
    }

    /// Fails unless the container runs.
    pub(crate) fn check_running(&self, operation: &'static str) -> Result<()> {
        match self.life() {
            ContainerLife::Running { .. } => Ok(()),
            life => Err(self.refuse(&life, operation, "running")),
        }
    }

    /// Fails unless the container has processes.
    pub(crate) fn check_alive(&self, operation: &'static str) -> Result<()> {
        match self.life() {
            life if life.is_alive() => Ok(()),
            life => Err(self.refuse(&life, operation, "created or running")),
        }
    }

    fn refuse(&self, life: &ContainerLife, operation: &'static str, wanted: &'static str) -> PodsError {
        PodsError::ContainerState { id: self.id.clone(), state: life.name(), operation, wanted }
    }

    /// Waits for its turn to remove the container.
    pub(crate) async fn removal(&self) -> MutexGuard<'_, ()> {
        self.removal.lock().await
    }

    /// Waits for its turn to change the container's limits. A change keeps what it does not name as it is in force, so it holds
    /// the turn from its look at that until the new limits are in the kernel and on record.
    pub(crate) async fn limits_turn(&self) -> MutexGuard<'_, ()> {
        self.limits.lock().await
    }

    /// Set when plugins have been told of its end.
    pub(crate) fn told_end(&self) -> &OnceCell<()> {
        &self.told_end
    }

    // === what readers see ===

    pub(crate) fn status(&self) -> Arc<ContainerStatus> {
        self.status.get()
    }

    /// Notes what its monitor tells of its init.
    pub(crate) fn note_init(&self, process: Process, user: ResolvedUser) {
        self.status.update(|status| {
            status.process = Some(process);
            status.user = Some(user);
        });
    }

    /// Takes in the limits that are in force. Returns the record to write, if it has one.
    pub(crate) fn note_limits(&self, limits: Resources) -> Option<ContainerFile> {
        self.status.update(|status| status.resources = limits.clone());
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = slot.as_mut()?;
        file.resources = limits;
        file.history = self.chronicle.now();
        Some(file.clone())
    }
}
