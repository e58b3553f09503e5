//! Telling plugins, once, that a container has ended, and doing what they want then.

use std::sync::Arc;

use husk_life::ContainerLife;
use tracing::warn;

use super::limits::Limits;
use crate::{observing::Plugins, registry::Container};

/// What telling needs.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) plugins: Plugins,
    pub(crate) limits: Limits,
}

impl Ends {
    /// Tells once that a container has ended; returns when that is done, whoever does it.
    pub(crate) async fn tell(&self, container: &Arc<Container>) {
        if !matches!(container.life(), ContainerLife::Exited { .. }) {
            return;
        }
        container
            .told_end()
            .get_or_init(|| async {
                let updates = self.plugins.tell_end(container).await;
                if let Err(error) = self.limits.apply_all(&updates).await {
                    warn!(%error, "an update that an NRI plugin asked for failed");
                }
            })
            .await;
    }
}
