//! What a container takes from the node.

use std::os::fd::OwnedFd;

use super::planned::Planned;

/// All that was opened or made with the privileges of the node.
pub(crate) struct Supplies {
    pub(crate) mounts: Vec<Planned>,
    /// Image volumes.
    pub(crate) volumes: Vec<OwnedFd>,
    /// The node's or another pod's shared memory, for a container that is to see that.
    pub(crate) shm: Option<OwnedFd>,
    /// What will be its root.
    pub(crate) root: OwnedFd,
    /// What could not be done and was left out, one sentence each.
    pub(crate) warnings: Vec<String>,
}
