//! Everything that can be counted of pods and containers, for ListPodSandboxMetrics.

use std::{path::Path, sync::Arc};

use husk_cgroup::Controller;
use husk_model::{ContainerStatus, NetworkStats, PodStatus};
use husk_stats::{Detail, Stats, Volume};

use crate::{
    Engine, Result,
    stats::{Chosen, choose, interfaces},
};

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
    /// Its interfaces; empty with the node's network.
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

impl Engine {
    /// What can be counted on this node.
    pub fn metric_groups(&self) -> MetricGroups {
        MetricGroups {
            pressure: self.hierarchy.facts().unified.is_some() && Path::new("/proc/pressure/cpu").exists(),
            hugetlb: self.hierarchy.has(Controller::HugeTlb)
                && Path::new("/sys/kernel/mm/hugepages").exists(),
            io: self.hierarchy.has(Controller::Io),
        }
    }

    /// Counts everything of all ready pods; what ends meanwhile is left out.
    ///
    /// # Errors
    /// The filesystem of the writable layers does not answer.
    pub async fn pod_metrics(&self) -> Result<NodeMetrics> {
        let ready = self.all_pods().into_iter().filter(|pod| pod.is_ready());
        let chosen: Vec<Chosen> = ready.filter_map(|pod| choose(&pod).ok()).collect();
        self.measure(move |stats| {
            let volume = stats.volume().map_err(crate::PodsError::Stats)?;
            Ok(NodeMetrics { volume, pods: chosen.into_iter().map(|chosen| count(stats, chosen)).collect() })
        })
        .await?
    }
}

fn count(stats: &Stats, chosen: Chosen) -> PodMetrics {
    let containers = chosen.containers.into_iter().filter_map(|(status, target)| {
        let detail = stats.detail(&target, status.pid).ok()?;
        Some(ContainerMetrics { status, detail })
    });
    PodMetrics {
        containers: containers.collect(),
        network: interfaces(&chosen.pod),
        cgroup_path: chosen.pod.cgroup_path.clone(),
        status: chosen.pod.status.get(),
    }
}
