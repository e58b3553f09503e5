//! One group in all of its hierarchies.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use rustix::io::Errno;

use crate::{CgroupPath, Controller, Error, Hierarchy, Result, dir};

/// A group, held by its directories. Dropping it closes the descriptors; the group stays until [`Cgroup::remove`].
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) path: CgroupPath,
    /// Parallel to the hierarchy's mounts.
    members: Vec<Option<Member>>,
}

/// The group's directory in one hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) dir: Arc<OwnedFd>,
    /// Whether the directory is at the group's own path; a sub-group has its parent's in most hierarchies.
    pub(crate) own: bool,
}

impl Cgroup {
    pub(crate) fn new(hierarchy: Hierarchy, path: CgroupPath, members: Vec<Option<Member>>) -> Self {
        Self { hierarchy, path, members }
    }

    /// The group's path in the hierarchies.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The hierarchies it lives in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Makes a group `name` below this one for tracking and killing a few of its processes (an exec). It exists in the
    /// tracking hierarchy only: the v2 tree, or the freezer on pure v1. In the others its processes are in this group,
    /// so every limit and statistic of this group covers them. On v2 no controller is enabled for it.
    ///
    /// # Errors
    /// `name` is not one path component, or the directory can't be made.
    pub fn sub(&self, name: &str) -> Result<Cgroup> {
        let path = self.path.join(name)?;
        let index = self.hierarchy.tracking();
        let fail = |errno: Errno| Error::CreateDir {
            path: self.hierarchy.full_path(index, &path),
            source: errno.into(),
        };
        let above = self.member(index).ok_or_else(|| Error::NotFound { path: self.path.to_string() })?;
        match rustix::fs::mkdirat(&above.dir, name, rustix::fs::Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let dir = dir::open_dir(&above.dir, name).map_err(fail)?;
        let mut members: Vec<Option<Member>> = self
            .members
            .iter()
            .map(|member| member.as_ref().map(|member| Member { dir: Arc::clone(&member.dir), own: false }))
            .collect();
        members[index] = Some(Member { dir: Arc::new(dir), own: true });
        Ok(Cgroup::new(self.hierarchy.clone(), path, members))
    }

    /// `cgroup.procs` of every hierarchy, opened for writing. A process that writes `0` into each has joined the group.
    ///
    /// # Errors
    /// One of them can't be opened.
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        self.open_each("cgroup.procs", |_| true)
    }

    /// What a process with a single thread writes `0` into to join the v1 hierarchies; the v2 tree is left out, for it is
    /// born there by `clone3(CLONE_INTO_CGROUP)`.
    ///
    /// These are the `tasks` files. A thread that moves itself through `tasks` needs no stable thread group, so the kernel
    /// (since 5.6) does not take `cgroup_threadgroup_rwsem`, whose first writer waits for an RCU grace period: eight
    /// hierarchies take 2 ms instead of 13 ms.
    ///
    /// # Errors
    /// One of them can't be opened.
    pub fn legacy_join_fds(&self) -> Result<Vec<OwnedFd>> {
        let unified = self.hierarchy.unified();
        self.open_each("tasks", |index| Some(index) != unified)
    }

