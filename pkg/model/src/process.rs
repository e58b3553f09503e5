//! Processes by identity.

use serde::{Deserialize, Serialize};

/// One incarnation of a process: a pid alone may have been given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// In the node's PID namespace.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_time: u64,
}
