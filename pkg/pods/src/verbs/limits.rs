//! Applying limits to a container, without asking anybody.

use std::sync::Arc;

use husk_model::Resources;
use husk_nri::{Limits as Change, Update};
use husk_spec::linux_resources;
use tracing::warn;

use crate::{
    error::{PodsError, Result},
    planning::merge,
    records::Records,
    registry::{Container, Registry},
};

/// What applying limits needs.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) registry: Arc<Registry>,
    pub(crate) records: Arc<Records>,
}

impl Limits {
    /// Changes the limits that `change` sets and keeps the others.
    ///
    /// # Errors
    /// The container has ended, or the kernel refuses a limit: then the stored limits stay.
    pub(crate) async fn apply(&self, container: &Arc<Container>, change: &Change) -> Result<()> {
        let _turn = container.limits_turn().await;
        container.check_alive("updating its resources")?;
        let merged = merge(&container.status().resources, &change.common);
        for limit in container
            .pod()
            .monitor()?
            .update_resources(Some(container.id()), encode(container, change, &merged)?)
            .await?
        {
            warn!(container = %container.id(), limit, "the node cannot set a limit");
        }
        match container.note_limits(merged) {
            Some(file) => self.records.write_container(container.pod().id(), &file),
            None => Ok(()),
        }
    }

    /// Applies what plugins want of containers.
    ///
    /// # Errors
    /// The first that fails and may not.
    pub(crate) async fn apply_all(&self, updates: &[Update]) -> Result<()> {
        for update in updates {
            if let Err(error) = self.apply_one(update).await {
                if !update.ignore_failure {
                    return Err(error);
                }
                warn!(container = update.container, %error, "an update that an NRI plugin asked for failed");
            }
        }
        Ok(())
    }

    /// Applies what a plugin wants of a container.
    ///
    /// # Errors
    /// As [`Limits::apply`], or there is no such container.
    pub(crate) async fn apply_one(&self, update: &Update) -> Result<()> {
        self.apply(&self.registry.container(&update.container)?, &update.limits).await
    }
}

fn encode(container: &Container, change: &Change, merged: &Resources) -> Result<Vec<u8>> {
    let mut limits = linux_resources(merged)?;
    change.overlay_rest(&mut limits);
    if let Some(memory) = limits.memory_mut() {
        // A limit below what is in use is refused, not enforced by killing.
        memory.set_check_before_update(Some(true));
    }
    serde_json::to_vec(&limits)
        .map_err(|error| PodsError::Update { id: container.id().clone(), reason: error.to_string() })
}
