//! Statistics of containers and pods: what is measured is chosen from snapshots, the kernel's files are read on a thread
//! that may block.

use std::sync::Arc;

use husk_model::{
    ContainerStatus, FilesystemStats, NamespaceMode, NetworkStats, PodState, PodStatus, ResourceStats,
};
use husk_stats::{Stats, Target};

use crate::{
    Engine, PodsError, Result,
    engine::cgroup_path,
    life,
    pod::{Container, Pod},
};

/// What was measured of a sandbox.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The sandbox.
    pub status: Arc<PodStatus>,
    /// Its cgroup, which holds the pause process and all containers.
    pub resources: ResourceStats,
    /// Its interfaces; empty with the node's network.
    pub network: Vec<NetworkStats>,
    /// Its live containers.
    pub containers: Vec<(Arc<ContainerStatus>, ResourceStats)>,
}

/// A sandbox and what of it is to be measured.
pub(crate) struct Chosen {
    pub(crate) pod: Arc<Pod>,
    target: Target,
    pub(crate) containers: Vec<(Arc<ContainerStatus>, Target)>,
}

impl Engine {
    /// Measures a container that is created or running.
    ///
    /// # Errors
    /// When it has ended or its cgroup cannot be read.
    pub fn container_stats(&self, id: &str) -> Result<(Arc<ContainerStatus>, ResourceStats)> {
        let container = self.container(id)?;
        let status = container.status.get();
        if !status.state.is_alive() {
            return Err(PodsError::ContainerState {
                id: container.id.clone(),
                state: life::name(&status.state),
                operation: "measuring it",
                wanted: "created or running",
            });
        }
        let stats = self.stats.sample(&target(&container)?).map_err(PodsError::Stats)?;
        Ok((status, stats))
    }

    /// Measures all live containers that `wanted` lets through; those that end meanwhile are left out.
    pub async fn list_container_stats(
        &self,
        wanted: impl Fn(&ContainerStatus) -> bool,
    ) -> Vec<(Arc<ContainerStatus>, ResourceStats)> {
        let chosen = live(&self.all_containers(), wanted);
        self.measure(move |stats| sample(stats, chosen)).await.unwrap_or_default()
    }

    /// Measures a sandbox that is ready, and its live containers.
    ///
    /// # Errors
    /// When it is not ready or its cgroup cannot be read.
    pub async fn pod_stats(&self, id: &str) -> Result<PodStats> {
        let pod = self.pod(id)?;
        if !pod.is_ready() {
            return Err(PodsError::PodNotReady { id: pod.id.clone() });
        }
        let chosen = choose(&pod)?;
        self.measure(move |stats| measure_pod(stats, chosen)).await?.map_err(PodsError::Stats)
    }

    /// Measures all ready sandboxes that `wanted` lets through; those that end meanwhile are left out.
    pub async fn list_pod_stats(&self, wanted: impl Fn(&PodStatus) -> bool) -> Vec<PodStats> {
        let pods = self.all_pods().into_iter().filter(|pod| pod.is_ready() && wanted(&pod.status.get()));
        let chosen: Vec<Chosen> = pods.filter_map(|pod| choose(&pod).ok()).collect();
        let measured = self.measure(move |stats| {
            chosen.into_iter().filter_map(|chosen| measure_pod(stats, chosen).ok()).collect()
        });
        measured.await.unwrap_or_default()
    }

    /// What the writable layers of all containers take together; the first answers may be short of those that were not
    /// measured yet. Never waits for the disk.
    pub fn writable_layers(&self) -> FilesystemStats {
        let containers = self.all_containers();
        self.stats
            .layers(containers.iter().map(|container| (container.id.as_str(), container.upper.as_path())))
    }

    pub(crate) async fn measure<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stats) -> T + Send + 'static,
    ) -> Result<T> {
        let stats = self.stats.clone();
        tokio::task::spawn_blocking(move || work(&stats)).await.map_err(|_| PodsError::Lost)
    }
}

fn live(
    containers: &[Arc<Container>],
    wanted: impl Fn(&ContainerStatus) -> bool,
) -> Vec<(Arc<ContainerStatus>, Target)> {
    containers
        .iter()
        .filter_map(|container| {
            let status = container.status.get();
            (status.state.is_alive() && wanted(&status)).then_some(())?;
            Some((status, target(container).ok()?))
        })
        .collect()
}

pub(crate) fn choose(pod: &Arc<Pod>) -> Result<Chosen> {
    Ok(Chosen {
        target: Target {
            id: pod.id.to_string(),
            cgroup: cgroup_path(&pod.cgroup_path)?,
            upper: None,
            since: Some(pod.status.get().created_at),
        },
        containers: live(&pod.containers(), |_| true),
        pod: Arc::clone(pod),
    })
}

fn measure_pod(stats: &Stats, chosen: Chosen) -> std::result::Result<PodStats, husk_stats::Error> {
    let resources = stats.sample(&chosen.target)?;
    Ok(PodStats {
        network: interfaces(&chosen.pod),
        resources,
        containers: sample(stats, chosen.containers),
        status: chosen.pod.status.get(),
    })
}

/// The counters of the pod's own interfaces, as its pause process sees them.
pub(crate) fn interfaces(pod: &Pod) -> Vec<NetworkStats> {
    let status = pod.status.get();
    let Some(pid) = status.pid.filter(|_| status.config.namespaces().network != NamespaceMode::Node) else {
        return Vec::new();
    };
    let counters = husk_stats::network(pid).unwrap_or_default();
    // If the process ended meanwhile, its pid may be somebody else's by now, and so are the counters.
    let now = pod.status.get();
    if now.state == PodState::Ready && now.pid == Some(pid) { counters } else { Vec::new() }
}

fn sample(
    stats: &Stats,
    chosen: Vec<(Arc<ContainerStatus>, Target)>,
) -> Vec<(Arc<ContainerStatus>, ResourceStats)> {
    chosen
        .into_iter()
        .filter_map(|(status, target)| Some((status, stats.sample_all([&target]).pop()?.1)))
        .collect()
}

fn target(container: &Container) -> Result<Target> {
    let status = container.status.get();
    Ok(Target {
        id: container.id.to_string(),
        cgroup: cgroup_path(&status.cgroup_path)?,
        upper: Some(container.upper.clone()),
        since: Some(status.created_at),
    })
}
