//! Plugins (NRI): when they are asked and told of what. What becomes of their answers is `verbs::wishes`.
//!
//! | what happens | before it is visible | after |
//! | --- | --- | --- |
//! | RunPodSandbox | `RunPodSandbox`; an error undoes the pod | |
//! | UpdatePodSandboxResources | `UpdatePodSandbox`; an error fails it | `PostUpdatePodSandbox` |
//! | CreateContainer | `CreateContainer`, which may change it; an error fails it | `PostCreateContainer` |
//! | StartContainer | `StartContainer`; an error keeps it CREATED | `PostStartContainer` |
//! | UpdateContainerResources | `UpdateContainer`, which may change it; an error fails it | `PostUpdateContainer` |
//! | a container ends, however | | `StopContainer`, once |
//! | StopPodSandbox | | `StopPodSandbox`, once: the containers have ended, the network is still there |
//! | Remove… | | `RemoveContainer`, `RemovePodSandbox` |
//!
//! What is removed or ends cannot be kept by a plugin's error: it is logged. Nothing here concerns the pause process, or the
//! containers of Docker's door.

use std::sync::{Arc, OnceLock};

use husk_model::{Door, NamespaceMode, PodConfig, PodStatus, Resources};
use husk_nri::{Adjusted, ContainerFacts, Event, Everything, Nri, PodFacts, Turn, Update, Updated};
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    error::Result,
    records::Records,
    registry::{Container, Pod, Registry},
};

/// The plugins of the node, which may be none.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    nri: Arc<OnceLock<Arc<Nri>>>,
    records: Arc<Records>,
    /// Containers that have ended, for whoever tells of it.
    ended: mpsc::UnboundedSender<Arc<Container>>,
}

