//! Asking NRI plugins what a container is to be, and changing its plan.

use std::sync::Arc;

use husk_life::ContainerLife;
use husk_nri::{Adjusted, ContainerFacts};

use super::wishes::Wishes;
use crate::{
    error::{PodsError, Result},
    node::{Lookups, seccomp},
    observing::Plugins,
    planning::{self, ContainerPlan},
    registry::Pod,
};

/// What asking needs.
#[derive(Debug, Clone)]
pub(crate) struct Adjust {
    pub(crate) plugins: Plugins,
    pub(crate) lookups: Lookups,
    pub(crate) wishes: Wishes,
}

impl Adjust {
    /// Asks, and changes the plan.
    ///
    /// # Errors
    /// A plugin's, or of what it wants; then plugins have been told that the container does not come to be.
    pub(crate) async fn plan(&self, pod: &Pod, plan: &mut ContainerPlan) -> Result<()> {
        let facts = planned(pod, plan);
        let Some(adjusted) = self.plugins.ask_container(pod, &facts).await? else { return Ok(()) };
        let applied = self.apply(plan, adjusted).await;
        if applied.is_err() {
            self.plugins.take_back_container(pod, &planned(pod, plan)).await;
        }
        applied
    }

    async fn apply(&self, plan: &mut ContainerPlan, adjusted: Adjusted) -> Result<()> {
        if let Some((profile, plugin)) = adjusted.seccomp {
            let (filters, security) = (&self.lookups.security.filters, &plan.file().config.security);
            let filter = seccomp::of_plugin(filters, profile, plugin, security)?;
            plan.set_filter(seccomp::request(&filter));
        }
        plan.set_spec(adjusted.spec);
        self.give_devices(plan, adjusted.cdi_devices).await?;
        plan.change_limits(&adjusted.resources);
        if let Some(score) = adjusted.oom_score_adj {
            plan.set_oom_score(score);
        }
        self.wishes.grant(&adjusted.updates, adjusted.evictions).await
    }

    /// Applies the CDI devices that plugins ask for, each with the plugin's name. All are looked up together: what a vendor's
    /// spec changes for every device of it is changed once.
    async fn give_devices(&self, plan: &mut ContainerPlan, mut asked: Vec<(String, String)>) -> Result<()> {
        // The container has those of its request already.
        asked.retain(|(name, _)| !plan.file().config.cdi_devices.contains(name));
        if asked.is_empty() {
            return Ok(());
        }
        let (names, mut plugins): (Vec<String>, Vec<String>) = asked.into_iter().unzip();
        plugins.dedup();
        let refused = |source| PodsError::PluginCdi { plugins: plugins.join(", "), source };
        let edits = self.lookups.cdi(names).await?.map_err(refused)?;
        plan.give_devices(&edits).map_err(refused)
    }
}

/// What plugins are told of a container that is not made yet.
pub(crate) fn planned(pod: &Pod, plan: &ContainerPlan) -> ContainerFacts {
    let mut status = planning::shown(pod.id(), plan.file());
    if let Some(state) = ContainerLife::Created.shown() {
        status.state = state;
    }
    ContainerFacts { status: Arc::new(status), spec: Some(Arc::new(plan.spec().clone())) }
}
