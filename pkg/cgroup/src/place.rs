//! A group's directory in one tree.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::io::Errno;

use crate::{CgroupPath, Error, Result, dir, tree::Tree};

/// Where a group keeps the files of one tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'g> {
    tree: &'g Tree,
    path: &'g CgroupPath,
    dir: BorrowedFd<'g>,
    own: bool,
}

impl<'g> Place<'g> {
    /// `own`: whether `dir` is at `path`; a sub-group has its parent's in most trees.
    pub(crate) fn new(tree: &'g Tree, path: &'g CgroupPath, dir: &'g OwnedFd, own: bool) -> Self {
        Self { tree, path, dir: dir.as_fd(), own }
    }

    /// The directory.
    pub(crate) fn dir(self) -> BorrowedFd<'g> {
        self.dir
    }

    /// Whether it is the group's own, and not its parent's.
    pub(crate) fn is_own(self) -> bool {
        self.own
    }

    /// Whether its files have the form of v2.
    pub(crate) fn is_v2(self) -> bool {
        self.tree.is_v2()
    }

    /// Its name, for messages only.
    pub(crate) fn name(self) -> PathBuf {
        self.tree.name_of(self.path)
    }

    /// The name of a file of it, for messages only.
    pub(crate) fn file(self, name: &str) -> PathBuf {
        self.name().join(name)
    }

    pub(crate) fn write(self, name: &str, value: &str) -> Result<()> {
        self.try_write(name, value).map_err(|errno| self.write_error(name, value, errno))
    }

    pub(crate) fn try_write(self, name: &str, value: &str) -> rustix::io::Result<()> {
        dir::write(self.dir, name, value)
    }

    /// `None` when the file or the group is not there.
    pub(crate) fn read(self, name: &str) -> Result<Option<String>> {
        match dir::read(self.dir, name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.read_error(name, errno)),
        }
    }

    pub(crate) fn write_error(self, name: &str, value: &str, errno: Errno) -> Error {
        Error::Write { path: self.file(name), value: value.to_owned(), source: errno.into() }
    }

    pub(crate) fn read_error(self, name: &str, errno: Errno) -> Error {
        Error::Read { path: self.file(name), source: errno.into() }
    }
}

/// The value of `name` in a flat keyed file (`name value` lines).
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some("3"));
        assert_eq!(field(text, "oom"), None);
    }
}
