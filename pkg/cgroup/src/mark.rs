//! Marks: whose a group is, written on the group itself.
//!
//! An extended attribute of the `trusted` namespace, which only root of the node can set, and which dies with the group.
//! So a group that lost its owner is recognized beyond doubt, and one that merely has such a name is not.

use std::{
    ffi::OsString,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags, XattrFlags},
    io::Errno,
};

use crate::{Cgroup, Hierarchy, Result, dir, tree::Tree};

const ATTRIBUTE: &str = "trusted.husk.owner";
/// Longest mark that is read: a path and a little.
const MAX_MARK: usize = 8192;
/// Deeper than groups of pods are anywhere.
const MAX_DEPTH: usize = 12;
/// More groups than a node can have running; the walk ends there.
const MAX_GROUPS: usize = 100_000;

/// A group with a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its directory.
    pub path: PathBuf,
    /// Its path in the hierarchies, beginning with a slash.
    pub group: String,
    /// What it says.
    pub mark: String,
}

impl Cgroup {
    /// Writes `mark` on the group, in every hierarchy.
    ///
    /// # Errors
    /// [`crate::Error::Write`], with the attribute's name for the file's.
    pub fn mark(&self, mark: &str) -> Result<()> {
        for place in self.places().filter(|place| place.is_own()) {
            let path = format!("/proc/self/fd/{}", place.dir().as_raw_fd());
            rustix::fs::setxattr(&path, ATTRIBUTE, mark.as_bytes(), XattrFlags::empty())
                .map_err(|errno| place.write_error(ATTRIBUTE, mark, errno))?;
        }
        Ok(())
    }
}

impl Hierarchy {
    /// Every marked group of the node, in whichever hierarchy: one that was half removed is left in some of them. Does not
    /// look below a marked group, where names are a container's. Reads a directory per group: not for a thread that others
    /// wait for.
    pub fn marked(&self) -> Vec<Marked> {
        let mut found = Vec::new();
        for tree in self.trees() {
            marked_in(tree, &mut found);
        }
        found
    }
}

fn marked_in(tree: &Tree, found: &mut Vec<Marked>) {
    let mut left: Vec<(OsString, usize)> = vec![(OsString::from("."), 0)];
    let mut seen = 0;
    while let Some((path, depth)) = left.pop() {
        seen += 1;
        // What vanishes meanwhile, or can't be read, is nothing of ours to find.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(group) = rustix::fs::openat(tree, &path, flags, Mode::empty()) else { continue };
        if let Ok(Some(mark)) = read(group.as_fd()) {
            let relative = path.to_string_lossy();
            let group = format!("/{}", relative.trim_start_matches("./"));
            found.push(Marked { path: tree.point().join(relative.trim_start_matches("./")), group, mark });
            continue;
        }
        if depth < MAX_DEPTH && seen < MAX_GROUPS {
            left.extend(dir::subdirs(&group).unwrap_or_default().into_iter().map(|name| {
                let mut below = path.clone();
                below.push("/");
                below.push(name);
                (below, depth + 1)
            }));
        }
    }
}

fn read(group: BorrowedFd<'_>) -> rustix::io::Result<Option<String>> {
    let mut buffer = [0; MAX_MARK];
    match rustix::fs::fgetxattr(group, ATTRIBUTE, &mut buffer[..]) {
        Ok(length) => Ok(String::from_utf8(buffer[..length].to_vec()).ok()),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
