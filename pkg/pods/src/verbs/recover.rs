//! Start-up: finding the pods of a former daemon again.
//!
//! For each directory below `<state>/pods`:
//!
//! | found | done |
//! | --- | --- |
//! | record of another boot | everything of it is garbage: discarded, network taken back |
//! | incomplete record | the attempt is undone |
//! | complete record, monitor alive | reconnected; its account of containers and exits counts |
//! | complete record, monitor dead | recorded exits count, the rest is killed; the pod is not ready |
//! | complete record, monitor silent | its records count until it answers; nothing is killed |
//! | record that cannot be read | reported as not ready with the reason; it can be removed |
//! | record of a newer huskd | refused: the start ends before anything is touched |
//!
//! The same holds for containers inside a pod, which are reported as UNKNOWN. Then the node is freed of what
//! belongs to nobody (`doctor`; what no new pod could meet, behind the start). Every pod is known before anybody can ask, but what hangs (a monitor that was
//! stopped, a CNI plugin) holds the start up for [`PATIENCE`] at most and goes on behind it.

use std::{sync::Arc, time::Duration};

use husk_life::{ContainerLife, PodLife, PodRecordLife, Reach};
use husk_model::{ContainerId, ContainerStatus, PodSandboxId, chain};
use husk_monitor::{Monitor, Rejoined, Snapshot};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{follow::Follow, undo::Undo};
use crate::{
    error::{PodsError, Result},
    facilities::{Images, Lease},
    node::Security,
    planning,
    records::{ContainerFile, OnRecord, PodFile, ids_in},
    registry::{Chronicle, Container, NewContainer, NewPod, Pod},
};

/// How long a start waits for monitors and for the undoing of what was half done.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to reach a monitor that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// What finding the pods of a former daemon needs.
#[derive(Clone)]
pub(crate) struct Recover {
    pub(crate) follow: Follow,
    pub(crate) undo: Undo,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) security: Security,
}

/// What a pod's directory turned out to be.
enum Found {
    /// To be undone.
    Garbage(Box<PodFile>),
    /// To be reconnected to its monitor, with containers whose creation was interrupted.
    Pod(Arc<Pod>, Vec<ContainerId>),
}

impl Recover {
    /// Finds all pods again. Returns when every one is known.
    ///
    /// # Errors
    /// The directory of pods cannot be read, or has records of a newer huskd.
    pub(crate) async fn run(&self) -> Result<()> {
        let ids = ids_in::<PodSandboxId>(&self.follow.records.pods())?;
        let records = |id| self.follow.records.load(id);
        // All before the first is acted upon: one may be a newer huskd's.
        let recorded = ids.into_iter().map(records).collect::<Result<Vec<_>>>()?;
        let mut tasks = JoinSet::new();
        for pod in recorded {
            let this = self.clone();
            match self.find(pod) {
                Found::Garbage(file) => {
                    // Until then it is not for the doctor to judge.
                    self.follow.registry.undoing().insert(file.id.clone());
                    tasks.spawn(async move {
                        this.undo.pod(&file).await;
                        this.follow.registry.undoing().remove(&file.id);
                    });
                }
                Found::Pod(pod, half_made) => {
                    tasks.spawn(async move { this.reconnect(&pod, half_made).await });
                }
            }
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            // What is on record is told until they do.
            let pods = self.follow.registry.pods();
            pods.iter().filter(|pod| pod.is_silent()).for_each(|pod| self.follow.learn_records(pod));
            warn!(
                left = tasks.len(),
                "some pods of a former daemon do not answer yet; the start does not wait for them"
            );
            tasks.detach_all();
        }
        Ok(())
    }

