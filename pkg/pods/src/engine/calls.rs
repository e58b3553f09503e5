//! The calls. Reads take snapshots; writes run to their end even when the caller goes away.

use std::{path::Path, sync::Arc, time::Duration};

use husk_cgroup::Hierarchy;
use husk_lsm::{AppArmor, selinux::SeLinux};
use husk_model::{
    ContainerConfig, ContainerId, ContainerStatus, Door, Ending, FilesystemStats, PodConfig, PodSandboxId,
    PodStatus, ResourceStats, Resources,
};

use tracing::Instrument;

use super::parts::Parts;
use crate::{
    error::{PodsError, Result},
    observing::{ContainerCounters, Follower, MetricGroups, NodeMetrics, PodStats},
    registry::{Container, Pod},
    verbs::{Decide, Finding, start},
};

/// All pods and containers of the node, or those that came through one door.
pub struct Engine {
    parts: Arc<Parts>,
    /// Whose pods it shows; all without one.
    door: Option<Door>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state", &self.state_dir()).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), door: None }
    }

    /// The engine as a door has it: what it makes is marked as that door's, and nothing of another's is seen or reached.
    pub fn through(&self, door: Door) -> Arc<Self> {
        Arc::new(Self { parts: Arc::clone(&self.parts), door: Some(door) })
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    // === the node ===

    /// Whether pods on this node can have user namespaces; if not, why.
    ///
    /// # Errors
    /// The reason.
    pub fn user_namespaces(&self) -> std::result::Result<(), &str> {
        self.parts.run.user_namespaces.as_ref().copied().map_err(|reason| &**reason)
    }

    /// Directory of what outlives the boot: images and the writable layers of containers.
    pub fn root_dir(&self) -> &Path {
        self.parts.records.root()
    }

    /// Directory of what dies with the boot.
    pub fn state_dir(&self) -> &Path {
        self.parts.records.state()
    }

    /// The cgroup hierarchy of the node.
    pub fn hierarchy(&self) -> &Hierarchy {
        self.parts.cgroups.hierarchy()
    }

    /// Whether systemd makes the units of pods.
    pub fn has_systemd_driver(&self) -> bool {
        self.parts.cgroups.has_systemd_driver()
    }

    /// The node's AppArmor.
    pub fn apparmor(&self) -> &AppArmor {
        &self.parts.security.apparmor
    }

    /// The node's SELinux.
    pub fn selinux(&self) -> &SeLinux {
        &self.parts.security.selinux
    }

    /// One look at everything that may be left behind, taking away what `decide` agrees to. Safe while pods come and go; what
    /// is about to end by itself may be reported, though, so a caller that only wants to know looks twice.
    pub async fn examine(&self, decide: Decide) -> Vec<Finding> {
        self.parts.doctor.examine(decide).await
    }

    // === pods ===

    /// Makes a sandbox, or joins the attempt that makes the same one. Returns its id.
    ///
    /// # Errors
    /// Of the step that failed; everything done until then is undone.
    pub async fn run_pod_sandbox(&self, config: PodConfig) -> Result<PodSandboxId> {
        let config = PodConfig { door: self.door.unwrap_or(config.door), ..config };
        self.parts.run.pod(config).await
    }

    /// Stops all containers, the network and the pause process. Unknown sandboxes are fine.
    ///
    /// # Errors
    /// When a step fails; a repeated call goes on where it stopped.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let Some(pod) = self.find_pod(id) else { return Ok(()) };
        let stop = self.parts.stop.clone();
        if pod.is_ready() {
            let what = Ending::Stop { door: self.door, grace: Duration::ZERO };
            pod.chronicle().asked_to_end(what);
        }
        detached(async move { pod.chronicle().during(Box::pin(stop.pod(&pod))).await }).await
    }

    /// Removes a sandbox with its containers, stopping it first if needed. Unknown sandboxes are fine.
    ///
    /// # Errors
    /// As [`Engine::stop_pod_sandbox`].
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let Some(pod) = self.find_pod(id) else { return Ok(()) };
        let remove = self.parts.remove.clone();
        if pod.is_ready() {
            pod.chronicle().asked_to_end(Ending::Removal { door: self.door });
        }
        detached(async move { pod.chronicle().during(Box::pin(remove.pod(&pod))).await }).await
    }

    /// Snapshot of a sandbox.
    ///
    /// # Errors
    /// [`PodsError::NoSuchPod`].
    pub fn pod_status(&self, id: &str) -> Result<Arc<PodStatus>> {
        Ok(self.pod(id)?.status())
    }

    /// Snapshots of all sandboxes, in the order of their ids.
    pub fn list_pods(&self) -> Vec<Arc<PodStatus>> {
        self.parts.registry.pods().iter().filter(|pod| self.shows(pod)).map(|pod| pod.status()).collect()
    }

    /// Takes in what the pod's containers need together and what the pod costs beyond them; `None` keeps what is known.
    ///
    /// # Errors
    /// [`PodsError::NoSuchPod`], or when it cannot be written down.
    pub async fn update_pod_resources(
        &self,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let (pod, updating) = (self.pod(id)?, self.parts.updating.clone());
        detached(async move { updating.pod(&pod, overhead, resources).await }).await
    }

    // === containers ===

    /// Makes a container up to its gate, or joins the attempt that makes the same one. Returns its id.
    ///
    /// # Errors
    /// Of the step that failed; everything done until then is undone.
    pub async fn create_container(&self, pod_id: &str, config: ContainerConfig) -> Result<ContainerId> {
        let pod = self.pod(pod_id)?;
        self.parts.create.container(&pod, config).await
    }

    /// Lets a created container's command run.
    ///
    /// # Errors
    /// When it is not in state CREATED or its command cannot be executed; then it has ended with `StartError`.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let (container, follow) = (self.container(id)?, self.parts.stop.follow.clone());
        detached(async move { container.chronicle().during(Box::pin(start(&follow, &container))).await })
            .await
    }

    /// Stop signal, `grace`, then SIGKILL. Unknown and ended containers are fine.
    ///
    /// # Errors
    /// When the monitor cannot be asked.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.find_container(id) else { return Ok(()) };
        let stop = self.parts.stop.clone();
        if container.is_alive() {
            container.chronicle().asked_to_end(Ending::Stop { door: self.door, grace });
        }
        let work =
            async move { container.chronicle().during(Box::pin(stop.container(&container, grace))).await };
        detached(work).await
    }

    /// Removes a container, killing it if it runs. Unknown containers are fine. Its log file stays.
    ///
    /// # Errors
    /// When a step fails; a repeated call goes on.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let Some(container) = self.find_container(id) else { return Ok(()) };
        let remove = self.parts.remove.clone();
        if container.is_alive() {
            container.chronicle().asked_to_end(Ending::Removal { door: self.door });
        }
        detached(async move { container.chronicle().during(Box::pin(remove.container(&container))).await })
            .await
    }

    /// Snapshot of a container.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`].
    pub fn container_status(&self, id: &str) -> Result<Arc<ContainerStatus>> {
        Ok(self.container(id)?.status())
    }

    /// Snapshots of all containers, in the order of their ids.
    pub fn list_containers(&self) -> Vec<Arc<ContainerStatus>> {
        let containers = self.parts.registry.containers();
        containers
            .iter()
            .filter(|container| self.shows(container.pod()))
            .map(|container| container.status())
            .collect()
    }

    /// Changes the limits that `change` sets and keeps the others.
    ///
    /// # Errors
    /// When the container has ended or the kernel refuses a limit; then the stored limits stay.
    pub async fn update_resources(&self, id: &str, change: Resources) -> Result<()> {
        let (container, updating) = (self.container(id)?, self.parts.updating.clone());
        detached(async move { updating.container(&container, change).await }).await
    }

    // === what is seen ===

    /// Follows the node from now on, beginning with what ended lately.
    pub fn follow(&self) -> Follower {
        self.parts.events.follow(&self.parts.registry, self.door)
    }

    /// Ends the streams of all followers, who would otherwise hold up the end of the daemon.
    pub fn end_events(&self) {
        self.parts.events.end();
    }

    /// Measures a container that is created or running.
    ///
    /// # Errors
    /// When it has ended or its cgroup cannot be read.
    pub fn container_stats(&self, id: &str) -> Result<(Arc<ContainerStatus>, ResourceStats)> {
        self.parts.measuring.container_stats(&*self.container(id)?)
    }

    /// Reads the counters of all live containers' groups; those that end meanwhile are left out.
    pub async fn container_counters(&self) -> Vec<ContainerCounters> {
        self.parts.measuring.container_counters(|container| self.shows(container.pod())).await
    }

    /// Measures all live containers that `wanted` lets through; those that end meanwhile are left out.
    pub async fn list_container_stats(
        &self,
        wanted: impl Fn(&ContainerStatus) -> bool,
    ) -> Vec<(Arc<ContainerStatus>, ResourceStats)> {
        self.parts.measuring.list_container_stats(|container| self.shows(container.pod()), wanted).await
    }

    /// Measures a sandbox that is ready, and its live containers.
    ///
    /// # Errors
    /// When it is not ready or its cgroup cannot be read.
    pub async fn pod_stats(&self, id: &str) -> Result<PodStats> {
        self.parts.measuring.pod_stats(&self.pod(id)?).await
    }

    /// Measures all ready sandboxes that `wanted` lets through; those that end meanwhile are left out.
    pub async fn list_pod_stats(&self, wanted: impl Fn(&PodStatus) -> bool) -> Vec<PodStats> {
        self.parts.measuring.list_pod_stats(|pod| self.shows(pod) && wanted(&pod.status())).await
    }

    /// What the writable layers of all containers take together; the first answers may be short of those that were not
    /// measured yet. Never waits for the disk.
    pub fn writable_layers(&self) -> FilesystemStats {
        self.parts.measuring.writable_layers()
    }

    /// What can be counted on this node.
    pub fn metric_groups(&self) -> MetricGroups {
        self.parts.measuring.metric_groups(self.hierarchy())
    }

    /// Counts everything of all ready pods; what ends meanwhile is left out. Every container has the same share of a bounded time,
    /// and counting ends with the caller.
    ///
    /// # Errors
    /// The filesystem of the writable layers does not answer.
    pub async fn pod_metrics(&self) -> Result<NodeMetrics> {
        self.parts.measuring.pod_metrics(|pod| self.shows(pod)).await
    }
}

// === what its door may reach ===

impl Engine {
    pub(super) fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        self.find_pod(id).ok_or_else(|| PodsError::NoSuchPod { id: id.to_owned() })
    }

    pub(super) fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.find_container(id).ok_or_else(|| PodsError::NoSuchContainer { id: id.to_owned() })
    }

    fn find_pod(&self, id: &str) -> Option<Arc<Pod>> {
        self.parts.registry.find_pod(id).filter(|pod| self.shows(pod))
    }

    fn find_container(&self, id: &str) -> Option<Arc<Container>> {
        self.parts.registry.find_container(id).filter(|container| self.shows(container.pod()))
    }

    fn shows(&self, pod: &Pod) -> bool {
        self.door_is(Some(pod.config().door))
    }

    /// Whether what came through `door` is shown; of what came through none, to an engine without one.
    pub(super) fn door_is(&self, door: Option<Door>) -> bool {
        self.door.is_none() || self.door == door
    }

    pub(super) fn door(&self) -> Option<Door> {
        self.door
    }
}

/// Runs work to its end even when the caller goes away.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work.in_current_span()).await.map_err(|_| PodsError::Lost)?
}
