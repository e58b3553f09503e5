//! A pod and its containers in memory: snapshots that readers take, and the little that writers share.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use husk_lsm::selinux::Hold;
use husk_model::{
    ContainerId, ContainerMetadata, ContainerState, ContainerStatus, Exit, PodMetadata, PodSandboxId,
    PodState, PodStatus, UnixNanos,
};
use husk_monitor::Monitor;

use crate::{
    PodsError, Result,
    facilities::Lease,
    life::{self, Fact},
    store::{ContainerFile, PodFile},
};

/// Name under which a container is claimed.
pub(crate) type ContainerName = (PodSandboxId, ContainerMetadata);

/// How far the teardown of a pod has come. Creating a container holds the gate for reading, stopping and removing the
/// pod for writing: a stop waits for creates that have begun, and none begins after it. The gate only orders those; whoever
/// reads (status, lists, statistics) or works on one container never takes it, and all that is done behind it has deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Containers can be created.
    Open,
    /// StopPodSandbox has run to its end.
    Stopped,
    /// Nothing is left.
    Removed,
}

/// Far more than a pod creates at once.
const MAX_EARLY_EXITS: usize = 256;

/// A value that is replaced whole and read without waiting for work.
#[derive(Debug)]
pub(crate) struct Snapshot<T>(RwLock<Arc<T>>);

impl<T: Clone> Snapshot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the value; `change` must not block.
    pub(crate) fn update(&self, change: impl FnOnce(&mut T)) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut slot));
    }
}

/// A sandbox that exists.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: PodSandboxId,
    pub(crate) status: Snapshot<PodStatus>,
    pub(crate) file: Mutex<PodFile>,
    /// Empty when it was dead at start-up, or has not answered since.
    pub(crate) monitor: OnceLock<Monitor>,
    pub(crate) gate: tokio::sync::RwLock<Phase>,
    pub(crate) containers: RwLock<BTreeMap<ContainerId, Arc<Container>>>,
    /// Exits of containers that are not in `containers` yet: an init killed at its gate while its creation is recorded.
    pub(crate) early_exits: Mutex<BTreeMap<ContainerId, Exit>>,
    /// Relative to the hierarchy's root.
    pub(crate) cgroup_path: String,
    /// Its SELinux level, until the last of it is forgotten.
    pub(crate) selinux_level: Option<Hold>,
    /// When the sandbox's end was announced; 0 before.
    pub(crate) ended_at: AtomicI64,
    /// Set when plugins have been told of its stop.
    pub(crate) told_stop: tokio::sync::OnceCell<()>,
}

impl Pod {
    pub(crate) fn monitor(&self) -> Result<&Monitor> {
        self.monitor.get().filter(|monitor| monitor.is_connected()).ok_or_else(|| PodsError::NoMonitor {
            id: self.id.clone(),
            reason: match self.is_silent() {
                true => "it does not answer".to_owned(),
                false => "it died; remove the pod".to_owned(),
            },
        })
    }

    /// Its monitor lives, but has not answered since our start.
    pub(crate) fn is_silent(&self) -> bool {
        self.monitor.get().is_none() && self.is_ready()
    }

    /// Says why the pod is as it is, to those who ask for its verbose status.
    pub(crate) fn explain(&self, message: &str) {
        self.status.update(|status| message.clone_into(&mut status.message));
    }

    pub(crate) fn name(&self) -> PodMetadata {
        self.status.get().config.metadata.clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.status.get().state == PodState::Ready
    }

    /// Marks the sandbox as not ready; its addresses are kept until the network is torn down.
    pub(crate) fn mark_not_ready(&self) {
        self.status.update(|status| {
            status.state = PodState::NotReady;
            status.pid = None;
        });
    }

    /// Notes when the sandbox ended. Returns whether that is news.
    pub(crate) fn note_end(&self, at: UnixNanos) -> bool {
        self.ended_at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// When the sandbox ended, if it has and that is known.
    pub(crate) fn ended_at(&self) -> Option<UnixNanos> {
        Some(self.ended_at.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Keeps the exit of a container that is not known yet, for [`Pod::take_early_exit`].
    pub(crate) fn keep_early_exit(&self, id: ContainerId, exit: Exit) {
        let mut exits = self.early_exits.lock().unwrap_or_else(PoisonError::into_inner);
        // Only those of containers that were removed at once stay here; nobody asks for them.
        if exits.len() >= MAX_EARLY_EXITS {
            exits.clear();
        }
        exits.insert(id, exit);
    }

    /// The exit of a container that came before the container was known.
    pub(crate) fn take_early_exit(&self, id: &ContainerId) -> Option<Exit> {
        self.early_exits.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn container(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// A container that exists.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: Snapshot<ContainerStatus>,
    /// `None` when its record cannot be read.
    pub(crate) file: Mutex<Option<ContainerFile>>,
    /// Keep the layers of its image and its image volumes, but for images that could not be found again at start-up.
    pub(crate) _leases: Vec<Lease>,
    /// Writable layer.
    pub(crate) upper: PathBuf,
    /// Orders removals: the second waits for the first.
    pub(crate) removal: tokio::sync::Mutex<()>,
    /// Set when plugins have been told of its end.
    pub(crate) told_end: tokio::sync::OnceCell<()>,
}

impl Container {
    /// Takes in what happened. Returns whether anything changed.
    pub(crate) fn learn(&self, fact: Fact) -> bool {
        let mut changed = false;
        self.status.update(|status| {
            let next = life::apply(&status.state, fact);
            changed = next != status.state;
            if matches!(next, ContainerState::Exited { .. }) {
                status.pid = None;
            }
            status.state = next;
        });
        changed
    }

    /// Fails unless the container runs.
    pub(crate) fn check_running(&self, operation: &'static str) -> Result<()> {
        let status = self.status.get();
        match status.state {
            ContainerState::Running { .. } => Ok(()),
            _ => Err(PodsError::ContainerState {
                id: self.id.clone(),
                state: life::name(&status.state),
                operation,
                wanted: "running",
            }),
        }
    }

    /// The name under which it is claimed.
    pub(crate) fn name(&self) -> ContainerName {
        (self.pod.id.clone(), self.status.get().config.metadata.clone())
    }
}
