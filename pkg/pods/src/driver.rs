//! The cgroup driver: where a pod's cgroup is, and who makes what lies above it.

use std::sync::Arc;

use husk_model::{PodConfig, PodSandboxId};
use husk_systemd::{Anchor, PodScope, PodUnits, Slice};

use crate::{Engine, PodsError, Result, store::PodFile};

/// Who makes the cgroups of pods.
#[derive(Debug, Clone)]
pub enum CgroupDriver {
    /// husk: a parent is a path.
    Cgroupfs,
    /// systemd makes a delegated scope for every pod: a parent is a slice.
    Systemd(Arc<PodUnits>),
}

/// Where a pod lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its cgroup, relative to the hierarchy's root.
    pub(crate) cgroup: String,
    /// The unit around it.
    scope: Option<PodScope>,
}

impl Engine {
    /// Whether systemd makes the units of pods.
    pub fn has_systemd_driver(&self) -> bool {
        matches!(self.config.cgroup_driver, CgroupDriver::Systemd(_))
    }

    /// Where a new pod is to live.
    ///
    /// # Errors
    /// [`PodsError::CgroupParent`] when the parent is none for this driver.
    pub(crate) fn place(&self, id: &PodSandboxId, config: &PodConfig) -> Result<Place> {
        let parent = match config.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            parent => parent,
        };
        match &self.config.cgroup_driver {
            CgroupDriver::Cgroupfs => Ok(Place { cgroup: plain(parent, id), scope: None }),
            CgroupDriver::Systemd(_) => {
                let invalid = |reason| PodsError::CgroupParent { reason };
                let slice = Slice::parse(parent).map_err(|error| invalid(error.to_string()))?;
                let scope = PodScope::new(slice, id).map_err(|error| invalid(error.to_string()))?;
                Ok(Place { cgroup: scope.pod().to_string(), scope: Some(scope) })
            }
        }
    }

    /// The cgroup of a recorded pod, made by whichever driver.
    pub(crate) fn recorded_place(&self, file: &PodFile) -> String {
        if !file.cgroup_path.is_empty() {
            return file.cgroup_path.clone();
        }
        // Of a version that knew no other driver, or of a record that cannot be read.
        let parent = match file.config.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            parent => parent,
        };
        plain(parent, &file.id)
    }

    /// Makes the unit around a pod's cgroup, if there is to be one. It stays until the anchor is released and from then on as
    /// long as the pod has a process.
    pub(crate) async fn start_unit(&self, place: &Place) -> Result<Option<Anchor>> {
        match (&self.config.cgroup_driver, &place.scope) {
            (CgroupDriver::Systemd(units), Some(scope)) => {
                units.start(&self.hierarchy, scope).await.map(Some).map_err(PodsError::Unit)
            }
            _ => Ok(None),
        }
    }

    /// Ends the unit around a pod's cgroup, if there is one, whose processes are dead. Nobody waits for it: an empty scope goes
    /// by itself, and a pod must end while systemd does not answer.
    pub(crate) fn end_unit(&self, pod_cgroup: &str) {
        if let (CgroupDriver::Systemd(units), Some(unit)) =
            (&self.config.cgroup_driver, PodScope::unit_of(pod_cgroup))
        {
            let (units, unit) = (Arc::clone(units), unit.to_owned());
            tokio::spawn(async move { units.end(&unit).await });
        }
    }
}

fn plain(parent: &str, id: &PodSandboxId) -> String {
    format!("{}/husk-{id}", parent.trim_end_matches('/'))
}
