//! Marks: whose a group is, written on the group itself.
//!
//! An extended attribute of the `trusted` namespace, which only root of the node can set, and which dies with the group.
//! So a group that lost its owner is recognized beyond doubt, and one that merely has such a name is not.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
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
    ///
    /// `owner` is whom a group's name names. Groups of owners that are `known` are passed over, which on a full node are nearly
    /// all; `known` is asked once, when all names were seen, so that nobody is taken for gone who came meanwhile.
    pub fn marked<O: Ord>(
        &self,
        owner: impl Fn(&str) -> Option<O>,
        known: impl FnOnce() -> BTreeSet<O>,
    ) -> Vec<Marked> {
        let (mut found, mut named) = (Vec::new(), Vec::new());
        let mut walks: Vec<Walk<'_>> = self.trees().iter().map(|tree| Walk { tree, seen: 0 }).collect();
        for (slot, walk) in walks.iter_mut().enumerate() {
            let mut is_nobodys = |group: &Group| match group.name().and_then(&owner) {
                Some(owner) => {
                    named.push((slot, owner, group.clone()));
                    false
                }
                None => true,
            };
            walk.look(Group::root(), &mut is_nobodys, &mut found);
        }
        let known = known();
        for (slot, _, group) in named.into_iter().filter(|(_, owner, _)| !known.contains(owner)) {
            walks[slot].look(group, &mut |_| true, &mut found);
        }
        found
    }
}

/// A group of one hierarchy.
#[derive(Clone)]
struct Group {
    /// From the root, which is `.`.
    path: OsString,
    depth: usize,
}

impl Group {
    fn root() -> Self {
        Self { path: OsString::from("."), depth: 0 }
    }

    fn below(&self, name: &OsStr) -> Self {
        let mut path = self.path.clone();
        path.push("/");
        path.push(name);
        Self { path, depth: self.depth + 1 }
    }

    fn name(&self) -> Option<&str> {
        Path::new(&self.path).file_name()?.to_str()
    }
}

/// A walk through one hierarchy.
struct Walk<'tree> {
    tree: &'tree Tree,
    seen: usize,
}

impl Walk<'_> {
    /// Looks at `group` and at those below it that `goes_there`.
    fn look(&mut self, group: Group, goes_there: &mut dyn FnMut(&Group) -> bool, found: &mut Vec<Marked>) {
        let mut left = vec![group];
        while let Some(group) = left.pop() {
            self.seen += 1;
            // What vanishes meanwhile, or can't be read, is nothing of ours to find.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let Ok(dir) = rustix::fs::openat(self.tree, &group.path, flags, Mode::empty()) else { continue };
            if let Ok(Some(mark)) = read(dir.as_fd()) {
                let path = group.path.to_string_lossy();
                let path = path.trim_start_matches("./");
                found.push(Marked { path: self.tree.point().join(path), group: format!("/{path}"), mark });
                continue;
            }
            if group.depth < MAX_DEPTH && self.seen < MAX_GROUPS {
                let below = dir::subdirs(&dir).unwrap_or_default();
                left.extend(below.iter().map(|name| group.below(name)).filter(&mut *goes_there));
            }
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
