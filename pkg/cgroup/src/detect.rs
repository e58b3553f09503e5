//! Finding out what the node has mounted.

use std::path::{Path, PathBuf};

use husk_node::{
    KernelVersion,
    cgroups::{self, CgroupMount, CgroupMountKind},
};

use crate::{Controller, Error, Hierarchy, Result, hierarchy::Homes, tree::Tree};

/// The first kernel with `cgroup.kill`.
const KILL_SINCE: KernelVersion = KernelVersion::new(5, 14);

impl Hierarchy {
    /// Finds the mounted hierarchies ([`cgroups::cgroup_mounts`]).
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when nothing is mounted, [`Error::Discover`] and [`Error::OpenDir`] when something
    /// mounted can't be read.
    pub fn detect() -> Result<Self> {
        let mounts = cgroups::cgroup_mounts()
            .map_err(|source| Error::Discover { path: PathBuf::from("/proc/self"), source })?;
        Self::from_mounts(mounts)
    }

    /// As [`Self::detect`], with the v1 hierarchies that are not used, too: a group is made in them, entered and removed, and that
    /// is all. For a container with a cgroup namespace, whose root would be the node's in a hierarchy in which it has no group.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn detect_every() -> Result<Self> {
        let mounts = cgroups::cgroup_mounts()
            .map_err(|source| Error::Discover { path: PathBuf::from("/proc/self"), source })?;
        Self::every_of(mounts)
    }

    pub(crate) fn from_mounts(mounts: Vec<CgroupMount>) -> Result<Self> {
        Self::of(mounts, false)
    }

    pub(crate) fn every_of(mounts: Vec<CgroupMount>) -> Result<Self> {
        Self::of(mounts, true)
    }

    fn of(mounts: Vec<CgroupMount>, every: bool) -> Result<Self> {
        let v2 = mounts.iter().any(|mount| mount.kind == CgroupMountKind::V2);
        let has_kill = v2 && KernelVersion::running() >= KILL_SINCE;
        let mut found =
            Found { trees: Vec::new(), homes: [const { None }; Controller::ALL.len()], has_kill, every };
        for mount in mounts {
            found.add(&mount)?;
        }
        let mut trees = found.trees.into_iter();
        let first = trees.next().ok_or(Error::NoHierarchy)?;
        Ok(Self::new(first, trees.collect(), found.homes, has_kill))
    }
}

/// What was found so far.
struct Found {
    trees: Vec<Tree>,
    homes: Homes,
    has_kill: bool,
    /// Also those that nothing is used of.
    every: bool,
}

impl Found {
    fn add(&mut self, mount: &CgroupMount) -> Result<()> {
        let slot = self.trees.len();
        match &mount.kind {
            CgroupMountKind::V2 if self.trees.iter().any(Tree::is_v2) => Ok(()),
            CgroupMountKind::V2 => self.enter(Tree::open_v2(slot, &mount.point)?),
            CgroupMountKind::V1 { controllers, name } => {
                let homed = self.homed(controllers);
                if homed.is_empty() && !self.every && !is_tracked(name.as_deref()) {
                    return Ok(());
                }
                self.enter(Tree::open_v1(slot, &mount.point, homed)?)
            }
        }
    }

    /// Those of a v1 hierarchy's controllers that are used there.
    fn homed(&self, controllers: &[String]) -> Vec<Controller> {
        controllers
            .iter()
            .filter_map(|name| Controller::from_v1_name(name))
            .filter(|controller| self.homes[*controller as usize].is_none())
            // With a v2 tree that freezes and kills, moving every process into the v1 freezer is wasted.
            .filter(|controller| !self.has_kill || *controller != Controller::Freezer)
            .collect()
    }

    fn enter(&mut self, tree: Tree) -> Result<()> {
        for controller in tree.controllers() {
            self.homes[*controller as usize] = Some(tree.clone());
        }
        self.trees.push(tree);
        Ok(())
    }
}

/// Without controllers a v1 hierarchy only tracks processes. runc joins systemd's own so that stopping huskd.service does
/// not take the containers with it; without systemd nothing reads it.
fn is_tracked(name: Option<&str>) -> bool {
    name == Some("systemd") && Path::new("/run/systemd/system").exists()
}
