//! The cgroups of pods: where they are, who makes what lies above them, and the end of those that nobody monitors.

use std::{sync::Arc, time::Duration};

use husk_cgroup::{CgroupPath, Hierarchy};
use husk_model::{PodConfig, PodSandboxId};
use husk_systemd::{Anchor, PodScope, PodUnits, Slice};

use crate::{
    error::{PodsError, Result},
    records::PodFile,
};

/// How long a container may take to stop where it is: a process in uninterruptible sleep stops when that ends.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// The node's cgroups, as pods use them.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    driver: CgroupDriver,
    /// Parent of pods whose request names none.
    parent: Arc<str>,
}

impl Cgroups {
    /// Looks for the node's cgroups.
    ///
    /// # Errors
    /// There are none, or not in a layout that is known.
    pub(crate) fn find(driver: CgroupDriver, parent: &str) -> Result<Self> {
        let hierarchy = Hierarchy::detect().map_err(PodsError::Cgroup)?;
        Ok(Self { hierarchy, driver, parent: parent.into() })
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Parent of pods whose request names none.
    pub(crate) fn parent(&self) -> &str {
        &self.parent
    }

    /// Whether systemd makes the units of pods.
    pub(crate) fn has_systemd_driver(&self) -> bool {
        matches!(self.driver, CgroupDriver::Systemd(_))
    }

    /// Where a new pod is to live.
    ///
    /// # Errors
    /// [`PodsError::CgroupParent`] when the parent is none for this driver.
    pub(crate) fn place(&self, id: &PodSandboxId, config: &PodConfig) -> Result<Place> {
        let parent = match config.cgroup_parent.as_str() {
            "" => &self.parent,
            parent => parent,
        };
        match &self.driver {
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
            "" => &self.parent,
            parent => parent,
        };
        plain(parent, &file.id)
    }

    /// Makes the unit around a pod's cgroup, if there is to be one. It stays until the anchor is released and from then on as
    /// long as the pod has a process.
    pub(crate) async fn start_unit(&self, place: &Place) -> Result<Option<Anchor>> {
        match (&self.driver, &place.scope) {
            (CgroupDriver::Systemd(units), Some(scope)) => {
                units.start(&self.hierarchy, scope).await.map(Some).map_err(PodsError::Unit)
            }
            _ => Ok(None),
        }
    }

    /// Kills what is left in a cgroup that nobody monitors any more, and removes it. One that does not exist is fine.
    ///
    /// # Errors
    /// A process could not be killed, or the group not be removed.
    pub(crate) async fn kill(&self, path: &str) -> Result<()> {
        let path = cgroup_path(path)?;
        // Waits for the processes to be gone.
        let killed = tokio::task::spawn_blocking(move || {
            // Some pods have groups in hierarchies that are not used otherwise.
            let cgroup = match Hierarchy::detect_every()?.open(&path) {
                Ok(cgroup) => cgroup,
                Err(husk_cgroup::Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            cgroup.kill()?;
            cgroup.remove()
        });
        killed.await.map_err(|_| PodsError::Lost)?.map_err(PodsError::Cgroup)
    }

    /// Process ids in a container's cgroup, as the node has them.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub(crate) fn processes(&self, path: &str) -> Result<Vec<u32>> {
        let cgroup = self.hierarchy.open(&cgroup_path(path)?).map_err(PodsError::Cgroup)?;
        cgroup.pids().map_err(PodsError::Cgroup)
    }

    /// Stops everybody in a container's cgroup, or lets them go on.
    ///
    /// # Errors
    /// It cannot be opened, or somebody does not stop in time.
    pub(crate) async fn freeze(&self, path: &str, frozen: bool) -> Result<()> {
        let (hierarchy, path) = (self.hierarchy.clone(), cgroup_path(path)?);
        // Waits for the processes to stop.
        let changed = tokio::task::spawn_blocking(move || {
            let cgroup = hierarchy.open(&path)?;
            if frozen { cgroup.pause(PATIENCE) } else { cgroup.resume() }
        });
        changed.await.map_err(|_| PodsError::Lost)?.map_err(PodsError::Cgroup)
    }

    /// Ends the unit around a pod's cgroup, if there is one, whose processes are dead. Nobody waits for it: an empty scope goes
    /// by itself, and a pod must end while systemd does not answer.
    pub(crate) fn end_unit(&self, pod_cgroup: &str) {
        if let (CgroupDriver::Systemd(units), Some(unit)) = (&self.driver, PodScope::unit_of(pod_cgroup)) {
            let (units, unit) = (Arc::clone(units), unit.to_owned());
            tokio::spawn(async move { units.end(&unit).await });
        }
    }
}

/// A recorded cgroup path, checked.
///
/// # Errors
/// [`PodsError::CgroupPath`]
pub(crate) fn cgroup_path(path: &str) -> Result<CgroupPath> {
    CgroupPath::parse(path)
        .map_err(|error| PodsError::CgroupPath { path: path.to_owned(), reason: error.to_string() })
}

fn plain(parent: &str, id: &PodSandboxId) -> String {
    format!("{}/husk-{id}", parent.trim_end_matches('/'))
}
