//! Plugins (NRI): when they are told of what, and what becomes of their answers.
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
//! What is removed or ends cannot be kept by a plugin's error: it is logged. Nothing here concerns the pause process.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use husk_model::{ContainerState, PodStatus, Resources, chain};
use husk_nri::{ContainerFacts, Event, Everything, Eviction, PodFacts, Runtime, Turn, Update};
use tracing::{info, warn};

use crate::{
    Engine, PodsError, Result,
    create::{self, Plan},
    devices,
    facilities::Plugins,
    pod::{Container, Pod},
    seccomp, stop, update,
};

/// The plugins, and the way back to the engine.
pub(crate) struct Joined {
    pub(crate) plugins: Arc<dyn Plugins>,
    pub(crate) engine: Weak<Engine>,
}

/// A container that is evicted gets this long to end by itself: the kubelet's default.
const EVICTION_GRACE: Duration = Duration::from_secs(30);

/// What plugins are told of a pod.
pub(crate) fn pod_facts(engine: &Engine, pod: &Pod) -> PodFacts {
    facts_of(engine, pod.status.get(), &pod.cgroup_path)
}

fn facts_of(engine: &Engine, status: Arc<PodStatus>, cgroup_path: &str) -> PodFacts {
    let own_network = status.config.namespaces().network != husk_model::NamespaceMode::Node;
    let netns = own_network.then(|| engine.store.netns(&status.id));
    PodFacts { status, cgroup_path: cgroup_path.to_owned(), netns }
}

/// What plugins are told of a container.
pub(crate) fn container_facts(engine: &Engine, container: &Container) -> ContainerFacts {
    // A spec that cannot be read is one that nobody kept: the request stands in for it.
    let spec = match engine.plugins().active() {
        true => engine.store.read_spec(&container.pod.id, &container.id).ok(),
        false => None,
    };
    ContainerFacts { status: container.status.get(), spec: spec.map(Arc::new) }
}

/// Tells of something that cannot be stopped any more.
async fn tell(engine: &Engine, event: Event, pod: &PodFacts, container: Option<&ContainerFacts>) {
    if let Err(error) = engine.plugins().tell(event, pod, container).await {
        warn!(pod = %pod.status.id, %error, "an NRI plugin failed");
    }
}

// === pods ===

/// Asks whether a sandbox may become visible. The turn is held until it is.
pub(crate) async fn admit_pod(engine: &Engine, status: PodStatus, cgroup_path: &str) -> Result<Turn> {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        let facts = facts_of(engine, Arc::new(status), cgroup_path);
        engine.plugins().tell(Event::RunPodSandbox, &facts, None).await?;
    }
    Ok(turn)
}

/// Tells that a sandbox, admitted before, did not come to be.
pub(crate) async fn take_back_pod(engine: &Engine, status: PodStatus, cgroup_path: &str) {
    if engine.plugins().active() {
        let facts = facts_of(engine, Arc::new(status), cgroup_path);
        tell(engine, Event::RemovePodSandbox, &facts, None).await;
    }
}

/// Asks whether a pod may have other limits. The turn is held until it has.
pub(crate) async fn admit_pod_limits(
    engine: &Engine,
    pod: &Pod,
    overhead: Option<&Resources>,
    resources: Option<&Resources>,
) -> Result<Turn> {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        engine.plugins().update_pod(&pod_facts(engine, pod), overhead, resources).await?;
    }
    Ok(turn)
}

/// Tells that a pod has other limits.
pub(crate) async fn pod_changed(engine: &Engine, pod: &Pod) {
    if engine.plugins().active() {
        tell(engine, Event::PostUpdatePodSandbox, &pod_facts(engine, pod), None).await;
    }
}

/// Tells once that a pod stops; its containers have ended.
pub(crate) async fn pod_stops(engine: &Engine, pod: &Pod) {
    pod.told_stop
        .get_or_init(|| async {
            for container in pod.containers() {
                tell_end(engine, &container).await;
            }
            if engine.plugins().active() {
                let _turn = engine.plugins().enter().await;
                tell(engine, Event::StopPodSandbox, &pod_facts(engine, pod), None).await;
            }
        })
        .await;
}

/// Tells that a pod is gone. The turn is held until nobody sees it any more.
pub(crate) async fn pod_goes(engine: &Engine, pod: &Pod) -> Turn {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        tell(engine, Event::RemovePodSandbox, &pod_facts(engine, pod), None).await;
    }
    turn
}

