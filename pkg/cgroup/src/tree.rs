//! One mounted hierarchy: its version, its root, and how a path in it is named.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{self, Mode, OFlags};

use crate::{CgroupPath, Controller, Error, Result, dir};

/// A mounted hierarchy. A cheap handle: clones share the opened mount.
#[derive(Debug, Clone)]
pub(crate) struct Tree(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slot: usize,
    point: PathBuf,
    root: OwnedFd,
    v2: bool,
    controllers: Vec<Controller>,
}

impl Tree {
    /// Opens a v1 hierarchy, of which these controllers are used. `slot` is its place among the node's.
    pub(crate) fn open_v1(slot: usize, point: &Path, controllers: Vec<Controller>) -> Result<Self> {
        let (point, root) = (point.to_owned(), open_root(point)?);
        Ok(Self(Arc::new(Inner { slot, point, root, v2: false, controllers })))
    }

    /// Opens the v2 tree; its controllers are those that it lists.
    pub(crate) fn open_v2(slot: usize, point: &Path) -> Result<Self> {
        let (point, root) = (point.to_owned(), open_root(point)?);
        let listed = dir::read(&root, "cgroup.controllers").map_err(|errno| Error::Discover {
            path: point.join("cgroup.controllers"),
            source: errno.into(),
        })?;
        let controllers = listed.split_ascii_whitespace().filter_map(Controller::from_v2_name).collect();
        Ok(Self(Arc::new(Inner { slot, point, root, v2: true, controllers })))
    }

    /// Its place among the node's.
    pub(crate) fn slot(&self) -> usize {
        self.0.slot
    }

    /// Whether it is the v2 tree.
    pub(crate) fn is_v2(&self) -> bool {
        self.0.v2
    }

    /// The controllers that it carries. On v2 they must be turned on in `cgroup.subtree_control` on the way down.
    pub(crate) fn controllers(&self) -> &[Controller] {
        &self.0.controllers
    }

    /// Where it is mounted.
    pub(crate) fn point(&self) -> &Path {
        &self.0.point
    }

    /// Opens the directory of the group at `path`.
    pub(crate) fn open(&self, path: &CgroupPath) -> rustix::io::Result<OwnedFd> {
        dir::open_dir(self, path.relative())
    }

    /// The name of the group at `path`, for messages only.
    pub(crate) fn name_of(&self, path: &CgroupPath) -> PathBuf {
        if path.is_root() { self.0.point.clone() } else { self.0.point.join(path.relative()) }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.root.as_fd()
    }
}

fn open_root(point: &Path) -> Result<OwnedFd> {
    fs::open(point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::OpenDir { path: point.to_owned(), source: errno.into() })
}
