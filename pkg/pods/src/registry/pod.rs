//! A pod in memory: its state, and the snapshot of it that readers take. Its containers know it; it does not know them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_life::{PodEffect, PodEvent, PodLife, Reach, Refusal};
use husk_lsm::selinux::Hold;
use husk_model::{
    ContainerId, Exit, NamespaceMode, NetworkStats, PodConfig, PodMetadata, PodSandboxId, PodState,
    PodStatus, Process, Resources,
};
use husk_monitor::Monitor;
use husk_stats::Interfaces;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

use super::{chronicle::Chronicle, snapshot::Snapshot};
use crate::{
    error::{PodsError, Result},
    records::PodFile,
};

/// Far more than a pod creates at once.
const MAX_EARLY_EXITS: usize = 256;

/// A sandbox that exists.
#[derive(Debug)]
pub(crate) struct Pod {
    id: PodSandboxId,
    /// The one state; what readers see of it is in `status`.
    life: Mutex<PodLife>,
    status: Snapshot<PodStatus>,
    file: Mutex<PodFile>,
    /// Orders changes of what is on record: see [`Pod::change`].
    change: Mutex<()>,
    reach: Mutex<Reach<Monitor>>,
    /// Orders creations and ends: see [`Pod::enter`].
    gate: tokio::sync::RwLock<()>,
    /// Exits of containers that are not known yet: an init killed at its gate while its creation is recorded.
    early_exits: Mutex<BTreeMap<ContainerId, Exit>>,
    /// Its SELinux level, until the last of it is forgotten.
    selinux_level: Option<Hold>,
    /// Counters of its own network; closed when it is not ready any more.
    interfaces: Interfaces,
    chronicle: Chronicle,
}

/// What a pod is made of.
#[derive(Debug)]
pub(crate) struct NewPod {
    pub(crate) file: PodFile,
    pub(crate) life: PodLife,
    /// Its pause process, where that is known.
    pub(crate) process: Option<Process>,
    pub(crate) reach: Reach<Monitor>,
    pub(crate) selinux_level: Option<Hold>,
    pub(crate) chronicle: Chronicle,
}

impl Pod {
    pub(crate) fn new(NewPod { file, life, process, reach, selinux_level, chronicle }: NewPod) -> Self {
        Self {
            id: file.id.clone(),
            status: Snapshot::new(shown(&file, &life, process)),
            life: Mutex::new(life),
            file: Mutex::new(file),
            change: Mutex::default(),
            reach: Mutex::new(reach),
            gate: tokio::sync::RwLock::new(()),
            early_exits: Mutex::default(),
            selinux_level,
            interfaces: Interfaces::default(),
            chronicle,
        }
    }

    pub(crate) fn id(&self) -> &PodSandboxId {
        &self.id
    }

    /// Its cgroup, relative to the hierarchy's root.
    pub(crate) fn cgroup_path(&self) -> String {
        self.lock_file().cgroup_path.clone()
    }

    pub(crate) fn selinux_level(&self) -> Option<&str> {
        self.selinux_level.as_ref().map(Hold::level)
    }

    /// How it came to be, and who wanted it to end.
    pub(crate) fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    // === its state ===

    /// Where it is in its life.
    pub(crate) fn life(&self) -> PodLife {
        self.lock_life().clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.lock_life().is_ready()
    }

    /// Takes in what happened; what readers see changes with it. Only `observing` calls this, which carries the effects out.
    pub(crate) fn apply(&self, event: &PodEvent) -> std::result::Result<Vec<PodEffect>, Refusal> {
        let mut life = self.lock_life();
        let (next, effects) = life.apply(event)?;
        self.status.update(|status| {
            status.state = state(&next);
            next.explanation().clone_into(&mut status.message);
            if !next.is_ready() {
                status.process = None;
            }
            // Its addresses are kept until the network is taken back.
            if matches!(next, PodLife::Stopped { .. }) {
                status.ips.clear();
            }
        });
        if !next.is_ready() {
            self.interfaces.close();
        }
        record(&mut self.lock_file(), &next);
        *life = next;
        Ok(effects)
    }

    /// Held from the look at what is on record until the change of it is written and seen: two changes at once would each write
    /// a record without the other, and through the same temporary file. Readers never take it; it is held for one write.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of a state that is about to be seen.
    pub(crate) fn file_as(&self, life: &PodLife) -> PodFile {
        let mut file = self.lock_file().clone();
        file.history = self.chronicle.now();
        record(&mut file, life);
        file
    }

