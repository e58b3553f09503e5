//! Changes that plugins want of containers that exist.

use std::collections::BTreeMap;

use husk_proto::nri;

use crate::{
    NriError, claims,
    limits::{self, Limits},
    owners::Owners,
    refuse,
};

/// A change of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Id of the container, as the plugin gave it.
    pub container: String,
    /// The change.
    pub limits: Limits,
    /// Whether the request that it belongs to goes on when it fails.
    pub ignore_failure: bool,
}

impl Update {
    pub(crate) fn from_plugin(update: &nri::ContainerUpdate) -> Self {
        let resources = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        Self {
            container: update.container_id.clone(),
            limits: resources.map(limits::from_plugin).unwrap_or_default(),
            ignore_failure: update.ignore_failure,
        }
    }
}

/// A container that a plugin wants ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// Id of the container, as the plugin gave it.
    pub container: String,
    /// Who wants it.
    pub plugin: String,
    /// Why, in the plugin's words.
    pub reason: String,
}

impl Eviction {
    pub(crate) fn from_plugin(plugin: &str, evict: Vec<nri::ContainerEviction>) -> Vec<Self> {
        let eviction = |evict: nri::ContainerEviction| Self {
            container: evict.container_id,
            plugin: plugin.to_owned(),
            reason: evict.reason,
        };
        evict.into_iter().map(eviction).collect()
    }
}

/// What the plugins asked so far want, by container.
#[derive(Debug, Default)]
pub(crate) struct Updates(BTreeMap<String, nri::ContainerUpdate>);

impl Updates {
    /// Takes in a plugin's answer.
    pub(crate) fn add(
        &mut self,
        owners: &mut Owners,
        plugin: &str,
        updates: Vec<nri::ContainerUpdate>,
    ) -> Result<(), NriError> {
        for update in updates {
            let outcome = self.add_one(owners, plugin, &update);
            if !update.ignore_failure {
                outcome?;
            }
        }
        Ok(())
    }

    fn add_one(
        &mut self,
        owners: &mut Owners,
        plugin: &str,
        update: &nri::ContainerUpdate,
    ) -> Result<(), NriError> {
        let Some(wanted) = update.linux.as_ref().and_then(|linux| linux.resources.as_ref()) else {
            return Ok(());
        };
        refuse::resources(plugin, wanted)?;
        claims::claim(owners, &update.container_id, wanted, plugin)?;
        let merged = self.0.entry(update.container_id.clone()).or_insert_with(|| nri::ContainerUpdate {
            container_id: update.container_id.clone(),
            linux: None,
            ignore_failure: update.ignore_failure,
        });
        merged.ignore_failure &= update.ignore_failure;
        let resources = merged.linux.get_or_insert_default().resources.get_or_insert_default();
        limits::overlay(resources, wanted);
        Ok(())
    }

    /// Takes out the change of one container.
    pub(crate) fn take(&mut self, container: &str) -> Option<nri::LinuxResources> {
        self.0.remove(container)?.linux?.resources
    }

    pub(crate) fn get(&self, container: &str) -> Option<&nri::LinuxResources> {
        self.0.get(container)?.linux.as_ref()?.resources.as_ref()
    }

    pub(crate) fn to_plugin(&self) -> Vec<nri::ContainerUpdate> {
        self.0.values().cloned().collect()
    }

    pub(crate) fn into_updates(self) -> Vec<Update> {
        self.0.values().map(Update::from_plugin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(container: &str, shares: u64, ignore_failure: bool) -> nri::ContainerUpdate {
        let cpu = nri::LinuxCpu { shares: Some(nri::OptionalUInt64 { value: shares }), ..Default::default() };
        let resources = nri::LinuxResources { cpu: Some(cpu), ..Default::default() };
        nri::ContainerUpdate {
            container_id: container.to_owned(),
            linux: Some(nri::LinuxContainerUpdate { resources: Some(resources) }),
            ignore_failure,
        }
    }

    #[test]
    fn a_conflict_fails_unless_its_update_may_fail() {
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        updates.add(&mut owners, "00-a", vec![update("c1", 100, false)]).unwrap();
        updates.add(&mut owners, "10-b", vec![update("c1", 200, true)]).unwrap();
        assert!(updates.add(&mut owners, "10-b", vec![update("c1", 200, false)]).is_err());
        updates.add(&mut owners, "10-b", vec![update("c2", 300, false)]).unwrap();
        let all = updates.into_updates();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].limits.common.cpu_shares, Some(100), "the first one's value stays");
    }
}
