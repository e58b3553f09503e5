//! Removing a group from all hierarchies.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use crate::{Cgroup, Error, Result, dir, tree::Tree};

/// How long [`Cgroup::remove`] waits for the last process to leave and for the kernel to let go of a directory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far above what anybody nests; bounds the recursion (and its descriptors) over what a container made in its group.
const MAX_DEPTH: u32 = 512;

impl Cgroup {
    /// Removes the group with everything below it, deepest first, from every hierarchy. Waits (up to 5 s) for
    /// processes that were killed a moment ago; it kills nothing itself. A group that is gone already is a success. For a
    /// caller with a thread to spare.
    ///
    /// # Errors
    /// [`Error::Timeout`] while processes live in it, [`Error::RemoveDir`] otherwise.
    pub fn remove(&self) -> Result<()> {
        for tree in self.owned() {
            self.remove_from(tree)?;
        }
        Ok(())
    }

    /// As [`Self::remove`], in one attempt that never waits: `false` if something still holds a directory. What could
    /// be removed is, so that a later call goes on from there. For a caller with an event loop, which waits on
    /// [`Self::watch`].
    ///
    /// # Errors
    /// [`Error::RemoveDir`] for any reason but that the group is in use.
    pub fn remove_if_empty(&self) -> Result<bool> {
        if self.is_populated()? {
            return Ok(false);
        }
        for tree in self.owned() {
            let Some(above) = self.above(tree)? else { continue };
            match remove_tree(above.as_fd(), OsStr::new(self.path().name()), 0) {
                Ok(()) => {}
                Err(Errno::BUSY) => return Ok(false),
                Err(errno) => return Err(self.remove_error(tree, errno)),
            }
        }
        Ok(true)
    }

    /// The trees with a directory of this very group. The v2 tree comes last: it is the one that can tell when
    /// the group is empty.
    fn owned(&self) -> Vec<&Tree> {
        let own = |tree: &&Tree| self.place(tree).is_none_or(|place| place.is_own());
        let mut owned: Vec<&Tree> = self.hierarchy().trees().iter().filter(own).collect();
        owned.sort_by_key(|tree| tree.is_v2());
        owned
    }

    /// The directory that holds the group's; `None` if it is gone.
    fn above(&self, tree: &Tree) -> Result<Option<OwnedFd>> {
        let Some(parent) = self.path().parent() else {
            return Err(self.remove_error(tree, Errno::BUSY));
        };
        match tree.open(&parent) {
            Ok(above) => Ok(Some(above)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.remove_error(tree, errno)),
        }
    }

    fn remove_error(&self, tree: &Tree, errno: Errno) -> Error {
        Error::RemoveDir { path: tree.name_of(self.path()), source: errno.into() }
    }

    fn remove_from(&self, tree: &Tree) -> Result<()> {
        let Some(above) = self.above(tree)? else {
            return Ok(());
        };
        let fail = |errno| self.remove_error(tree, errno);
        let name = OsStr::new(self.path().name());
        match remove_tree(above.as_fd(), name, 0) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => self.wait_empty(PATIENCE)?,
            Err(errno) => return Err(fail(errno)),
        }
        // Empty by now, but a v1 hierarchy hears of an exit a moment later than the v2 tree, and a dying child group
        // or a charge in flight keeps a directory busy for a moment too. There is no event for that.
        let gone = self.retry(PATIENCE, || match remove_tree(above.as_fd(), name, 0) {
            Ok(()) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(errno) => Err(fail(errno)),
        });
        match gone {
            Err(Error::Timeout { .. }) => Err(fail(Errno::BUSY)),
            gone => gone,
        }
    }
}

/// One attempt. Most groups have no children, so the directory is only listed when the kernel refuses. Names below the
/// group may come from a container with a writable cgroup tree: they are taken as bytes, and resolved by descriptor.
fn remove_tree(above: BorrowedFd<'_>, name: &OsStr, depth: u32) -> rustix::io::Result<()> {
    match fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) if depth < MAX_DEPTH => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match fs::openat(above, name, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for below in dir::subdirs(&dir)? {
        remove_tree(dir.as_fd(), &below, depth + 1)?;
    }
    match fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
