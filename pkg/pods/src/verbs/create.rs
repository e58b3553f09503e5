//! CreateContainer.
//!
//! ```text
//! claim the name → image → spec and filter → plugins → container.json (incomplete) → writable layer → init at its gate
//!                → container.json (complete) → CREATED
//! ```

use std::{path::Path, sync::Arc};

use husk_life::{ContainerEvent, ContainerLife};
use husk_model::{ContainerConfig, ContainerId, Door, NamespaceMode, chain};
use husk_monitor::{ContainerRequest, Created, IpcNamespace, PidNamespace};
use husk_node::now;
use husk_nri::{ContainerFacts, Event};
use husk_telemetry::{
    phases::{phase, waiting},
    step,
};
use tracing::{Instrument, warn};

use super::{
    adjust::{Adjust, planned},
    follow::Follow,
};
use crate::{
    error::{PodsError, Result},
    facilities::{ImageFacts, Images, Lease},
    node::{Claimed, Layers, NodeFacts, files, look, make_log_directory},
    planning::{self, ContainerPlan, Inputs},
    records::ContainerFile,
    registry::{Afterwards, Attempted, Chronicle, Claim, Container, NewContainer, Pod, shown_name},
};

/// What creating needs.
#[derive(Clone)]
pub(crate) struct Create {
    pub(crate) follow: Follow,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) adjust: Adjust,
    pub(crate) cgroup_v2: bool,
}

impl Create {
    /// Makes a container up to its gate, or joins the attempt that makes the same one.
    pub(crate) async fn container(&self, pod: &Arc<Pod>, config: ContainerConfig) -> Result<ContainerId> {
        let config = Arc::new(config);
        let id = ContainerId::generate();
        let registry = &self.follow.registry;
        let attempt = match registry.claim_container(pod, &config, &id)? {
            Claim::Joined(wait) => {
                let id = wait.outcome().await?;
                // A retry means the container that it asked for, not one that has run since.
                return match registry.container(id.as_str()) {
                    Ok(container) if container.life() == ContainerLife::Created => Ok(id),
                    _ => {
                        let name = shown_name(&pod.name(), Some(&config.metadata));
                        Err(PodsError::NameTaken { what: "container", name, id: id.to_string() })
                    }
                };
            }
            Claim::Mine(attempt) => attempt,
        };
        let wait = attempt.wait();
        let (this, pod) = (self.clone(), Arc::clone(pod));
        let chronicle = Chronicle::default();
        let going = registry.attempts().begin(
            Attempted::Container(pod.id().clone(), id.clone(), config.metadata.name.clone()),
            Some(pod.name()),
            Some(pod.config().door),
            chronicle.phases().clone(),
        );
        let work = async move {
            // On the heap: it holds the whole plan.
            let build = Box::pin(this.build(&pod, &id, &config, &chronicle));
            let outcome = chronicle.during(build).await;
            going.end(outcome.as_ref().err().map(|error| chain(error)), Afterwards::Forget);
            attempt.settle(outcome.map(|()| id));
        };
        tokio::spawn(work.in_current_span());
        wait.outcome().await
    }

    async fn build(
        &self,
        pod: &Arc<Pod>,
        id: &ContainerId,
        config: &Arc<ContainerConfig>,
        chronicle: &Chronicle,
    ) -> Result<()> {
        let _gate = phase("wait for the pod's stop or removal", pod.enter()).await?;
        let no_image = || PodsError::NoSuchImage {
            field: "config.image.image".to_owned(),
            reference: config.image.clone(),
        };
        let image = self.images.find(&config.image).ok_or_else(no_image)?;
        let layers = Layers::lease(self.images.as_ref(), &image.id, config)?;
        let lookups = &self.adjust.lookups;
        let pod_config = pod.config();
        let looking = lookups.container(&pod_config, pod.selinux_level(), config);
        let (facts, sources) = step!("mount sources and devices", looking).await?;
        let planned = self.plan(pod, id, config, &image, &layers, facts);
        let built = match planned {
            Ok(plan) => self.build_planned(pod, plan, layers, chronicle).await,
            Err(error) => Err(error),
        };
        match built {
            Ok(container) => {
                sources.keep();
                self.adjust.plugins.tell_of(Event::PostCreateContainer, &container).await;
                Ok(())
            }
            Err(error) => {
                take_back_sources(id, sources).await;
                Err(error)
            }
        }
    }

