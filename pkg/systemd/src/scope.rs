//! The scope of a pod.

use husk_cgroup::{CgroupPath, InvalidPath};
use husk_model::PodSandboxId;

use crate::Slice;

const PREFIX: &str = "husk-";
const SUFFIX: &str = ".scope";
/// The pod's cgroup inside its scope: the topmost that is husk's.
const POD: &str = "pod";
/// Where podmon puts the pause process, and where the anchor waits for it.
const PAUSE: &str = "pause";

/// A pod's unit and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodScope {
    slice: Slice,
    unit: String,
    path: CgroupPath,
    pod: CgroupPath,
    pause: CgroupPath,
}

impl PodScope {
    /// The scope of a pod in a slice.
    ///
    /// # Errors
    /// When the slice is nested so deep that the path becomes too long.
    pub fn new(slice: Slice, pod: &PodSandboxId) -> Result<Self, InvalidPath> {
        let unit = format!("{PREFIX}{pod}{SUFFIX}");
        let path = slice.path().join(&unit)?;
        let pod = path.join(POD)?;
        let pause = pod.join(PAUSE)?;
        Ok(Self { slice, unit, path, pod, pause })
    }

    /// The slice that it is in.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The cgroup of the unit, which is systemd's.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The pod's cgroup, which is husk's.
    pub fn pod(&self) -> &CgroupPath {
        &self.pod
    }

    /// The cgroup of the pause process.
    pub fn pause(&self) -> &CgroupPath {
        &self.pause
    }

    /// The unit that a recorded pod cgroup lies in; `None` for one that was made without systemd. The driver may have been
    /// changed since.
    pub fn unit_of(pod_cgroup: &str) -> Option<&str> {
        let (unit, pod) = pod_cgroup.rsplit_once('/').map(|(above, pod)| (above.rsplit('/').next(), pod))?;
        unit.filter(|unit| pod == POD && unit.starts_with(PREFIX) && unit.ends_with(SUFFIX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_unit_is_found_by_its_cgroup() {
        let id = PodSandboxId::generate();
        let scope = PodScope::new(Slice::parse("kubepods-pod1.slice").unwrap(), &id).unwrap();
        assert_eq!(scope.unit(), format!("husk-{id}.scope"));
        assert_eq!(
            scope.pause().as_str(),
            format!("/kubepods.slice/kubepods-pod1.slice/husk-{id}.scope/pod/pause")
        );
        assert_eq!(PodScope::unit_of(scope.pod().as_str()), Some(scope.unit()));
        for other in ["", "/", "pod", "/pod", "/kubepods/pod1/husk-2", "/a.scope/pod", "/husk-1.scope/other"]
        {
            assert_eq!(PodScope::unit_of(other), None, "{other}");
        }
    }
}