// === containers ===

/// Asks what a container is to be, and changes its plan.
pub(crate) async fn adjust(engine: &Arc<Engine>, pod: &Pod, plan: &mut Plan) -> Result<()> {
    let facts = planned(pod, plan);
    let adjusted = engine.plugins().create_container(&pod_facts(engine, pod), &facts).await?;
    let Some(adjusted) = adjusted else { return Ok(()) };
    let applied = apply(engine, plan, adjusted).await;
    if applied.is_err() {
        take_back_container(engine, pod, plan).await;
    }
    applied
}

fn planned(pod: &Pod, plan: &Plan) -> ContainerFacts {
    ContainerFacts {
        status: Arc::new(create::status(pod, &plan.file, ContainerState::Created)),
        spec: Some(Arc::new(plan.spec.clone())),
    }
}

async fn apply(engine: &Arc<Engine>, plan: &mut Plan, adjusted: husk_nri::Adjusted) -> Result<()> {
    if let Some((profile, plugin)) = adjusted.seccomp {
        let filter = seccomp::of_plugin(&engine.filters, profile, plugin, &plan.file.config.security)?;
        plan.request.seccomp = Some(seccomp::request(&filter));
    }
    plan.spec = adjusted.spec;
    give_devices(engine, plan, adjusted.cdi_devices).await?;
    plan.file.resources = update::merge(&plan.file.resources, &adjusted.resources);
    if let Some(score) = adjusted.oom_score_adj {
        plan.request.oom_score_adj = score;
        plan.file.resources.oom_score_adj = score;
    }
    change(engine, &adjusted.updates, adjusted.evictions).await
}

/// Applies the CDI devices that plugins ask for, each with the plugin's name. All are looked up together: what a vendor's
/// spec changes for every device of it is changed once.
async fn give_devices(engine: &Engine, plan: &mut Plan, mut asked: Vec<(String, String)>) -> Result<()> {
    // The container has those of its request already.
    asked.retain(|(name, _)| !plan.file.config.cdi_devices.contains(name));
    if asked.is_empty() {
        return Ok(());
    }
    let (names, mut plugins): (Vec<String>, Vec<String>) = asked.into_iter().unzip();
    plugins.dedup();
    let refused = |source| PodsError::PluginCdi { plugins: plugins.join(", "), source };
    let dirs = engine.config.cdi_dirs.clone();
    let edits = create::look("look up CDI devices", move || Ok(devices::cdi(&dirs, &names)))
        .await?
        .map_err(refused)?;
    edits.apply(&mut plan.spec, devices::owner(&plan.file.config)).map_err(refused)?;
    plan.request.user.supplemental_groups.extend(&edits.additional_gids);
    Ok(())
}

/// Applies what plugins want of other containers.
async fn change(engine: &Arc<Engine>, updates: &[Update], evictions: Vec<Eviction>) -> Result<()> {
    for update in updates {
        if let Err(error) = change_one(engine, update).await {
            if !update.ignore_failure {
                return Err(error);
            }
            warn!(container = update.container, %error, "an update that an NRI plugin asked for failed");
        }
    }
    for eviction in evictions {
        if let Err(error) = evict(engine, eviction) {
            warn!(%error, "an eviction that an NRI plugin asked for failed");
        }
    }
    Ok(())
}

async fn change_one(engine: &Arc<Engine>, update: &Update) -> Result<()> {
    update::apply(engine, &engine.container(&update.container)?, &update.limits).await
}

fn evict(engine: &Arc<Engine>, eviction: Eviction) -> Result<()> {
    let container = engine.container(&eviction.container)?;
    info!(container = %container.id, plugin = eviction.plugin, reason = eviction.reason, "an NRI plugin evicts a container");
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        if let Err(error) = stop::stop_container(&engine, &container, EVICTION_GRACE).await {
            warn!(container = %container.id, %error, "cannot evict a container");
        }
    });
    Ok(())
}

/// Tells that a container, asked about before, did not come to be.
pub(crate) async fn take_back_container(engine: &Engine, pod: &Pod, plan: &Plan) {
    if engine.plugins().active() {
        let facts = planned(pod, plan);
        tell(engine, Event::RemoveContainer, &pod_facts(engine, pod), Some(&facts)).await;
    }
}

