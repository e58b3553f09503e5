//! What NRI plugins want of containers: other limits, an end.

use std::{sync::Arc, time::Duration};

use husk_model::Ending;
use husk_nri::{Eviction, Update};
use tracing::{info, warn};

use super::{limits::Limits, stop::Stop};
use crate::{error::Result, registry::Registry};

/// A container that is evicted gets this long to end by itself: the kubelet's default.
const EVICTION_GRACE: Duration = Duration::from_secs(30);

/// What doing their will needs.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) registry: Arc<Registry>,
    pub(crate) limits: Limits,
    pub(crate) stop: Stop,
}

impl Wishes {
    /// Applies what plugins want of other containers.
    ///
    /// # Errors
    /// The first change that fails and may not. Containers that cannot be evicted are logged.
    pub(crate) async fn grant(&self, updates: &[Update], evictions: Vec<Eviction>) -> Result<()> {
        self.limits.apply_all(updates).await?;
        for eviction in evictions {
            if let Err(error) = self.evict(eviction) {
                warn!(%error, "an eviction that an NRI plugin asked for failed");
            }
        }
        Ok(())
    }

    /// Ends a container in the background.
    ///
    /// # Errors
    /// There is no such container.
    pub(crate) fn evict(&self, eviction: Eviction) -> Result<()> {
        let container = self.registry.container(&eviction.container)?;
        info!(container = %container.id(), plugin = eviction.plugin, reason = eviction.reason, "an NRI plugin evicts a container");
        let (plugin, reason) = (eviction.plugin.clone(), eviction.reason.clone());
        container.chronicle().asked_to_end(Ending::Eviction { plugin, reason });
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = stop.container(&container, EVICTION_GRACE).await {
                warn!(container = %container.id(), %error, "cannot evict a container");
            }
        });
        Ok(())
    }
}