    fn find(&self, OnRecord { id, pod, containers }: OnRecord) -> Found {
        let file = match pod {
            Ok(file) => file,
            // Killed between making the directory and writing the record: nothing else was made.
            Err(error) if is_missing(&error) => return Found::Garbage(Box::new(self.unreadable(&id))),
            Err(error) => {
                warn!(pod = %id, error = &error as &dyn std::error::Error, "cannot load a pod; it is reported as not ready and can be removed");
                let reason = format!("its record cannot be read: {}", chain(&error));
                return self.add(self.unreadable(&id), PodLife::Unreadable { reason }, containers);
            }
        };
        let life = file.life();
        if file.boot_id != self.follow.records.boot_id() || life == PodRecordLife::Making {
            info!(pod = %id, ?life, "removing what a former boot or an interrupted start left");
            return Found::Garbage(Box::new(file));
        }
        self.add(file, PodLife::recovered(life), containers)
    }

    /// Stands in for a record that cannot be read.
    fn unreadable(&self, id: &PodSandboxId) -> PodFile {
        unreadable(&self.undo, id)
    }

    // === its monitor ===

    /// Connects to the monitor of a pod, however long that takes: one that is silent may only be slow, and killing its pod is
    /// for whoever stops the pod.
    async fn reconnect(&self, pod: &Arc<Pod>, half_made: Vec<ContainerId>) {
        let mut silent = false;
        let rejoined = loop {
            match Monitor::rejoin(&self.follow.records.pod(pod.id())).await {
                Ok(rejoined) => break Some(rejoined),
                Err(error) if error.is_gone() => {
                    self.follow.found_without_monitor(pod, &error.to_string()).await;
                    break None;
                }
                Err(error) if !silent => {
                    warn!(pod = %pod.id(), %error, "the monitor of a pod does not answer; it is tried again");
                    silent = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
            pod.settled().await;
            if pod.life() == PodLife::Removed {
                return;
            }
        };
        for id in &half_made {
            self.undo_container(pod, rejoined.as_ref().map(|rejoined| &rejoined.monitor), id).await;
        }
        let Some(mut rejoined) = rejoined else { return };
        if !half_made.is_empty() {
            // What was undone just now is not to be learnt of.
            rejoined = rejoined.monitor.account().await;
        }
        self.take_over(pod, rejoined);
    }

    fn take_over(&self, pod: &Arc<Pod>, Rejoined { monitor, events, state }: Rejoined) {
        // The account of the monitor is taken in before anybody can ask.
        if let Ok(snapshot) = state {
            self.complete_removals(pod, &snapshot);
            pod.note_pause(snapshot.sandbox.as_ref().map(|sandbox| sandbox.process));
            self.follow.learn(pod, snapshot);
            pod.answered(monitor);
            self.follow.go_on(pod, events);
        } else {
            pod.answered(monitor);
            self.follow.begin(pod);
        }
    }

    /// A container with a complete record that its monitor does not know was being removed when the daemon was killed.
    fn complete_removals(&self, pod: &Arc<Pod>, snapshot: &Snapshot) {
        for container in self.follow.registry.containers_of(pod) {
            let known = snapshot.containers.iter().any(|record| record.id == *container.id());
            if known || container.life() != ContainerLife::Created {
                continue;
            }
            info!(container = %container.id(), "completing the interrupted removal of a container");
            match self.follow.records.discard_container(pod.id(), container.id()) {
                Ok(()) => self.follow.registry.forget_container(&container),
                Err(error) => {
                    warn!(container = %container.id(), %error, "cannot complete the removal of a container")
                }
            }
        }
    }

    /// The attempt to create it was interrupted: the monitor is told to forget it, its files go.
    async fn undo_container(&self, pod: &Pod, monitor: Option<&Monitor>, id: &ContainerId) {
        info!(container = %id, "undoing the interrupted creation of a container");
        if let Some(monitor) = monitor
            && let Err(error) = monitor.remove_container(id).await
        {
            warn!(container = %id, %error, "cannot take back a half-created container");
        }
        if let Err(error) = self.follow.records.discard_container(pod.id(), id) {
            warn!(container = %id, %error, "cannot remove the files of a half-created container");
        }
    }

    // === into the registry ===

    /// Puts a pod and its containers into the registry.
    fn add(
        &self,
        mut file: PodFile,
        life: PodLife,
        containers: Vec<(ContainerId, Result<ContainerFile>)>,
    ) -> Found {
        file.cgroup_path = self.cgroup(&file, &life);
        let pod = Arc::new(Pod::new(NewPod {
            selinux_level: self.security.recovered_level(&file),
            chronicle: Chronicle::recorded(std::mem::take(&mut file.history)),
            file,
            life,
            process: None,
            reach: Reach::Awaited,
        }));
        self.follow.registry.restore_pod(&pod);
        let half_made = containers.into_iter().filter_map(|(id, file)| self.add_container(&pod, id, file));
        let half_made = half_made.collect();
        Found::Pod(pod, half_made)
    }

    /// The pod's cgroup. A record that does not have it is an older version's, or stands in for one that cannot be read: then
    /// the monitor's records of containers know it.
    fn cgroup(&self, file: &PodFile, life: &PodLife) -> String {
        let stands_in = matches!(life, PodLife::Unreadable { .. });
        if !stands_in && !file.cgroup_path.is_empty() {
            return file.cgroup_path.clone();
        }
        let records = husk_monitor::read_records(&self.follow.records.pod(&file.id)).ok();
        let container = records.as_ref().and_then(|records| records.containers.first());
        let pod = container.and_then(|container| container.cgroup_path.rsplit_once('/'));
        pod.map_or_else(|| self.follow.cgroups.recorded_place(file), |(pod, _)| pod.to_owned())
    }

    /// Gives back the id of one whose creation was interrupted.
    fn add_container(
        &self,
        pod: &Arc<Pod>,
        id: ContainerId,
        file: Result<ContainerFile>,
    ) -> Option<ContainerId> {
        let (file, life, status) = match file {
            Ok(file) if !file.complete => return Some(id),
            Err(error) if is_missing(&error) => return Some(id),
            Ok(file) => {
                let status = planning::shown(pod.id(), &file);
                (Some(file), ContainerLife::Created, status)
            }
            Err(error) => {
                warn!(container = %id, %error, "cannot load a container; it is reported as UNKNOWN and can be removed");
                let life = ContainerLife::Unreadable { reason: chain(&error) };
                let status = unknown(pod, &id, &life);
                (None, life, status)
            }
        };
        let container = Arc::new(Container::new(NewContainer {
            upper: self.follow.records.layer_of(&id, &status.config).join("upper"),
            pod: Arc::clone(pod),
            life,
            status,
            leases: self.leases(&id, file.as_ref()),
            chronicle: Chronicle::recorded(
                file.as_ref().map(|file| file.history.clone()).unwrap_or_default(),
            ),
            file,
        }));
        self.follow.registry.restore_container(container);
        None
    }

    fn leases(&self, id: &ContainerId, file: Option<&ContainerFile>) -> Vec<Lease> {
        let images =
            file.into_iter().flat_map(|file| std::iter::once(&file.image_id).chain(&file.image_volumes));
        images
            .filter_map(|image| match self.images.lease(image) {
                Ok(lease) => Some(lease),
                Err(error) => {
                    warn!(container = %id, %image, %error, "an image of a container is not in the store any more");
                    None
                }
            })
            .collect()
    }
}

/// Stands in for a pod's record that cannot be read: enough to report and remove the pod.
pub(crate) fn unreadable(undo: &Undo, id: &PodSandboxId) -> PodFile {
    let mut file = PodFile::unreadable(undo.records.boot_id(), id);
    file.cgroup_path = undo.cgroups.place(id, &file.config).map(|place| place.cgroup).unwrap_or_default();
    file
}

fn is_missing(error: &PodsError) -> bool {
    matches!(error, PodsError::Files { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn unknown(pod: &Pod, id: &ContainerId, life: &ContainerLife) -> ContainerStatus {
    let cgroup_path = format!("{}/{id}", pod.cgroup_path());
    let file = ContainerFile { cgroup_path, ..ContainerFile::unreadable(id) };
    let mut status = planning::shown(pod.id(), &file);
    if let Some(state) = life.shown() {
        status.state = state;
    }
    status
}