impl Plugins {
    /// None yet. The other end gets the containers whose end is to be told.
    pub(crate) fn new(records: Arc<Records>) -> (Self, mpsc::UnboundedReceiver<Arc<Container>>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Self { nri: Arc::default(), records, ended }, ends)
    }

    /// Lets plugins take part, once.
    pub(crate) fn admit(&self, nri: Arc<Nri>) {
        // A second call changes nothing.
        let _ = self.nri.set(nri);
    }

    /// Whether there will ever be any: only then is kept what they would want to know of a container.
    pub(crate) fn enabled(&self) -> bool {
        self.nri.get().is_some()
    }

    /// Whether there may be anybody to tell now.
    pub(crate) fn active(&self) -> bool {
        self.nri().is_some()
    }

    fn nri(&self) -> Option<&Arc<Nri>> {
        self.nri.get().filter(|nri| nri.active())
    }

    /// Those that hear of a pod. Docker's containers are no Kubernetes pods, which NRI is about.
    fn nri_of(&self, pod: &PodConfig) -> Option<&Arc<Nri>> {
        self.nri().filter(|_| pod.door != Door::Docker)
    }

    /// Waits while a plugin is getting in.
    pub(crate) async fn enter(&self) -> Turn {
        match self.nri.get() {
            Some(nri) => nri.enter().await,
            None => Turn::default(),
        }
    }

    // === what they are told of ===

    /// What plugins are told of a pod.
    pub(crate) fn pod_facts(&self, pod: &Pod) -> PodFacts {
        self.facts_of(pod.status(), pod.cgroup_path())
    }

    fn facts_of(&self, status: Arc<PodStatus>, cgroup_path: String) -> PodFacts {
        let own_network = status.config.namespaces().network != NamespaceMode::Node;
        let netns = own_network.then(|| self.records.netns(&status.id));
        PodFacts { status, cgroup_path, netns }
    }

    /// What plugins are told of a container.
    pub(crate) fn container_facts(&self, container: &Container) -> ContainerFacts {
        // A spec that cannot be read is one that nobody kept: the request stands in for it.
        let spec = match self.active() {
            true => self.records.read_spec(container.pod().id(), container.id()).ok(),
            false => None,
        };
        ContainerFacts { status: container.status(), spec: spec.map(Arc::new) }
    }

    /// Everything there is, for a plugin that gets in. Reads files.
    pub(crate) fn everything(&self, registry: &Registry) -> Everything {
        Everything {
            pods: registry.pods().iter().filter(|pod| is_told(pod)).map(|pod| self.pod_facts(pod)).collect(),
            containers: registry
                .containers()
                .iter()
                .filter(|container| is_told(container.pod()))
                .map(|container| self.container_facts(container))
                .collect(),
        }
    }

    /// Tells of something that cannot be stopped any more.
    async fn tell(&self, event: Event, pod: &PodFacts, container: Option<&ContainerFacts>) {
        let Some(nri) = self.nri_of(&pod.status.config) else { return };
        if let Err(error) = nri.tell(event, pod, container).await {
            warn!(pod = %pod.status.id, %error, "an NRI plugin failed");
        }
    }

    // === pods ===

    /// Asks whether a sandbox may become visible. The turn is held until it is.
    pub(crate) async fn admit_pod(&self, status: PodStatus, cgroup_path: &str) -> Result<Turn> {
        let turn = self.enter().await;
        if let Some(nri) = self.nri_of(&status.config) {
            let facts = self.facts_of(Arc::new(status), cgroup_path.to_owned());
            nri.tell(Event::RunPodSandbox, &facts, None).await?;
        }
        Ok(turn)
    }

    /// Tells that a sandbox, admitted before, did not come to be.
    pub(crate) async fn take_back_pod(&self, status: PodStatus, cgroup_path: &str) {
        let facts = self.facts_of(Arc::new(status), cgroup_path.to_owned());
        self.tell(Event::RemovePodSandbox, &facts, None).await;
    }

    /// Asks whether a pod may have other limits. The turn is held until it has.
    pub(crate) async fn admit_pod_limits(
        &self,
        pod: &Pod,
        overhead: Option<&Resources>,
        resources: Option<&Resources>,
    ) -> Result<Turn> {
        let turn = self.enter().await;
        if let Some(nri) = self.nri_of(&pod.config()) {
            nri.update_pod(&self.pod_facts(pod), overhead, resources).await?;
        }
        Ok(turn)
    }

    /// Tells that a pod has other limits.
    pub(crate) async fn pod_changed(&self, pod: &Pod) {
        if self.active() {
            self.tell(Event::PostUpdatePodSandbox, &self.pod_facts(pod), None).await;
        }
    }

    /// Tells that a pod stops; its containers have ended, and that was told.
    pub(crate) async fn pod_stops(&self, pod: &Pod) {
        if self.active() {
            let _turn = self.enter().await;
            self.tell(Event::StopPodSandbox, &self.pod_facts(pod), None).await;
        }
    }

    /// Tells that a pod is gone. The turn is held until nobody sees it any more.
    pub(crate) async fn pod_goes(&self, pod: &Pod) -> Turn {
        let turn = self.enter().await;
        if self.active() {
            self.tell(Event::RemovePodSandbox, &self.pod_facts(pod), None).await;
        }
        turn
    }

    // === containers ===

    /// Asks what a container is to be; `None` leaves it as it is.
    pub(crate) async fn ask_container(&self, pod: &Pod, facts: &ContainerFacts) -> Result<Option<Adjusted>> {
        match self.nri_of(&pod.config()) {
            Some(nri) => Ok(nri.create_container(&self.pod_facts(pod), facts).await?),
            None => Ok(None),
        }
    }

    /// Tells that a container, asked about before, did not come to be.
    pub(crate) async fn take_back_container(&self, pod: &Pod, facts: &ContainerFacts) {
        if self.active() {
            self.tell(Event::RemoveContainer, &self.pod_facts(pod), Some(facts)).await;
        }
    }

    /// Tells what has become of a container that exists.
    pub(crate) async fn tell_of(&self, event: Event, container: &Container) {
        if self.active() {
            let facts = self.container_facts(container);
            self.tell(event, &self.pod_facts(container.pod()), Some(&facts)).await;
        }
    }

    /// Asks whether a container may start. The turn is held until it has.
    pub(crate) async fn admit_start(&self, container: &Container) -> Result<Turn> {
        let turn = self.enter().await;
        if let Some(nri) = self.nri_of(&container.pod().config()) {
            let facts = self.container_facts(container);
            nri.tell(Event::StartContainer, &self.pod_facts(container.pod()), Some(&facts)).await?;
        }
        Ok(turn)
    }

    /// Asks about a change of limits; `None` leaves it as it is.
    pub(crate) async fn ask_limits(
        &self,
        container: &Container,
        change: &Resources,
    ) -> Result<Option<Updated>> {
        let Some(nri) = self.nri_of(&container.pod().config()) else { return Ok(None) };
        let facts = self.container_facts(container);
        Ok(nri.update_container(&self.pod_facts(container.pod()), &facts, change).await?)
    }

    /// A container's end has become visible: somebody is to tell of it, without holding up whoever noticed.
    pub(super) fn ended(&self, container: &Arc<Container>) {
        if !self.active() {
            // Nobody to tell, and a plugin that comes later is told of a container that has ended. Fails if it was told before.
            let _ = container.told_end().set(());
            return;
        }
        // Nobody listens when the daemon ends.
        let _ = self.ended.send(Arc::clone(container));
    }

    /// Tells that a container has ended. Returns what is to be changed of others.
    pub(crate) async fn tell_end(&self, container: &Container) -> Vec<Update> {
        let Some(nri) = self.nri_of(&container.pod().config()) else { return Vec::new() };
        let _turn = self.enter().await;
        nri.stop_container(&self.pod_facts(container.pod()), &self.container_facts(container)).await
    }

    /// Tells that a container is gone. The turn is held until nobody sees it any more.
    pub(crate) async fn container_goes(&self, pod: &Pod, facts: &ContainerFacts) -> Turn {
        let turn = self.enter().await;
        if self.active() {
            self.tell(Event::RemoveContainer, &self.pod_facts(pod), Some(facts)).await;
        }
        turn
    }
}

/// Whether plugins hear of a pod.
fn is_told(pod: &Pod) -> bool {
    pod.config().door != Door::Docker
}
