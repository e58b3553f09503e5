//! Everything that can be counted of pods and containers, for ListPodSandboxMetrics.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use husk_cgroup::{Controller, Hierarchy};
use husk_model::{ContainerStatus, NetworkStats, PodStatus};
use husk_stats::{Detail, Stats, Volume};

use super::stats::{Chosen, Measuring, choose};
use crate::{
    error::{PodsError, Result},
    registry::Pod,
};

/// What looking at processes may take in one call, and the bounds of each container's share of it.
const PATIENCE: Duration = Duration::from_secs(1);
const LEAST_SHARE: Duration = Duration::from_millis(1);
const LARGEST_SHARE: Duration = Duration::from_millis(20);

/// What the node's kernel counts beyond what every kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricGroups {
    /// Pressure stall information of groups.
    pub pressure: bool,
    /// Huge pages.
    pub hugetlb: bool,
    /// Block I/O.
    pub io: bool,
}

/// All ready pods, and what they share.
#[derive(Debug)]
pub struct NodeMetrics {
    /// The filesystem that holds the writable layers.
    pub volume: Volume,
    /// The pods.
    pub pods: Vec<PodMetrics>,
}

/// What was counted of a sandbox.
#[derive(Debug)]
pub struct PodMetrics {
    /// The sandbox.
    pub status: Arc<PodStatus>,
    /// Its cgroup, relative to the hierarchy's root.
    pub cgroup_path: String,
    /// Its interfaces but the loopback, as cAdvisor counts them; empty with the node's network.
    pub network: Vec<NetworkStats>,
    /// Its live containers.
    pub containers: Vec<ContainerMetrics>,
}

/// What was counted of a container.
#[derive(Debug)]
pub struct ContainerMetrics {
    /// The container.
    pub status: Arc<ContainerStatus>,
    /// The counters.
    pub detail: Detail,
}

impl Measuring {
    /// What can be counted on this node.
    pub(crate) fn metric_groups(&self, hierarchy: &Hierarchy) -> MetricGroups {
        MetricGroups {
            pressure: hierarchy.unified_mount_point().is_some() && Path::new("/proc/pressure/cpu").exists(),
            hugetlb: hierarchy.has(Controller::HugeTlb) && Path::new("/sys/kernel/mm/hugepages").exists(),
            io: hierarchy.has(Controller::Io),
        }
    }

    /// Counts everything of all ready pods; what ends meanwhile is left out. Every container has the same share of a bounded time,
    /// and counting ends with the caller.
    ///
    /// # Errors
    /// The filesystem of the writable layers does not answer.
    pub(crate) async fn pod_metrics(&self, wanted: impl Fn(&Pod) -> bool) -> Result<NodeMetrics> {
        let ready = self.registry.pods().into_iter().filter(|pod| pod.is_ready() && wanted(pod));
        let chosen: Vec<Chosen> = ready.filter_map(|pod| choose(&self.registry, &pod).ok()).collect();
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let volume = self.measure(|stats| stats.volume().map_err(PodsError::Stats)).await??;
        let share = share(chosen.iter().map(|chosen| chosen.containers.len()).sum());
        let pods = self.each(chosen, move |stats, chosen| Some(count(stats, chosen, share, &waits))).await;
        drop(caller);
        Ok(NodeMetrics { volume, pods: pods? })
    }
}

/// A container's share of [`PATIENCE`].
fn share(containers: usize) -> Duration {
    let containers = u32::try_from(containers.max(1)).unwrap_or(u32::MAX);
    (PATIENCE / containers).clamp(LEAST_SHARE, LARGEST_SHARE)
}

fn count(stats: &Stats, chosen: Chosen, share: Duration, caller: &Weak<()>) -> PodMetrics {
    let containers = chosen.containers.into_iter().filter_map(|(status, target)| {
        // Nobody waits any more.
        if caller.strong_count() == 0 {
            return None;
        }
        let detail = stats.detail(&target, status.process, share).ok()?;
        Some(ContainerMetrics { status, detail })
    });
    PodMetrics {
        containers: containers.collect(),
        network: chosen.pod.interfaces().into_iter().filter(|interface| interface.name != "lo").collect(),
        cgroup_path: chosen.pod.cgroup_path(),
        status: chosen.pod.status(),
    }
}
