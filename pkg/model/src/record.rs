//! What a pod's monitor writes to its pod directory, so that nothing is lost while the daemon is down.
//!
//! ```text
//! <pod dir>/monitor.json                       MonitorRecord     at the monitor's start
//! <pod dir>/sandbox.json                       SandboxRecord     when pause starts, ends, or is stopped
//! <pod dir>/containers/<id>/state.json         ContainerRecord   at create, start and exit
//! ```
//! Every file is written whole and renamed into place. They live on a tmpfs and are not synced.

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Exit, Process, ResolvedUser, UnixNanos};

/// Which process monitors the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorRecord {
    /// Revision of its protocol.
    pub protocol: u32,
    /// Its build.
    pub version: String,
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// `/proc/sys/kernel/random/boot_id` when it started: records of another boot describe nothing that lives.
    pub boot_id: String,
}

/// What the cgroup of a pod is marked with, so that whoever finds it without its pod knows whose it was: the monitor's
/// mount namespace (as `/proc/self/ns/mnt` reads) and its pod directory, which means another pod's in another namespace.
pub fn group_mark(mount_namespace: &str, pod_dir: &std::path::Path) -> String {
    format!("{mount_namespace} {}", pod_dir.display())
}

/// The pause process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// When it ran.
    pub started_at: UnixNanos,
    /// Set once it has ended.
    pub exit: Option<Exit>,
    /// It was asked to end.
    pub stopped: bool,
}

/// A container as its monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Which one.
    pub id: ContainerId,
    /// Its init.
    #[serde(flatten)]
    pub process: Process,
    /// When its init was cloned.
    pub created_at: UnixNanos,
    /// When the gate was opened; 0 before.
    pub started_at: UnixNanos,
    /// Set once it has ended.
    pub exit: Option<Exit>,
    /// Who it runs as.
    pub user: ResolvedUser,
    /// Relative to the hierarchy's root.
    pub cgroup_path: String,
    /// Log bytes that could not be written.
    #[serde(default)]
    pub log_dropped_bytes: u64,
}
