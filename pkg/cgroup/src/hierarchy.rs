//! What the node has mounted, as a whole.

use std::{path::Path, sync::Arc};

use crate::{Controller, tree::Tree};

/// Layout of the node's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies carry the limits, and a v2 tree is mounted beside them.
    Hybrid,
    /// One v2 tree.
    V2,
}

impl Version {
    /// `v1`, `hybrid` or `v2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::Hybrid => "hybrid",
            Version::V2 => "v2",
        }
    }
}

/// The node's cgroup hierarchies. A cheap handle: clones share the opened mounts.
#[derive(Debug, Clone)]
pub struct Hierarchy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Each at its slot; one at least.
    trees: Vec<Tree>,
    homes: Homes,
    has_kill: bool,
}

/// Which tree carries a controller.
pub(crate) type Homes = [Option<Tree>; Controller::ALL.len()];

impl Hierarchy {
    /// Of these trees, the first of which must be there.
    pub(crate) fn new(first: Tree, others: Vec<Tree>, homes: Homes, has_kill: bool) -> Self {
        let mut trees = vec![first];
        trees.extend(others);
        Self(Arc::new(Inner { trees, homes, has_kill }))
    }

    /// The layout.
    pub fn version(&self) -> Version {
        match (self.unified(), self.trees().len()) {
            (None, _) => Version::V1,
            (Some(_), 1) => Version::V2,
            (Some(_), _) => Version::Hybrid,
        }
    }

    /// Where the trees are mounted.
    pub fn mount_points(&self) -> impl Iterator<Item = &Path> {
        self.trees().iter().map(Tree::point)
    }

    /// Where the v2 tree is mounted, if there is one.
    pub fn unified_mount_point(&self) -> Option<&Path> {
        self.unified().map(Tree::point)
    }

    /// Whether a group is killed by one write to `cgroup.kill` (v2 tree and Linux 5.14).
    pub fn has_kill(&self) -> bool {
        self.0.has_kill
    }

    /// Whether limits of this controller can be set on this node.
    pub fn has(&self, controller: Controller) -> bool {
        self.home(controller).is_some()
            || (controller == Controller::Devices && self.version() == Version::V2)
    }

    // === for the other modules ===

    pub(crate) fn trees(&self) -> &[Tree] {
        &self.0.trees
    }

    /// The tree that carries `controller`.
    pub(crate) fn home(&self, controller: Controller) -> Option<&Tree> {
        self.0.homes[controller as usize].as_ref()
    }

    /// The v2 tree.
    pub(crate) fn unified(&self) -> Option<&Tree> {
        self.trees().iter().find(|tree| tree.is_v2())
    }

    /// The one tree by which the processes of a group are listed, killed and counted.
    pub(crate) fn tracking(&self) -> &Tree {
        self.unified()
            .or_else(|| self.home(Controller::Freezer))
            .or_else(|| self.home(Controller::Pids))
            .unwrap_or(&self.trees()[0])
    }
}
