//! One group in all of its hierarchies.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::io::Errno;

use crate::{
    CgroupPath, Controller, Error, Hierarchy, Result, dir,
    enable::{self, Below},
    place::{Place, field},
    tree::Tree,
};

/// A group, held by its directories. Dropping it closes the descriptors; the group stays until [`Cgroup::remove`].
#[derive(Debug, Clone)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: CgroupPath,
    /// By the trees' slots.
    members: Vec<Option<Member>>,
}

/// The group's directory in one tree.
#[derive(Debug, Clone)]
struct Member {
    dir: Arc<OwnedFd>,
    /// Whether the directory is at the group's own path; a sub-group has its parent's in most trees.
    own: bool,
}

impl Cgroup {
    /// The group at `path`, by its directories in the hierarchy's trees.
    pub(crate) fn new(hierarchy: Hierarchy, path: CgroupPath, dirs: Vec<Option<OwnedFd>>) -> Self {
        let own = |dir| Member { dir: Arc::new(dir), own: true };
        Self { hierarchy, path, members: dirs.into_iter().map(|dir| dir.map(own)).collect() }
    }

    /// The group's path in the hierarchies.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The hierarchies it lives in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Turns the v2 controllers on for the groups below. Making one does it too; done while nothing runs below, it is quick: to
    /// move processes under new controllers the kernel takes `cgroup_threadgroup_rwsem`, whose first writer waits for an RCU
    /// grace period of ten milliseconds.
    ///
    /// # Errors
    /// The kernel refuses a controller that is delegated.
    pub fn delegate(&self) -> Result<()> {
        let Some((tree, place)) = self.hierarchy.unified().zip(self.unified()) else { return Ok(()) };
        enable::below(tree, &self.path, place.dir(), Below::of(&self.hierarchy)).map_err(|source| {
            Error::Write { path: place.file("cgroup.subtree_control"), value: "+controllers".into(), source }
        })
    }

    /// Makes a group `name` below this one for tracking and killing a few of its processes (an exec). It exists in the
    /// tracking hierarchy only: the v2 tree, or the freezer on pure v1. In the others its processes are in this group,
    /// so every limit and statistic of this group covers them. On v2 no controller is enabled for it.
    ///
    /// # Errors
    /// `name` is not one path component, or the directory can't be made.
    pub fn sub(&self, name: &str) -> Result<Cgroup> {
        let path = self.path.join(name)?;
        let tree = self.hierarchy.tracking();
        let fail = |errno: Errno| Error::CreateDir { path: tree.name_of(&path), source: errno.into() };
        let above = self.place(tree).ok_or_else(|| Error::NotFound { path: self.path.to_string() })?.dir();
        match rustix::fs::mkdirat(above, name, rustix::fs::Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let dir = dir::open_dir(above, name).map_err(fail)?;
        let mut members: Vec<Option<Member>> = self
            .members
            .iter()
            .map(|member| member.as_ref().map(|member| Member { dir: Arc::clone(&member.dir), own: false }))
            .collect();
        members[tree.slot()] = Some(Member { dir: Arc::new(dir), own: true });
        Ok(Self { hierarchy: self.hierarchy.clone(), path, members })
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
        self.open_each("tasks", |place| !place.is_v2())
    }

    /// The directory in the v2 tree, for `CLONE_INTO_CGROUP`; `None` on pure v1.
    pub fn unified_dir(&self) -> Option<BorrowedFd<'_>> {
        Some(self.unified()?.dir())
    }

    /// Process ids in the group and below, in the caller's PID namespace. (Those of another namespace read as 0 and
    /// are left out.) They are the numbers of this moment: whoever acts on one opens it first and looks here again, as a kill
    /// does.
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read. A group removed meanwhile has no processes.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        if let Some(place) = self.tracking() {
            match collect_pids(place.dir(), &mut pids) {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(place.read_error("cgroup.procs", errno)),
            }
        }
        Ok(pids)
    }

    /// Whether a process lives in the group or below. Zombies do not count.
    ///
    /// # Errors
    /// `cgroup.events` (v2) or `cgroup.procs` (v1) can't be read.
    pub fn is_populated(&self) -> Result<bool> {
        if self.hierarchy.unified().is_none() {
            return Ok(!self.pids()?.is_empty());
        }
        if self.path.is_root() {
            return Ok(true);
        }
        let Some(place) = self.unified() else {
            return Ok(false);
        };
        let events = place.read("cgroup.events")?;
        Ok(events.is_some_and(|text| field(&text, "populated").is_some_and(|value| value != "0")))
    }

    /// How many processes the kernel killed in this group for lack of memory, since the group was made. Read it before
    /// [`Self::remove`]. 0 where the kernel does not count (v1 before 4.13, or no memory controller).
    ///
    /// # Errors
    /// The file can't be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let Some(place) = self.home(Controller::Memory) else {
            return Ok(0);
        };
        let Some(text) = place.read(if place.is_v2() { "memory.events" } else { "memory.oom_control" })?
        else {
            return Ok(0);
        };
        Ok(field(&text, "oom_kill").and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    fn open_each(&self, file: &str, wanted: impl Fn(Place<'_>) -> bool) -> Result<Vec<OwnedFd>> {
        self.places()
            .filter(|place| wanted(*place))
            .map(|place| {
                dir::open_write(place.dir(), file)
                    .map_err(|errno| Error::OpenDir { path: place.file(file), source: errno.into() })
            })
            .collect()
    }
}

// === for the other modules ===

impl Cgroup {
    /// Its directory in a tree of its hierarchy; `None` where it has none.
    pub(crate) fn place<'g>(&'g self, tree: &'g Tree) -> Option<Place<'g>> {
        let member = self.members.get(tree.slot())?.as_ref()?;
        Some(Place::new(tree, &self.path, &member.dir, member.own))
    }

    /// All of its directories.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.hierarchy.trees().iter().filter_map(|tree| self.place(tree))
    }

    /// Where `controller` keeps its files.
    pub(crate) fn home(&self, controller: Controller) -> Option<Place<'_>> {
        self.place(self.hierarchy.home(controller)?)
    }

    /// That in the v2 tree.
    pub(crate) fn unified(&self) -> Option<Place<'_>> {
        self.place(self.hierarchy.unified()?)
    }

    /// Where its processes are listed and killed.
    pub(crate) fn tracking(&self) -> Option<Place<'_>> {
        self.place(self.hierarchy.tracking())
    }
}

/// Adds the ids of the processes in a group and below.
pub(crate) fn collect_pids(dir: BorrowedFd<'_>, pids: &mut Vec<u32>) -> rustix::io::Result<()> {
    dir::walk(dir, &mut |group| match dir::read(group.as_fd(), "cgroup.procs") {
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
            Ok(())
        }
        // A threaded v2 group lists its processes at its domain ancestor only.
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    })
}
