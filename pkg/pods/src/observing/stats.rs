//! Statistics of containers and pods: what is measured is chosen from snapshots, the kernel's files are read on a thread
//! that may block.

use std::sync::Arc;

use husk_cgroup::{CgroupPath, CgroupStats};
use husk_model::{ContainerStatus, FilesystemStats, NetworkStats, PodStatus, ResourceStats, UnixNanos};
use husk_stats::{Stats, Target, TargetId};

use crate::{
    error::{PodsError, Result},
    node::cgroup_path,
    registry::{Container, Pod, Registry},
};

/// Fewer are not worth another thread: they are measured in the time that it takes to wake one.
const LEAST_SHARE: usize = 8;

/// What was measured of a sandbox.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The sandbox.
    pub status: Arc<PodStatus>,
    /// Its cgroup, which holds the pause process and all containers.
    pub resources: ResourceStats,
    /// Its interfaces, the loopback too; empty with the node's network.
    pub network: Vec<NetworkStats>,
    /// Its live containers.
    pub containers: Vec<(Arc<ContainerStatus>, ResourceStats)>,
}

/// The counters of a live container's group.
#[derive(Debug, Clone)]
pub struct ContainerCounters {
    /// The container.
    pub status: Arc<ContainerStatus>,
    /// When they were read.
    pub at: UnixNanos,
    /// The counters.
    pub counters: CgroupStats,
}

/// A sandbox and what of it is to be measured.
pub(crate) struct Chosen {
    pub(crate) pod: Arc<Pod>,
    target: Target,
    pub(crate) containers: Vec<(Arc<ContainerStatus>, Target)>,
}

/// What measuring needs.
#[derive(Debug, Clone)]
pub(crate) struct Measuring {
    pub(crate) registry: Arc<Registry>,
    pub(crate) stats: Stats,
}

impl Measuring {
    /// Measures a container that is created or running.
    ///
    /// # Errors
    /// When it has ended or its cgroup cannot be read.
    pub(crate) fn container_stats(
        &self,
        container: &Container,
    ) -> Result<(Arc<ContainerStatus>, ResourceStats)> {
        container.check_alive("measuring it")?;
        let status = container.status();
        let stats = self.stats.sample(&target(container)?).map_err(PodsError::Stats)?;
        Ok((status, stats))
    }

    /// Measures all live containers that `wanted` lets through; those that end meanwhile are left out.
    pub(crate) async fn list_container_stats(
        &self,
        shown: impl Fn(&Container) -> bool,
        wanted: impl Fn(&ContainerStatus) -> bool,
    ) -> Vec<(Arc<ContainerStatus>, ResourceStats)> {
        let mut containers = self.registry.containers();
        containers.retain(|container| shown(container));
        let chosen = live(&containers, wanted);
        self.each(chosen, sample).await.unwrap_or_default()
    }

    /// Reads the counters of all live containers; those that end meanwhile are left out.
    pub(crate) async fn container_counters(
        &self,
        shown: impl Fn(&Container) -> bool,
    ) -> Vec<ContainerCounters> {
        let mut containers = self.registry.containers();
        containers.retain(|container| shown(container));
        let read = |stats: &Stats, (status, target): (Arc<ContainerStatus>, Target)| {
            let counters = stats.counters(&target).ok()?;
            Some(ContainerCounters { status, at: husk_node::now(), counters })
        };
        self.each(live(&containers, |_| true), read).await.unwrap_or_default()
    }

    /// Measures a sandbox that is ready, and its live containers.
    ///
    /// # Errors
    /// When it is not ready or its cgroup cannot be read.
    pub(crate) async fn pod_stats(&self, pod: &Arc<Pod>) -> Result<PodStats> {
        if !pod.is_ready() {
            return Err(PodsError::PodNotReady { id: pod.id().clone() });
        }
        let chosen = choose(&self.registry, pod)?;
        self.measure(move |stats| measure_pod(stats, chosen)).await?.map_err(PodsError::Stats)
    }

