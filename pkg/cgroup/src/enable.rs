//! Turning on the v2 controllers for the groups below one.

use std::{io, os::fd::AsFd};

use rustix::io::Errno;

use crate::{CgroupPath, Hierarchy, Version, dir, tree::Tree};

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// Every controller that is delegated has to be on.
    Strictly,
    /// The v2 tree carries few limits or none, so a group with processes of its own may stay as it is.
    Leniently,
}

impl Below {
    /// What a layout asks for.
    pub(crate) fn of(hierarchy: &Hierarchy) -> Self {
        if hierarchy.version() == Version::Hybrid { Below::Leniently } else { Below::Strictly }
    }
}

/// Turns the v2 controllers on for the children of `dir`. A controller that is not delegated to `dir` is left off:
/// setting its limit reports that later, and a request that does not use it need not fail.
pub(crate) fn below(tree: &Tree, path: &CgroupPath, dir: impl AsFd, how: Below) -> io::Result<()> {
    if !tree.is_v2() || tree.controllers().is_empty() {
        return Ok(());
    }
    let on = dir::read(&dir, "cgroup.subtree_control")?;
    let missing: Vec<String> = tree
        .controllers()
        .iter()
        .filter_map(|controller| controller.v2_name())
        .filter(|name| !on.split_ascii_whitespace().any(|have| have == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() || dir::write(&dir, "cgroup.subtree_control", &missing.join(" ")).is_ok() {
        return Ok(());
    }
    for one in missing {
        match dir::write(&dir, "cgroup.subtree_control", &one) {
            Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
            // "No internal processes": a parent that holds processes itself can't have domain controllers below.
            Err(Errno::BUSY) if path.is_root() || how == Below::Leniently => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