    fn plan(
        &self,
        pod: &Arc<Pod>,
        id: &ContainerId,
        config: &Arc<ContainerConfig>,
        image: &ImageFacts,
        layers: &Layers,
        facts: NodeFacts,
    ) -> Result<ContainerPlan> {
        let records = &self.follow.records;
        ContainerPlan::new(Inputs {
            id,
            config,
            pod: &pod.config(),
            pod_cgroup: &pod.cgroup_path(),
            files: files::paths(&records.pod(pod.id())),
            image,
            layers,
            facts,
            layer: records.layer_of(id, config),
            pid: self.pid_namespace(pod, config)?,
            ipc: self.ipc_namespace(pod, config)?,
            node_hostname: &files::node_hostname(),
            cgroup_v2: self.cgroup_v2,
            at: now(),
        })
    }

    async fn build_planned(
        &self,
        pod: &Arc<Pod>,
        mut plan: ContainerPlan,
        layers: Layers,
        chronicle: &Chronicle,
    ) -> Result<Arc<Container>> {
        // Held until the container is seen.
        let _turn = waiting("wait for plugins' turn", self.adjust.plugins.enter()).await;
        let mut asked = None;
        if self.adjust.plugins.active() {
            step!("plugins", Box::pin(self.adjust.plan(pod, &mut plan))).await?;
            asked = Some(planned(pod, &plan));
        }
        let (file, request) = plan.seal()?;
        let id = file.id.clone();
        let made = match self.make(pod, file, request, chronicle).await {
            Ok((file, created)) => self.publish(pod, file, created, layers.into_leases(), chronicle),
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.take_back(pod, &id, asked.as_ref()).await;
        }
        made
    }

    async fn take_back(&self, pod: &Pod, id: &ContainerId, asked: Option<&ContainerFacts>) {
        if let Some(facts) = asked {
            self.adjust.plugins.take_back_container(pod, facts).await;
        }
        if let Err(left) = self.follow.records.discard_container(pod.id(), id) {
            warn!(container = %id, error = &left as &dyn std::error::Error, "cannot remove the files of a container that failed to be created");
        }
    }

    async fn make(
        &self,
        pod: &Pod,
        file: ContainerFile,
        request: ContainerRequest,
        chronicle: &Chronicle,
    ) -> Result<(ContainerFile, Created)> {
        let (records, id) = (&self.follow.records, &file.id);
        records.create_container(pod.id(), id)?;
        records.write_container(pod.id(), &file)?;
        if self.adjust.plugins.enabled() {
            records.write_spec(pod.id(), id, &request.spec_json)?;
        }
        match &file.config.kept_layer {
            Some(kept) => records.prepare_kept_layer(kept)?,
            None => records.create_layer(id)?,
        }
        let log_dir = Path::new(&file.log_path).parent();
        if let Some(dir) = log_dir.filter(|dir| !dir.as_os_str().is_empty()) {
            phase("log directory", make_log_directory(dir.to_owned())).await?;
        }
        let created = step!("init", pod.monitor()?.create_container(request)).await?;
        let complete = ContainerFile { complete: true, history: chronicle.now(), ..file };
        if let Err(error) = records.write_container(pod.id(), &complete) {
            if let Err(left) = pod.monitor()?.remove_container(&complete.id).await {
                warn!(container = %complete.id, error = %left, "cannot take back a container that failed to be recorded");
            }
            return Err(error);
        }
        Ok((complete, created))
    }

