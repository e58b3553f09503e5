//! What a container takes from the node.

use std::os::fd::OwnedFd;

use super::planned::{Planned, Source};

/// All that was opened or made with the privileges of the node.
pub(crate) struct Supplies {
    pub(crate) mounts: Vec<Planned>,
    /// Image volumes.
    pub(crate) volumes: Vec<OwnedFd>,
    /// The node's or another pod's shared memory, for a container that is to see that.
    pub(crate) shm: Option<OwnedFd>,
    /// What will be its root.
    pub(crate) root: OwnedFd,
    /// Whether the root takes part in what is mounted in its directory.
    pub(crate) root_follows: bool,
    /// What could not be done and was left out, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// A copy that takes part in what is mounted on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The root.
    Root,
    /// The volume of the spec's mount of this number.
    Mount(usize),
}

impl Supplies {
    /// Every mount that was made with the privileges of the node and that a container is not to change, with a name of its own.
    pub(crate) fn trees(&mut self) -> impl Iterator<Item = (String, Option<Followed>, &mut OwnedFd)> {
        let root = (self.root_follows.then_some(Followed::Root), &mut self.root);
        std::iter::once(root)
            .chain(self.mounts.iter_mut().flat_map(of_node))
            .enumerate()
            .map(|(number, (followed, tree))| (number.to_string(), followed, tree))
    }

    /// Those of them that follow the node.
    pub(crate) fn followed(&mut self) -> impl Iterator<Item = (String, Followed, &mut OwnedFd)> {
        self.trees().filter_map(|(name, followed, tree)| Some((name, followed?, tree)))
    }
}

fn of_node(planned: &mut Planned) -> Vec<(Option<Followed>, &mut OwnedFd)> {
    match &mut planned.source {
        Source::Tree { tree, follows, .. } => vec![(follows.map(Followed::Mount), tree)],
        Source::Controllers { controllers, .. } => {
            controllers.trees.iter_mut().map(|(_, tree)| (None, tree)).collect()
        }
        _ => Vec::new(),
    }
}