/// Tells what has become of a container that exists.
pub(crate) async fn tell_of(engine: &Engine, event: Event, container: &Container) {
    if engine.plugins().active() {
        let facts = container_facts(engine, container);
        tell(engine, event, &pod_facts(engine, &container.pod), Some(&facts)).await;
    }
}

/// Asks whether a container may start. The turn is held until it has.
pub(crate) async fn admit_start(engine: &Engine, container: &Container) -> Result<Turn> {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        let facts = container_facts(engine, container);
        let pod = pod_facts(engine, &container.pod);
        engine.plugins().tell(Event::StartContainer, &pod, Some(&facts)).await?;
    }
    Ok(turn)
}

/// Called when a container's end has become visible: tells of it in a task of its own.
pub(crate) fn ended(engine: &Engine, container: &Container) {
    let joined = engine.joined.get().filter(|joined| joined.plugins.active());
    let Some(engine) = joined.and_then(|joined| joined.engine.upgrade()) else {
        // Nobody to tell, and a plugin that comes later is told of a container that has ended. Fails if it was told before.
        let _ = container.told_end.set(());
        return;
    };
    if let Some(container) = container.pod.container(&container.id) {
        tokio::spawn(async move { tell_end(&engine, &container).await });
    }
}

/// Tells once that a container has ended; returns when that is done, whoever does it.
pub(crate) async fn tell_end(engine: &Engine, container: &Arc<Container>) {
    if !matches!(container.status.get().state, ContainerState::Exited { .. }) {
        return;
    }
    container
        .told_end
        .get_or_init(|| async {
            let Some(joined) = engine.joined.get().filter(|joined| joined.plugins.active()) else { return };
            let turn = joined.plugins.enter().await;
            let (pod, facts) = (pod_facts(engine, &container.pod), container_facts(engine, container));
            let updates = joined.plugins.stop_container(&pod, &facts).await;
            drop(turn);
            let Some(engine) = joined.engine.upgrade() else { return };
            if let Err(error) = change(&engine, &updates, Vec::new()).await {
                warn!(%error, "an update that an NRI plugin asked for failed");
            }
        })
        .await;
}

/// Tells that a container is gone. The turn is held until nobody sees it any more.
pub(crate) async fn container_goes(engine: &Engine, pod: &Pod, facts: &ContainerFacts) -> Turn {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        tell(engine, Event::RemoveContainer, &pod_facts(engine, pod), Some(facts)).await;
    }
    turn
}

/// Asks about a change of limits; what comes back is to be applied, the changes of other containers are.
pub(crate) async fn adjust_limits(
    engine: &Arc<Engine>,
    container: &Container,
    change: Resources,
) -> Result<husk_nri::Limits> {
    let plugins = engine.plugins();
    if plugins.active() {
        let facts = container_facts(engine, container);
        let updated = plugins.update_container(&pod_facts(engine, &container.pod), &facts, &change).await?;
        if let Some(updated) = updated {
            self::change(engine, &updated.updates, updated.evictions).await?;
            return Ok(updated.limits);
        }
    }
    Ok(husk_nri::Limits { common: change, ..Default::default() })
}

// === the way back ===

/// The engine as plugins see it; it does not keep the engine.
pub(crate) struct Back(pub(crate) Weak<Engine>);

#[async_trait]
impl Runtime for Back {
    async fn everything(&self) -> Everything {
        let Some(engine) = self.0.upgrade() else { return Everything::default() };
        let gather = tokio::task::spawn_blocking(move || Everything {
            pods: engine.all_pods().iter().map(|pod| pod_facts(&engine, pod)).collect(),
            containers: engine
                .all_containers()
                .iter()
                .map(|container| container_facts(&engine, container))
                .collect(),
        });
        // It fails only when the daemon ends.
        gather.await.unwrap_or_default()
    }

    async fn update(&self, update: &Update) -> std::result::Result<(), String> {
        let Some(engine) = self.0.upgrade() else { return Err("the daemon ends".to_owned()) };
        change_one(&engine, update).await.map_err(|error| chain(&error))
    }

    async fn evict(&self, eviction: Eviction) -> std::result::Result<(), String> {
        let Some(engine) = self.0.upgrade() else { return Err("the daemon ends".to_owned()) };
        evict(&engine, eviction).map_err(|error| chain(&error))
    }
}
