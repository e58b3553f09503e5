//! Whom to measure.

use std::{fmt, path::PathBuf};

use husk_cgroup::CgroupPath;
use husk_model::{ContainerId, PodSandboxId, UnixNanos};

/// Whose group is measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetId {
    /// A pod's, which holds its containers'.
    Pod(PodSandboxId),
    /// A container's.
    Container(ContainerId),
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetId::Pod(id) => id.fmt(f),
            TargetId::Container(id) => id.fmt(f),
        }
    }
}

/// A container (or a pod's group) to measure.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose it is.
    pub id: TargetId,
    /// Its group.
    pub cgroup: CgroupPath,
    /// A group above it whose memory limit is meant for it alone: the one that the kubelet makes for a pod.
    pub limited_by: Option<CgroupPath>,
    /// Its writable layer's upper directory; `None` for a pod.
    pub upper: Option<PathBuf>,
    /// When the group was made, if that is known: the first rate of CPU use is that since then.
    pub since: Option<UnixNanos>,
}