    /// The directory in the v2 tree, for `CLONE_INTO_CGROUP`; `None` on pure v1.
    pub fn unified_dir(&self) -> Option<BorrowedFd<'_>> {
        self.member(self.hierarchy.unified()?).map(|member| member.dir.as_fd())
    }

    /// Process ids in the group and below, in the caller's PID namespace. (Those of another namespace read as 0 and
    /// are left out.)
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read. A group removed meanwhile has no processes.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let index = self.hierarchy.tracking();
        let mut pids = Vec::new();
        if let Some(member) = self.member(index) {
            match collect_pids(member.dir.as_fd(), &mut pids) {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(self.read_error(index, "cgroup.procs", errno)),
            }
        }
        Ok(pids)
    }

    /// Whether a process lives in the group or below. Zombies do not count.
    ///
    /// # Errors
    /// `cgroup.events` (v2) or `cgroup.procs` (v1) can't be read.
    pub fn is_populated(&self) -> Result<bool> {
        let Some(index) = self.hierarchy.unified() else {
            return Ok(!self.pids()?.is_empty());
        };
        if self.path.is_root() {
            return Ok(true);
        }
        Ok(self.flag(index, "cgroup.events", "populated")?.unwrap_or(false))
    }

    /// How many processes the kernel killed in this group for lack of memory, since the group was made. Read it before
    /// [`Self::remove`]. 0 where the kernel does not count (v1 before 4.13, or no memory controller).
    ///
    /// # Errors
    /// The file can't be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let Some(index) = self.hierarchy.home(Controller::Memory) else {
            return Ok(0);
        };
        let file =
            if Some(index) == self.hierarchy.unified() { "memory.events" } else { "memory.oom_control" };
        let Some(text) = self.read_opt(index, file)? else {
            return Ok(0);
        };
        Ok(field(&text, "oom_kill").and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    // === for the other modules ===

    pub(crate) fn member(&self, mount: usize) -> Option<&Member> {
        self.members.get(mount)?.as_ref()
    }

    /// The directory in which `controller` keeps its files.
    pub(crate) fn dir_of(&self, controller: Controller) -> Option<(usize, BorrowedFd<'_>)> {
        let index = self.hierarchy.home(controller)?;
        Some((index, self.member(index)?.dir.as_fd()))
    }

    pub(crate) fn file(&self, mount: usize, name: &str) -> PathBuf {
        self.hierarchy.full_path(mount, &self.path).join(name)
    }

    pub(crate) fn write(&self, mount: usize, name: &str, value: &str) -> Result<()> {
        self.try_write(mount, name, value).map_err(|errno| self.write_error(mount, name, value, errno))
    }

    pub(crate) fn try_write(&self, mount: usize, name: &str, value: &str) -> rustix::io::Result<()> {
        let member = self.member(mount).ok_or(Errno::NOENT)?;
        dir::write(&member.dir, name, value)
    }

    /// `None` when the file or the group is not there.
    pub(crate) fn read_opt(&self, mount: usize, name: &str) -> Result<Option<String>> {
        let Some(member) = self.member(mount) else {
            return Ok(None);
        };
        match dir::read(&member.dir, name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.read_error(mount, name, errno)),
        }
    }

    /// A `name 0|1` line of a flat keyed file.
    pub(crate) fn flag(&self, mount: usize, file: &str, name: &str) -> Result<Option<bool>> {
        Ok(self.read_opt(mount, file)?.and_then(|text| field(&text, name).map(|value| value != "0")))
    }

    pub(crate) fn write_error(&self, mount: usize, name: &str, value: &str, errno: Errno) -> Error {
        Error::Write { path: self.file(mount, name), value: value.to_owned(), source: errno.into() }
    }

    pub(crate) fn read_error(&self, mount: usize, name: &str, errno: Errno) -> Error {
        Error::Read { path: self.file(mount, name), source: errno.into() }
    }

    fn open_each(&self, file: &str, wanted: impl Fn(usize) -> bool) -> Result<Vec<OwnedFd>> {
        let mut fds = Vec::with_capacity(self.members.len());
        for (index, member) in self.members.iter().enumerate() {
            let Some(member) = member.as_ref().filter(|_| wanted(index)) else { continue };
            let fd = dir::open_write(&member.dir, file)
                .map_err(|errno| Error::OpenDir { path: self.file(index, file), source: errno.into() })?;
            fds.push(fd);
        }
        Ok(fds)
    }
}

/// The value of `name` in a flat keyed file (`name value` lines).
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

pub(crate) fn collect_pids(dir: BorrowedFd<'_>, pids: &mut Vec<u32>) -> rustix::io::Result<()> {
    dir::walk(dir, &mut |group| match dir::read(group, "cgroup.procs") {
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
            Ok(())
        }
        // A threaded v2 group lists its processes at its domain ancestor only.
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    })
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
