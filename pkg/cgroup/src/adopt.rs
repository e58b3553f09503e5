//! Taking over what systemd made.

use std::{io, os::fd::OwnedFd};

use husk_model::Process;
use husk_node::process::is_alive;
use rustix::{
    fs::{self, Mode},
    io::Errno,
};

use crate::{
    CgroupPath, Error, Hierarchy, Result, dir,
    enable::{self, Below},
    tree::Tree,
};

impl Hierarchy {
    /// Takes over a unit that systemd delegated: makes `group` below `unit` in the v2 tree, moves `first`, the process that
    /// the unit began with, into it, and turns the controllers on from the root down to `group`. In this order, because a v2 group with
    /// a process of its own can't turn any on.
    ///
    /// Above the unit the controllers are systemd's. Those that it does not know (hugetlb, rdma, misc) it leaves alone, so
    /// they are turned on there too, as far as the kernel lets us.
    ///
    /// The kernel takes the number of a process alone, so the caller is the parent of `first` and does not reap it meanwhile.
    ///
    /// # Errors
    /// The step that failed; `ESRCH` when `first` has ended. The node has no v2 tree: [`Error::NotFound`].
    pub fn adopt(&self, unit: &CgroupPath, group: &CgroupPath, first: Process) -> Result<()> {
        let tree = self.unified().ok_or_else(|| Error::NotFound { path: unit.to_string() })?;
        let dir = make_dirs(tree, group)?;
        let value = first.pid.to_string();
        let moved = if is_alive(first) { dir::write(&dir, "cgroup.procs", &value) } else { Err(Errno::SRCH) };
        moved.map_err(|errno| Error::Write {
            path: tree.name_of(group).join("cgroup.procs"),
            value,
            source: errno.into(),
        })?;
        let above = std::iter::successors(group.parent(), CgroupPath::parent).collect::<Vec<_>>();
        for path in above.into_iter().rev() {
            let delegated = path.as_str().starts_with(unit.as_str());
            let enabled = tree
                .open(&path)
                .map_err(io::Error::from)
                .and_then(|dir| enable::below(tree, &path, &dir, Below::of(self)));
            match enabled {
                Err(source) if delegated => {
                    let path = tree.name_of(&path).join("cgroup.subtree_control");
                    return Err(Error::Write { path, value: "+controllers".into(), source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Makes the directories of `path` in one tree and nothing else, and opens the last.
fn make_dirs(tree: &Tree, path: &CgroupPath) -> Result<OwnedFd> {
    let wanted = std::iter::successors(Some(path.clone()), CgroupPath::parent).collect::<Vec<_>>();
    for path in wanted.iter().rev().filter(|path| !path.is_root()) {
        match fs::mkdirat(tree, path.relative(), Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::CreateDir { path: tree.name_of(path), source: errno.into() });
            }
        }
    }
    tree.open(path).map_err(|errno| Error::OpenDir { path: tree.name_of(path), source: errno.into() })
}
