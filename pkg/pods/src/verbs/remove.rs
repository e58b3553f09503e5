//! Removing containers and pods. Every function may be repeated and goes on where it stopped.

use std::sync::Arc;

use husk_life::{ContainerEvent, PodEvent, PodLife};
use husk_model::{Exit, ExitReason, chain};
use husk_monitor::MonitorError;
use husk_node::now;
use husk_stats::{Stats, TargetId};
use husk_telemetry::step;
use tracing::warn;

use super::stop::{Stop, check_not_silent};
use crate::{
    error::Result,
    registry::{Container, Pod},
};

/// What removing needs.
#[derive(Debug, Clone)]
pub(crate) struct Remove {
    pub(crate) stop: Stop,
    pub(crate) stats: Stats,
}

impl Remove {
    /// Removes a container, killing it if it runs.
    pub(crate) async fn container(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.removal().await;
        let (follow, pod) = (&self.stop.follow, container.pod());
        if follow.registry.container_of(pod, container.id()).is_none() {
            return Ok(());
        }
        self.take_from_monitor(container).await?;
        if container.is_alive() {
            // Killed by the removal: those who follow see the end before the deletion.
            let exit =
                Exit { code: 137, finished_at: now(), reason: ExitReason::Error, message: String::new() };
            follow.exited(container, exit);
        }
        self.stop.ends.tell(container).await;
        let plugins = follow.changes.plugins();
        let facts = plugins.container_facts(container);
        follow.records.discard_container(pod.id(), container.id())?;
        self.stats.forget(&TargetId::Container(container.id().clone()));
        let _turn = plugins.container_goes(pod, &facts).await;
        follow.changes.container(container, &ContainerEvent::Removed)
    }

    async fn take_from_monitor(&self, container: &Arc<Container>) -> Result<()> {
        check_not_silent(container.pod())?;
        let asked = match container.pod().monitor() {
            Ok(monitor) => {
                let remove = monitor.remove_container(container.id());
                step!("remove container", remove, container = %container.id()).await
            }
            Err(_) => Err(MonitorError::Disconnected { call: "remove container" }),
        };
        match asked {
            Err(MonitorError::Disconnected { .. }) => {
                self.stop.follow.cgroups.kill(&container.status().cgroup_path).await
            }
            asked => Ok(asked?),
        }
    }

    async fn containers(&self, pod: &Arc<Pod>) -> Result<()> {
        for container in self.stop.follow.registry.containers_of(pod) {
            self.container(&container).await?;
        }
        Ok(())
    }

    /// Removes a pod and everything of it.
    pub(crate) async fn pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let (follow, hang) = (&self.stop.follow, self.stop.hang);
        let _gate = hang.turn_of(pod, pod.close()).await;
        self.stop.closed_pod(pod).await?;
        if pod.life() == PodLife::Removed {
            return Ok(());
        }
        hang.unless_hung(follow, pod, self.containers(pod)).await?;
        // Those whose removal a hung monitor held up.
        self.containers(pod).await?;
        match pod.monitor() {
            Ok(monitor) => {
                if let Err(error) = step!("end monitor", monitor.end()).await {
                    warn!(pod = %pod.id(), error = chain(&error), "the pod's monitor did not end; it was killed");
                }
            }
            // It may live all the same, silent, and nobody else would ever end it.
            Err(_) => follow.kill_recorded_monitor(pod),
        }
        follow.records.discard(&follow.records.pod(pod.id()))?;
        let _turn = follow.changes.plugins().pod_goes(pod).await;
        self.stats.forget(&TargetId::Pod(pod.id().clone()));
        follow.changes.pod(pod, &PodEvent::Removed).map(drop)
    }
}
