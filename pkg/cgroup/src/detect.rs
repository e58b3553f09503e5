//! Finding out what the node has mounted.

use std::path::{Path, PathBuf};

use husk_node::KernelVersion;
use rustix::fs::{self, FsWord};

use crate::{
    Controller, Error, Hierarchy, Result,
    hierarchy::Homes,
    mountinfo::{self, CgroupMount, MountKind},
    tree::Tree,
};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2_MAGIC: FsWord = 0x6367_7270;
/// Where every distribution mounts cgroups.
const DEFAULT_POINT: &str = "/sys/fs/cgroup";
/// The first kernel with `cgroup.kill`.
const KILL_SINCE: KernelVersion = KernelVersion::new(5, 14);

impl Hierarchy {
    /// Finds the mounted hierarchies from `/sys/fs/cgroup` and `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when nothing is mounted, [`Error::Discover`] and [`Error::OpenDir`] when something
    /// mounted can't be read.
    pub fn detect() -> Result<Self> {
        // A v2 node needs no look at mountinfo, which has thousands of lines on a busy one.
        let default = Path::new(DEFAULT_POINT);
        let mounts = if fs::statfs(default).is_ok_and(|stat| stat.f_type == CGROUP2_MAGIC) {
            vec![CgroupMount { point: default.to_owned(), kind: MountKind::V2 }]
        } else {
            let path = PathBuf::from("/proc/self/mountinfo");
            let table = std::fs::read(&path).map_err(|source| Error::Discover { path, source })?;
            // The names of others' mounts may be any bytes.
            mountinfo::parse(&String::from_utf8_lossy(&table))
        };
        Self::from_mounts(mounts)
    }

    pub(crate) fn from_mounts(mounts: Vec<CgroupMount>) -> Result<Self> {
        let v2 = mounts.iter().any(|mount| mount.kind == MountKind::V2);
        let has_kill = v2 && KernelVersion::running() >= KILL_SINCE;
        let mut found = Found { trees: Vec::new(), homes: [const { None }; Controller::ALL.len()], has_kill };
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
}

impl Found {
    fn add(&mut self, mount: &CgroupMount) -> Result<()> {
        let slot = self.trees.len();
        match &mount.kind {
            MountKind::V2 if self.trees.iter().any(Tree::is_v2) => Ok(()),
            MountKind::V2 => self.enter(Tree::open_v2(slot, &mount.point)?),
            MountKind::V1 { controllers, name } => {
                let homed = self.homed(controllers);
                if homed.is_empty() && !is_tracked(name.as_deref()) {
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