    /// Measures all ready sandboxes that `wanted` lets through; those that end meanwhile are left out.
    pub(crate) async fn list_pod_stats(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<PodStats> {
        let pods = self.registry.pods().into_iter().filter(|pod| pod.is_ready() && wanted(pod));
        let chosen: Vec<Chosen> = pods.filter_map(|pod| choose(&self.registry, &pod).ok()).collect();
        self.each(chosen, |stats, chosen| measure_pod(stats, chosen).ok()).await.unwrap_or_default()
    }

    /// What the writable layers of all containers take together; the first answers may be short of those that were not
    /// measured yet. Never waits for the disk.
    pub(crate) fn writable_layers(&self) -> FilesystemStats {
        let containers = self.registry.containers();
        self.stats.layers(containers.iter().map(|container| (container.id(), container.upper())))
    }

    /// Measures many on as many threads as there are CPUs: the kernel's files do not wait for each other. What `measure` makes
    /// nothing of is left out, the rest stays in order.
    pub(crate) async fn each<I: Send + 'static, T: Send + 'static>(
        &self,
        items: Vec<I>,
        measure: impl Fn(&Stats, I) -> Option<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let most = items.len().div_ceil(threads).max(LEAST_SHARE);
        let mut items = items.into_iter();
        // All begin here; below they are only waited for.
        let shares = std::iter::from_fn(|| {
            let share: Vec<I> = items.by_ref().take(most).collect();
            (!share.is_empty()).then_some(share)
        });
        let shares: Vec<_> = shares
            .map(|share| {
                let (stats, measure) = (self.stats.clone(), measure.clone());
                let work = move || share.into_iter().filter_map(|item| measure(&stats, item)).collect();
                tokio::task::spawn_blocking::<_, Vec<T>>(work)
            })
            .collect();
        let mut measured = Vec::new();
        for share in shares {
            measured.append(&mut share.await.map_err(|_| PodsError::Lost)?);
        }
        Ok(measured)
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
            let status = container.status();
            (status.state.is_alive() && wanted(&status)).then_some(())?;
            Some((status, target(container).ok()?))
        })
        .collect()
}

pub(crate) fn choose(registry: &Registry, pod: &Arc<Pod>) -> Result<Chosen> {
    let cgroup = cgroup_path(&pod.cgroup_path())?;
    Ok(Chosen {
        target: Target {
            id: TargetId::Pod(pod.id().clone()),
            limited_by: limited_by(pod, &cgroup),
            cgroup,
            upper: None,
            since: Some(pod.status().created_at),
        },
        containers: live(&registry.containers_of(pod), |_| true),
        pod: Arc::clone(pod),
    })
}

/// The kubelet writes a pod's limits into a group that it makes for that pod, in which ours is.
fn limited_by(pod: &Pod, cgroup: &CgroupPath) -> Option<CgroupPath> {
    let is_the_kubelets = !pod.config().cgroup_parent.is_empty();
    is_the_kubelets.then(|| cgroup.parent()).flatten()
}

fn measure_pod(stats: &Stats, chosen: Chosen) -> std::result::Result<PodStats, husk_stats::Error> {
    let resources = stats.sample(&chosen.target)?;
    Ok(PodStats {
        network: chosen.pod.interfaces(),
        resources,
        containers: chosen.containers.into_iter().filter_map(|chosen| sample(stats, chosen)).collect(),
        status: chosen.pod.status(),
    })
}

fn sample(
    stats: &Stats,
    (status, target): (Arc<ContainerStatus>, Target),
) -> Option<(Arc<ContainerStatus>, ResourceStats)> {
    Some((status, stats.sample_all([&target]).pop()?.1))
}

fn target(container: &Container) -> Result<Target> {
    let status = container.status();
    Ok(Target {
        id: TargetId::Container(container.id().clone()),
        cgroup: cgroup_path(&status.cgroup_path)?,
        limited_by: None,
        upper: Some(container.upper().to_owned()),
        since: Some(status.created_at),
    })
}
