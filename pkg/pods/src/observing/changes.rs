//! The one way by which a pod or a container changes.
//!
//! The machines (`husk_life`) say what a change brings with it; this carries it out, in this order: the record is written, then
//! the change is seen and announced in one step, then plugins are told. What only a verb can do is handed back to it.

use std::sync::Arc;

use husk_life::{ContainerEffect, ContainerEvent, ContainerNews, PodEffect, PodEvent, PodLife, PodNews};
use husk_model::Resources;

use super::{
    events::{Events, Lifecycle},
    plugins::Plugins,
};
use crate::{
    error::{PodsError, Result},
    records::Records,
    registry::{Container, Pod, Registry},
};

/// Where changes go.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    registry: Arc<Registry>,
    records: Arc<Records>,
    events: Arc<Events>,
    plugins: Plugins,
}

/// What became of a change of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what the monitor left is to be ended where `abandon` says so"]
pub(crate) struct Changed {
    /// What the monitor left is to be ended by the caller.
    pub(crate) abandon: bool,
}

impl Changes {
    pub(crate) fn new(
        registry: Arc<Registry>,
        records: Arc<Records>,
        events: Arc<Events>,
        plugins: Plugins,
    ) -> Self {
        Self { registry, records, events, plugins }
    }

    /// The plugins, for those who ask them before a change.
    pub(crate) fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Changes a pod.
    ///
    /// # Errors
    /// The event has no place in the pod's state, or the new state cannot be recorded: then nothing has changed.
    pub(crate) fn pod(&self, pod: &Arc<Pod>, event: &PodEvent) -> Result<Changed> {
        let _turn = pod.change();
        let (next, effects) = pod.life().apply(event)?;
        if effects.contains(&PodEffect::Record) {
            self.records.write_pod(&pod.file_as(&next))?;
        }
        self.seen(pod, event)
    }

    /// Changes a pod whose new state could not be recorded, and must be seen all the same.
    ///
    /// # Errors
    /// The event has no place in the pod's state.
    pub(crate) fn pod_unrecorded(&self, pod: &Arc<Pod>, event: &PodEvent) -> Result<Changed> {
        let _turn = pod.change();
        self.seen(pod, event)
    }

    /// Changes the resources of a pod; `None` keeps what is known.
    ///
    /// # Errors
    /// The pod is gone, or they cannot be recorded: then nothing has changed.
    pub(crate) fn pod_resources(
        &self,
        pod: &Pod,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let _turn = pod.change();
        if pod.life() == PodLife::Removed {
            return Err(PodsError::NoSuchPod { id: pod.id().to_string() });
        }
        let file = pod.file_with(overhead, resources);
        self.records.write_pod(&file)?;
        pod.note_config(file.config);
        Ok(())
    }

    /// Lets a change be seen and announces it, for whoever has the pod's turn.
    fn seen(&self, pod: &Arc<Pod>, event: &PodEvent) -> Result<Changed> {
        let mut outcome = Ok(Vec::new());
        self.events.happen(&self.registry, pod, || {
            outcome = pod.apply(event);
            let news = outcome.iter().flatten().find_map(|effect| match effect {
                PodEffect::Announce(news) => Some(*news),
                PodEffect::Record | PodEffect::Abandon => None,
            })?;
            Some(self.pod_news(pod, news))
        });
        Ok(Changed { abandon: outcome?.contains(&PodEffect::Abandon) })
    }

    fn pod_news(&self, pod: &Arc<Pod>, news: PodNews) -> Lifecycle {
        let id = pod.id().clone();
        match news {
            PodNews::Ready => {
                self.registry.add_pod(Arc::clone(pod));
                Lifecycle::PodReady(id)
            }
            PodNews::NotReady => Lifecycle::PodNotReady(id),
            PodNews::Deleted => {
                self.registry.forget_pod(pod);
                Lifecycle::PodDeleted(id)
            }
        }
    }

    /// Changes a container.
    ///
    /// # Errors
    /// The event has no place in the container's state: then nothing has changed.
    pub(crate) fn container(&self, container: &Arc<Container>, event: &ContainerEvent) -> Result<()> {
        let mut outcome = Ok(Vec::new());
        self.events.happen(&self.registry, container.pod(), || {
            outcome = container.apply(event);
            let news = outcome.iter().flatten().find_map(|effect| match effect {
                ContainerEffect::Announce(news) => Some(*news),
                ContainerEffect::TellEnd => None,
            })?;
            Some(self.container_news(container, news))
        });
        if outcome?.contains(&ContainerEffect::TellEnd) {
            self.plugins.ended(container);
        }
        Ok(())
    }

    fn container_news(&self, container: &Arc<Container>, news: ContainerNews) -> Lifecycle {
        let (pod, id) = (container.pod().id().clone(), container.id().clone());
        match news {
            ContainerNews::Created => {
                self.registry.add_container(Arc::clone(container));
                Lifecycle::Created(pod, id)
            }
            ContainerNews::Started => Lifecycle::Started(pod, id),
            ContainerNews::Stopped => Lifecycle::Stopped(pod, id),
            ContainerNews::Deleted => {
                self.registry.forget_container(container);
                Lifecycle::Deleted(pod, id)
            }
        }
    }
}