    /// Creating a container holds the gate from its beginning to its end. Nothing is created in a pod that is not ready.
    ///
    /// # Errors
    /// [`PodsError::PodNotReady`]
    pub(crate) async fn enter(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let gate = self.gate.read().await;
        if self.is_ready() { Ok(gate) } else { Err(PodsError::PodNotReady { id: self.id.clone() }) }
    }

    /// Stopping and removing hold the gate alone: they wait for creations that have begun, and none begins meanwhile. The gate
    /// orders only those; whoever reads, or works on one container, never takes it, and all that is done behind it has deadlines.
    pub(crate) async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Waits for a stop or a removal under way.
    pub(crate) async fn settled(&self) {
        drop(self.gate.read().await);
    }

    // === its monitor ===

    /// Its monitor.
    ///
    /// # Errors
    /// [`PodsError::NoMonitor`] says whether it is dead or only silent.
    pub(crate) fn monitor(&self) -> Result<Monitor> {
        let reach = self.lock_reach();
        let reason = match &*reach {
            Reach::Attended(monitor) => return Ok(monitor.clone()),
            Reach::Awaited => "it does not answer",
            Reach::Lost => "it died; remove the pod",
        };
        Err(PodsError::NoMonitor { id: self.id.clone(), reason: reason.to_owned() })
    }

    /// Its monitor answered.
    pub(crate) fn answered(&self, monitor: Monitor) {
        let mut reach = self.lock_reach();
        *reach = std::mem::replace(&mut *reach, Reach::Lost).answered(monitor);
    }

    /// Its monitor is dead.
    pub(crate) fn lost(&self) {
        *self.lock_reach() = Reach::Lost;
    }

    /// Whether its monitor is dead.
    pub(crate) fn is_lost(&self) -> bool {
        self.lock_reach().is_lost()
    }

    /// It should have a monitor that lives, but that has not answered since our start.
    pub(crate) fn is_silent(&self) -> bool {
        self.lock_reach().is_awaited() && self.is_ready()
    }

    // === what readers see ===

    pub(crate) fn status(&self) -> Arc<PodStatus> {
        self.status.get()
    }

    /// The interfaces of its own network, as its pause process sees them; none with the node's network.
    pub(crate) fn interfaces(&self) -> Vec<NetworkStats> {
        let status = self.status();
        if status.config.namespaces().network == NamespaceMode::Node {
            return Vec::new();
        }
        status.process.and_then(|process| self.interfaces.read(process).ok()).unwrap_or_default()
    }

    pub(crate) fn config(&self) -> Arc<PodConfig> {
        Arc::clone(&self.status.get().config)
    }

    pub(crate) fn name(&self) -> PodMetadata {
        self.status.get().config.metadata.clone()
    }

    /// Notes its pause process, as the monitor tells it.
    pub(crate) fn note_pause(&self, process: Option<Process>) {
        self.status.update(|status| status.process = process);
    }

    /// The record of other resources that are about to be seen; `None` keeps what is known.
    pub(crate) fn file_with(&self, overhead: Option<Resources>, resources: Option<Resources>) -> PodFile {
        let mut file = self.lock_file().clone();
        let mut config = (*file.config).clone();
        file.history = self.chronicle.now();
        config.overhead = overhead.or(config.overhead);
        config.resources = resources.or(config.resources);
        file.config = Arc::new(config);
        file
    }

    /// Shows what [`Pod::file_with`] made, which is on record.
    pub(crate) fn note_config(&self, config: Arc<PodConfig>) {
        self.lock_file().config = Arc::clone(&config);
        self.status.update(|status| status.config = config);
    }

    // === what came before its container was known ===

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

    // === locks, none of which is held over anything that waits ===

    fn lock_life(&self) -> MutexGuard<'_, PodLife> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_file(&self) -> MutexGuard<'_, PodFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_reach(&self) -> MutexGuard<'_, Reach<Monitor>> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(file: &mut PodFile, life: &PodLife) {
    if let Some(record) = life.record() {
        file.set_life(record);
    }
    if matches!(life, PodLife::Stopped { .. }) {
        file.ips.clear();
    }
}

fn state(life: &PodLife) -> PodState {
    if life.is_ready() { PodState::Ready } else { PodState::NotReady }
}

/// What readers see of a pod with this record in this state.
pub(crate) fn shown(file: &PodFile, life: &PodLife, process: Option<Process>) -> PodStatus {
    PodStatus {
        id: file.id.clone(),
        config: Arc::clone(&file.config),
        state: state(life),
        created_at: file.created_at,
        ips: file.ips.clone(),
        process,
        message: life.explanation().to_owned(),
    }
}
