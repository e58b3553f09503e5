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

use crate::{Cgroup, Error, Result, dir};

/// How long [`Cgroup::remove`] waits for the last process to leave and for the kernel to let go of a directory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far above what anybody nests; bounds the recursion (and its descriptors) over what a container made in its group.
const MAX_DEPTH: u32 = 512;

impl Cgroup {
    /// Removes the group with everything below it, deepest first, from every hierarchy. Waits (up to 5 s) for
    /// processes that were killed a moment ago; it kills nothing itself. A group that is gone already is a success.
    ///
    /// # Errors
    /// [`Error::Timeout`] while processes live in it, [`Error::RemoveDir`] otherwise.
    pub fn remove(&self) -> Result<()> {
        for index in self.owned() {
            self.remove_from(index)?;
        }
        Ok(())
    }

    /// As [`Self::remove`], in one attempt that never waits: `false` if something still holds a directory. What could
    /// be removed is, so that a later call goes on from there. For a caller with an event loop, which waits on
    /// [`Self::events_fd`].
    ///
    /// # Errors
    /// [`Error::RemoveDir`] for any reason but that the group is in use.
    pub fn remove_if_empty(&self) -> Result<bool> {
        if self.is_populated()? {
            return Ok(false);
        }
        for index in self.owned() {
            let Some(above) = self.above(index)? else { continue };
            match remove_tree(above.as_fd(), OsStr::new(self.path.name()), 0) {
                Ok(()) => {}
                Err(Errno::BUSY) => return Ok(false),
                Err(errno) => return Err(self.remove_error(index, errno)),
            }
        }
        Ok(true)
    }

    /// `cgroup.events` of the v2 tree: readable content and a POLLPRI whenever `populated` or `frozen` changes. `None`
    /// on pure v1, which has no such event.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn events_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(index) = self.hierarchy.unified() else {
            return Ok(None);
        };
        let Some(member) = self.member(index) else {
            return Ok(None);
        };
        match dir::open_read(&member.dir, "cgroup.events") {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(self.read_error(index, "cgroup.events", errno)),
        }
    }

    /// The hierarchies with a directory of this very group. The v2 tree comes last: it is the one that can tell when
    /// the group is empty.
    fn owned(&self) -> Vec<usize> {
        let mut owned: Vec<usize> = (0..self.hierarchy.mounts().len())
            .filter(|index| self.member(*index).is_none_or(|member| member.own))
            .collect();
        owned.sort_by_key(|index| Some(*index) == self.hierarchy.unified());
        owned
    }

    /// The directory that holds the group's; `None` if it is gone.
    fn above(&self, index: usize) -> Result<Option<OwnedFd>> {
        let Some(parent) = self.path.parent() else {
            return Err(self.remove_error(index, Errno::BUSY));
        };
        match dir::open_dir(&self.hierarchy.mounts()[index], parent.relative()) {
            Ok(above) => Ok(Some(above)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.remove_error(index, errno)),
        }
    }

    fn remove_error(&self, index: usize, errno: Errno) -> Error {
        Error::RemoveDir { path: self.hierarchy.full_path(index, &self.path), source: errno.into() }
    }

    fn remove_from(&self, index: usize) -> Result<()> {
        let Some(above) = self.above(index)? else {
            return Ok(());
        };
        let fail = |errno| self.remove_error(index, errno);
        let name = OsStr::new(self.path.name());
        match remove_tree(above.as_fd(), name, 0) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => self.wait_empty(PATIENCE)?,
            Err(errno) => return Err(fail(errno)),
        }
        // Empty by now, but a v1 hierarchy hears of an exit a moment later than the v2 tree, and a dying child group
        // or a charge in flight keeps a directory busy for a moment too. There is no event for that.
        let gone = self.retry(PATIENCE, "empty", || match remove_tree(above.as_fd(), name, 0) {
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