    fn publish(
        &self,
        pod: &Arc<Pod>,
        file: ContainerFile,
        created: Created,
        leases: Vec<Lease>,
        chronicle: &Chronicle,
    ) -> Result<Arc<Container>> {
        for limit in &created.degraded {
            warn!(container = %file.id, limit, "the node cannot set a limit");
        }
        let mut status = planning::shown(pod.id(), &file);
        status.user = Some(created.user);
        status.process = Some(created.process);
        let container = Arc::new(Container::new(NewContainer {
            pod: Arc::clone(pod),
            life: ContainerLife::Making,
            status,
            upper: self.follow.records.layer_of(&file.id, &file.config).join("upper"),
            file: Some(file),
            leases,
            chronicle: chronicle.clone(),
        }));
        self.follow.changes.container(&container, &ContainerEvent::Made)?;
        self.follow.appeared(&container);
        Ok(container)
    }

    // === namespaces of other containers ===

    fn pid_namespace(&self, pod: &Pod, config: &ContainerConfig) -> Result<PidNamespace> {
        let namespaces = &config.security.namespaces;
        match namespaces.pid {
            NamespaceMode::Pod => Ok(PidNamespace::Pod),
            NamespaceMode::Container => Ok(PidNamespace::Container),
            NamespaceMode::Node => Ok(PidNamespace::Node),
            NamespaceMode::Target => self.pid_target(pod, &namespaces.target_id),
        }
    }

    fn pid_target(&self, pod: &Pod, id: &str) -> Result<PidNamespace> {
        let target = self.target(pod, id, "sharing its PID namespace")?;
        if target.pod().id() == pod.id() {
            return Ok(PidNamespace::Target(target.id().clone()));
        }
        match target.status().process {
            Some(process) => Ok(PidNamespace::Process(process)),
            None => Err(PodsError::PidTarget { reason: format!("container {} has ended", target.id()) }),
        }
    }

    fn ipc_namespace(&self, pod: &Pod, config: &ContainerConfig) -> Result<IpcNamespace> {
        let wanted = &config.security.namespaces;
        match wanted.ipc {
            NamespaceMode::Target => self.ipc_target(pod, &wanted.ipc_target_id),
            _ if pod.config().namespaces().ipc == NamespaceMode::Node => Ok(IpcNamespace::Node),
            _ => Ok(IpcNamespace::Pod),
        }
    }

    fn ipc_target(&self, pod: &Pod, id: &str) -> Result<IpcNamespace> {
        let target = self.target(pod, id, "sharing its IPC namespace")?;
        let other = target.pod();
        match (other.status().process, other.config().namespaces().ipc) {
            (_, NamespaceMode::Node) => Ok(IpcNamespace::Node),
            _ if other.id() == pod.id() => Ok(IpcNamespace::Pod),
            (Some(pause), _) => Ok(IpcNamespace::Sandbox(pause)),
            (None, _) => Err(PodsError::PidTarget { reason: format!("the pod of container {id} has ended") }),
        }
    }

    /// A container that runs and whose namespaces may be joined: one of the same pod, or, where no pod bounds what belongs together,
    /// any of the same door.
    fn target(&self, pod: &Pod, id: &str, what: &'static str) -> Result<Arc<Container>> {
        let refused = |error: PodsError| PodsError::PidTarget { reason: error.to_string() };
        let target = self.follow.registry.container(id).map_err(refused)?;
        let doors = (pod.config().door, target.pod().config().door);
        if target.pod().id() != pod.id() && doors != (Door::Docker, Door::Docker) {
            let reason = format!("container {} is of another pod", target.id());
            return Err(PodsError::PidTarget { reason });
        }
        target.check_running(what).map_err(refused)?;
        Ok(target)
    }
}

/// Takes back the directories made for mount sources. It may hang as the node's files may.
async fn take_back_sources(id: &ContainerId, sources: Claimed) {
    let take_back = move || {
        drop(sources);
        Ok(())
    };
    if let Err(left) = look("take back the directories made for mount sources", take_back).await {
        warn!(container = %id, error = &left as &dyn std::error::Error, "a failed creation may leave directories");
    }
}
