//! Making and opening groups in every tree.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, Mode},
    io::Errno,
};

use crate::{
    Cgroup, CgroupPath, Controller, Error, Hierarchy, Result, dir,
    enable::{self, Below},
    tree::Tree,
};

impl Hierarchy {
    /// Makes the group at `path` in every hierarchy, its parents included, and opens it. A group that is there already
    /// is opened. On v2 the controllers are enabled on the way down; on v1 empty cpusets inherit their parent's.
    ///
    /// # Errors
    /// The step that failed; what this call had made is removed again.
    pub fn create(&self, path: &CgroupPath) -> Result<Cgroup> {
        let mut made = Made { below: Below::of(self), groups: Vec::new() };
        let dirs: Result<Vec<_>> = self.trees().iter().map(|tree| made.make(tree, path).map(Some)).collect();
        match dirs {
            Ok(dirs) => Ok(Cgroup::new(self.clone(), path.clone(), dirs)),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    /// Opens a group made earlier. Hierarchies in which it is missing (half removed, for example) are left out.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no hierarchy has it.
    pub fn open(&self, path: &CgroupPath) -> Result<Cgroup> {
        let open = |tree: &Tree| match tree.open(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(open_error(tree, path, errno)),
        };
        let dirs = self.trees().iter().map(open).collect::<Result<Vec<_>>>()?;
        if dirs.iter().all(Option::is_none) {
            return Err(Error::NotFound { path: path.to_string() });
        }
        Ok(Cgroup::new(self.clone(), path.clone(), dirs))
    }
}

/// The directories that one call made, in order.
struct Made<'h> {
    below: Below,
    groups: Vec<(&'h Tree, CgroupPath)>,
}

impl<'h> Made<'h> {
    /// Makes `path` in one tree and opens it.
    fn make(&mut self, tree: &'h Tree, path: &CgroupPath) -> Result<OwnedFd> {
        let Some(parent) = path.parent() else {
            return tree.open(path).map_err(|errno| open_error(tree, path, errno));
        };
        // The usual case is a new group below one that exists, so its parent is looked for first.
        let above = match tree.open(&parent) {
            Ok(above) => above,
            Err(Errno::NOENT) => self.make(tree, &parent)?,
            Err(errno) => return Err(open_error(tree, path, errno)),
        };
        match fs::mkdirat(&above, path.name(), Mode::from(0o755)) {
            Ok(()) => {
                self.groups.push((tree, path.clone()));
                enable::below(tree, &parent, &above, self.below).map_err(|source| Error::Write {
                    path: tree.name_of(&parent).join("cgroup.subtree_control"),
                    value: "+controllers".into(),
                    source,
                })?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::CreateDir { path: tree.name_of(path), source: errno.into() });
            }
        }
        let dir = dir::open_dir(&above, path.name()).map_err(|errno| open_error(tree, path, errno))?;
        inherit_cpuset(tree, path, &dir, &parent, &above)?;
        Ok(dir)
    }

    /// Best effort: the first error is the one to tell, and an empty group costs nothing.
    fn undo(self) {
        for (tree, path) in self.groups.into_iter().rev() {
            if let Some(above) = path.parent().and_then(|parent| tree.open(&parent).ok()) {
                let _ = fs::unlinkat(above, path.name(), fs::AtFlags::REMOVEDIR);
            }
        }
    }
}

/// A new v1 cpuset has no CPUs and no memory nodes, and a process can't enter it. Takes over those of its parent, which takes
/// them from its own if it has none either (somebody else made it).
fn inherit_cpuset(
    tree: &Tree,
    path: &CgroupPath,
    dir: &OwnedFd,
    parent: &CgroupPath,
    above: &OwnedFd,
) -> Result<()> {
    if tree.is_v2() || !tree.controllers().contains(&Controller::CpuSet) {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &OwnedFd, path: &CgroupPath| -> Result<String> {
            let value = dir::read(dir, file)
                .map_err(|errno| Error::Read { path: tree.name_of(path).join(file), source: errno.into() })?;
            Ok(value.trim().to_owned())
        };
        if !read(dir, path)?.is_empty() {
            continue;
        }
        let mut inherited = read(above, parent)?;
        if inherited.is_empty()
            && let Some(grandparent) = parent.parent()
        {
            let over = tree.open(&grandparent).map_err(|errno| open_error(tree, &grandparent, errno))?;
            inherit_cpuset(tree, parent, above, &grandparent, &over)?;
            inherited = read(above, parent)?;
        }
        dir::write(dir, file, &inherited).map_err(|errno| Error::Write {
            path: tree.name_of(path).join(file),
            value: inherited,
            source: errno.into(),
        })?;
    }
    Ok(())
}

fn open_error(tree: &Tree, path: &CgroupPath, errno: Errno) -> Error {
    Error::OpenDir { path: tree.name_of(path), source: errno.into() }
}
