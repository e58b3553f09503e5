//! Whom to measure.

use std::path::PathBuf;

use husk_cgroup::CgroupPath;
use husk_model::UnixNanos;

/// A container (or a pod's group) to measure.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name that is unique on the node: the container's or the sandbox's id.
    pub id: String,
    /// Its group.
    pub cgroup: CgroupPath,
    /// Its writable layer's upper directory; `None` for a pod.
    pub upper: Option<PathBuf>,
    /// When the group was made, if that is known: the first rate of CPU use is that since then.
    pub since: Option<UnixNanos>,
}
