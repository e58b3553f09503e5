//! UpdateContainerResources and UpdatePodSandboxResources.

use std::sync::Arc;

use husk_model::Resources;
use husk_nri::{Event, Limits as Change};

use super::wishes::Wishes;
use crate::{
    error::Result,
    observing::{Changes, Plugins},
    registry::{Container, Pod},
};

/// What changing limits needs.
#[derive(Debug, Clone)]
pub(crate) struct Updating {
    pub(crate) changes: Changes,
    pub(crate) plugins: Plugins,
    pub(crate) wishes: Wishes,
}

impl Updating {
    /// Changes the limits of a container, as plugins would have it.
    pub(crate) async fn container(&self, container: &Arc<Container>, change: Resources) -> Result<()> {
        let turn = self.plugins.enter().await;
        let change = self.ask(container, change).await?;
        self.wishes.limits.apply(container, &change).await?;
        drop(turn);
        self.plugins.tell_of(Event::PostUpdateContainer, container).await;
        Ok(())
    }

    /// What plugins make of a change; what they want of other containers is done.
    async fn ask(&self, container: &Arc<Container>, change: Resources) -> Result<Change> {
        match self.plugins.ask_limits(container, &change).await? {
            Some(updated) => {
                self.wishes.grant(&updated.updates, updated.evictions).await?;
                Ok(updated.limits)
            }
            None => Ok(Change { common: change, ..Default::default() }),
        }
    }

    /// Notes the resources of a pod. No limit is written: the kubelet has set those of the pod's cgroup before it makes this
    /// call, husk's own group inside of it has none (a second limit there could only contradict the first), and with one child
    /// in the pod's cgroup its weight decides nothing.
    pub(crate) async fn pod(
        &self,
        pod: &Pod,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let turn = self.plugins.admit_pod_limits(pod, overhead.as_ref(), resources.as_ref()).await?;
        self.changes.pod_resources(pod, overhead, resources)?;
        drop(turn);
        self.plugins.pod_changed(pod).await;
        Ok(())
    }
}
