//! What the node has mounted, and making and opening groups in all of it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_node::KernelVersion;
use rustix::{
    fs::{self, FsWord, Mode, OFlags},
    io::Errno,
};

use crate::{
    Cgroup, CgroupPath, Controller, Error, Result,
    cgroup::Member,
    dir,
    mountinfo::{self, CgroupMount, MountKind},
};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2_MAGIC: FsWord = 0x6367_7270;
/// Where every distribution mounts cgroups.
const DEFAULT_POINT: &str = "/sys/fs/cgroup";

/// Layout of the node's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Only v1 hierarchies.
    V1,
    /// v1 hierarchies carry the limits, and a v2 tree is mounted beside them.
    Hybrid,
    /// One v2 tree.
    V2,
}

impl Version {
    /// `v1`, `hybrid` or `v2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::Hybrid => "hybrid",
            Version::V2 => "v2",
        }
    }
}

/// What the hierarchy is like: `husk check` tells some of it, and the search for leftovers goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The layout.
    pub version: Version,
    /// Every usable controller with the mount point that carries it.
    pub controllers: Vec<(Controller, PathBuf)>,
    /// Mount point of the v2 tree, if there is one.
    pub unified: Option<PathBuf>,
    /// Whether `cgroup.kill` is there (v2 tree and Linux 5.14).
    pub kill: bool,
}

/// The node's cgroup hierarchies. A cheap handle: clones share the opened mounts.
#[derive(Debug, Clone)]
pub struct Hierarchy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    version: Version,
    mounts: Vec<Mount>,
    /// Index into `mounts` by controller.
    home: [Option<u8>; Controller::ALL.len()],
    /// Index of the v2 tree.
    unified: Option<u8>,
    kill: bool,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    root: OwnedFd,
    /// Controllers that must be listed in `cgroup.subtree_control` on the way down; empty for v1.
    enable: Vec<Controller>,
    cpuset_v1: bool,
}

impl Hierarchy {
    /// Finds the mounted hierarchies from `/sys/fs/cgroup` and `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when nothing is mounted, [`Error::Discover`] and [`Error::OpenDir`] when something
    /// mounted can't be read.
    pub fn detect() -> Result<Self> {
        // A v2 node needs no look at mountinfo, which has thousands of lines on a busy one.
        let default = Path::new(DEFAULT_POINT);
        let mounts = if fs::statfs(default).is_ok_and(|stat| stat.f_type == CGROUP2_MAGIC) {
            vec![CgroupMount { point: default.to_owned(), root: "/".into(), kind: MountKind::V2 }]
        } else {
            let path = PathBuf::from("/proc/self/mountinfo");
            let table = std::fs::read(&path).map_err(|source| Error::Discover { path, source })?;
            // The names of others' mounts may be any bytes.
            mountinfo::parse(&String::from_utf8_lossy(&table))
        };
        Self::from_mounts(mounts)
    }

    pub(crate) fn from_mounts(found: Vec<CgroupMount>) -> Result<Self> {
        let mut inner = Inner {
            version: Version::V1,
            mounts: Vec::new(),
            home: [None; Controller::ALL.len()],
            unified: None,
            kill: false,
        };
        inner.kill = KernelVersion::running() >= KernelVersion::new(5, 14);
        let v2 = found.iter().any(|mount| mount.kind == MountKind::V2);
        for mount in found {
            match &mount.kind {
                MountKind::V2 if inner.unified.is_none() => inner.add_v2(&mount)?,
                MountKind::V2 => {}
                MountKind::V1 { controllers, name } => {
                    // Without controllers it only tracks processes. runc joins systemd's own so that stopping
                    // huskd.service does not take the containers with it; without systemd nothing reads it.
                    let tracked =
                        name.as_deref() == Some("systemd") && Path::new("/run/systemd/system").exists();
                    let mut homed: Vec<Controller> = controllers
                        .iter()
                        .filter_map(|name| Controller::from_v1_name(name))
                        .filter(|controller| inner.home[*controller as usize].is_none())
                        .collect();
                    // With a v2 tree that freezes and kills, moving every process into the v1 freezer is wasted.
                    if v2 && inner.kill {
                        homed.retain(|controller| *controller != Controller::Freezer);
                    }
                    if !homed.is_empty() || tracked {
                        inner.add_v1(&mount, &homed)?;
                    }
                }
            }
        }
        inner.kill &= inner.unified.is_some();
        inner.version = match (inner.mounts.len(), inner.unified) {
            (0, _) => return Err(Error::NoHierarchy),
            (1, Some(_)) => Version::V2,
            (_, Some(_)) => Version::Hybrid,
            (_, None) => Version::V1,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The layout.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// What the hierarchy is like.
    pub fn facts(&self) -> Facts {
        Facts {
            version: self.0.version,
            controllers: Controller::ALL
                .into_iter()
                .filter_map(|controller| {
                    Some((controller, self.mounts()[self.home(controller)?].point.clone()))
                })
                .collect(),
            unified: self.unified().map(|index| self.mounts()[index].point.clone()),
            kill: self.0.kill,
        }
    }

    /// Whether limits of this controller can be set on this node.
    pub fn has(&self, controller: Controller) -> bool {
        self.home(controller).is_some()
            || (controller == Controller::Devices && self.0.version == Version::V2)
    }

    /// Makes the group at `path` in every hierarchy, its parents included, and opens it. A group that is there already
    /// is opened. On v2 the controllers are enabled on the way down; on v1 empty cpusets inherit their parent's.
    ///
    /// # Errors
    /// The step that failed; what this call had made is removed again.
    pub fn create(&self, path: &CgroupPath) -> Result<Cgroup> {
        let mut made = Vec::new();
        let members: Result<Vec<_>> = (0..self.mounts().len())
            .map(|index| {
                let dir = self.make(index, path, &mut made)?;
                Ok(Some(Member { dir: Arc::new(dir), own: true }))
            })
            .collect();
        match members {
            Ok(members) => Ok(Cgroup::new(self.clone(), path.clone(), members)),
            Err(err) => {
                for (index, path) in made.into_iter().rev() {
                    // Best effort: the first error is the one to tell, and an empty group costs nothing.
                    let _ = self.rmdir(index, &path);
                }
                Err(err)
            }
        }
    }

    /// Opens a group made earlier. Hierarchies in which it is missing (half removed, for example) are left out.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no hierarchy has it.
    pub fn open(&self, path: &CgroupPath) -> Result<Cgroup> {
        let mut members = Vec::with_capacity(self.mounts().len());
        for (index, mount) in self.mounts().iter().enumerate() {
            members.push(match dir::open_dir(&mount.root, path.relative()) {
                Ok(dir) => Some(Member { dir: Arc::new(dir), own: true }),
                Err(Errno::NOENT) => None,
                Err(errno) => {
                    return Err(Error::OpenDir { path: self.full_path(index, path), source: errno.into() });
                }
            });
        }
        if members.iter().all(Option::is_none) {
            return Err(Error::NotFound { path: path.to_string() });
        }
        Ok(Cgroup::new(self.clone(), path.clone(), members))
    }

    /// Takes over a unit that systemd delegated: makes `group` below `unit` in the v2 tree, moves the process that the unit
    /// began with into it, and turns the controllers on from the root down to `group`. In this order, because a v2 group with
    /// a process of its own can't turn any on.
    ///
    /// Above the unit the controllers are systemd's. Those that it does not know (hugetlb, rdma, misc) it leaves alone, so
    /// they are turned on there too, as far as the kernel lets us.
    ///
    /// # Errors
    /// The step that failed. The node has no v2 tree: [`Error::NotFound`].
    pub fn adopt(&self, unit: &CgroupPath, group: &CgroupPath, pid: u32) -> Result<()> {
        let index = self.unified().ok_or_else(|| Error::NotFound { path: unit.to_string() })?;
        let root = &self.mounts()[index];
        let dir = self.make_dirs(index, group)?;
        let value = pid.to_string();
        dir::write(&dir, "cgroup.procs", &value).map_err(|errno| Error::Write {
            path: self.full_path(index, group).join("cgroup.procs"),
            value,
            source: errno.into(),
        })?;
        let above = std::iter::successors(group.parent(), CgroupPath::parent).collect::<Vec<_>>();
        for path in above.into_iter().rev() {
            let delegated = path.as_str().starts_with(unit.as_str());
            let enabled = dir::open_dir(root, path.relative())
                .map_err(io::Error::from)
                .and_then(|dir| self.enable_below(index, &path, &dir));
            match enabled {
                Err(source) if delegated => {
                    let path = self.full_path(index, &path).join("cgroup.subtree_control");
                    return Err(Error::Write { path, value: "+controllers".into(), source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes the directories of `path` in one hierarchy and nothing else, and opens the last.
    fn make_dirs(&self, index: usize, path: &CgroupPath) -> Result<OwnedFd> {
        let mount = &self.mounts()[index];
        let wanted = std::iter::successors(Some(path.clone()), CgroupPath::parent).collect::<Vec<_>>();
        for path in wanted.iter().rev().filter(|path| !path.is_root()) {
            match fs::mkdirat(mount, path.relative(), Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(Error::CreateDir { path: self.full_path(index, path), source: errno.into() });
                }
            }
        }
        dir::open_dir(mount, path.relative())
            .map_err(|errno| Error::OpenDir { path: self.full_path(index, path), source: errno.into() })
    }

    // === for the other modules ===

    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.0.mounts
    }

    /// The mount that carries `controller`.
    pub(crate) fn home(&self, controller: Controller) -> Option<usize> {
        self.0.home[controller as usize].map(usize::from)
    }

    pub(crate) fn unified(&self) -> Option<usize> {
        self.0.unified.map(usize::from)
    }

    /// The one hierarchy by which the processes of a group are listed, killed and counted.
    pub(crate) fn tracking(&self) -> usize {
        self.unified()
            .or_else(|| self.home(Controller::Freezer))
            .or_else(|| self.home(Controller::Pids))
            .unwrap_or_default()
    }

    pub(crate) fn has_kill(&self) -> bool {
        self.0.kill
    }

    /// For messages only.
    pub(crate) fn full_path(&self, mount: usize, path: &CgroupPath) -> PathBuf {
        let point = self.mounts().get(mount).map(|mount| mount.point.as_path()).unwrap_or(Path::new(""));
        if path.is_root() { point.to_owned() } else { point.join(path.relative()) }
    }

    /// Makes `path` in one hierarchy and opens it, recording each directory it made.
    pub(crate) fn make(
        &self,
        index: usize,
        path: &CgroupPath,
        made: &mut Vec<(usize, CgroupPath)>,
    ) -> Result<OwnedFd> {
        let mount = &self.mounts()[index];
        let open_error =
            |errno: Errno| Error::OpenDir { path: self.full_path(index, path), source: errno.into() };
        let Some(parent) = path.parent() else {
            return dir::open_dir(&mount.root, path.relative()).map_err(open_error);
        };
        // The usual case is a new group below one that exists, so its parent is looked for first.
        let above = match dir::open_dir(&mount.root, parent.relative()) {
            Ok(above) => above,
            Err(Errno::NOENT) => self.make(index, &parent, made)?,
            Err(errno) => return Err(open_error(errno)),
        };
        match fs::mkdirat(&above, path.name(), Mode::from(0o755)) {
            Ok(()) => {
                made.push((index, path.clone()));
                self.enable_below(index, &parent, &above).map_err(|source| Error::Write {
                    path: self.full_path(index, &parent).join("cgroup.subtree_control"),
                    value: "+controllers".into(),
                    source,
                })?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::CreateDir { path: self.full_path(index, path), source: errno.into() });
            }
        }
        let dir = dir::open_dir(&above, path.name()).map_err(open_error)?;
        self.prepare(index, path, &dir)?;
        Ok(dir)
    }

    /// Removes one directory. `Ok(false)` when it was not there.
    pub(crate) fn rmdir(&self, index: usize, path: &CgroupPath) -> rustix::io::Result<bool> {
        let Some(parent) = path.parent() else {
            return Err(Errno::BUSY);
        };
        let above = match dir::open_dir(&self.mounts()[index].root, parent.relative()) {
            Err(Errno::NOENT) => return Ok(false),
            above => above?,
        };
        match fs::unlinkat(above, path.name(), fs::AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// A new v1 cpuset has no CPUs and no memory nodes, and a process can't enter it. Takes over the parent's, which
    /// [`Self::make`] has prepared before.
    fn prepare(&self, index: usize, path: &CgroupPath, dir: &OwnedFd) -> Result<()> {
        if !self.mounts()[index].cpuset_v1 || path.is_root() {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read_error = |path: &CgroupPath, errno: Errno| Error::Read {
                path: self.full_path(index, path).join(file),
                source: errno.into(),
            };
            if !dir::read(dir, file).map_err(|errno| read_error(path, errno))?.trim().is_empty() {
                continue;
            }
            let Some(parent) = path.parent() else { continue };
            let above = dir::open_dir(&self.mounts()[index].root, parent.relative())
                .map_err(|errno| read_error(&parent, errno))?;
            self.prepare(index, &parent, &above)?;
            let inherited = dir::read(&above, file).map_err(|errno| read_error(&parent, errno))?;
            let inherited = inherited.trim();
            dir::write(dir, file, inherited).map_err(|errno| Error::Write {
                path: self.full_path(index, path).join(file),
                value: inherited.to_owned(),
                source: errno.into(),
            })?;
        }
        Ok(())
    }

    /// Turns the v2 controllers on for the children of `dir`. A controller that is not delegated to `dir` is left off:
    /// setting its limit reports that later, and a request that does not use it need not fail.
    fn enable_below(&self, index: usize, path: &CgroupPath, dir: &OwnedFd) -> io::Result<()> {
        let wanted = &self.mounts()[index].enable;
        if wanted.is_empty() {
            return Ok(());
        }
        let on = dir::read(dir, "cgroup.subtree_control")?;
        let missing: Vec<&str> = wanted
            .iter()
            .filter_map(|controller| controller.v2_name())
            .filter(|name| !on.split_ascii_whitespace().any(|have| have == *name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        if dir::write(dir, "cgroup.subtree_control", &all.join(" ")).is_ok() {
            return Ok(());
        }
        for one in all {
            match dir::write(dir, "cgroup.subtree_control", &one) {
                Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                // "No internal processes": a parent that holds processes itself can't have domain controllers below.
                Err(Errno::BUSY) if path.is_root() || self.0.version == Version::Hybrid => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Inner {
    fn add_v1(&mut self, mount: &CgroupMount, homed: &[Controller]) -> Result<()> {
        let index = self.push(mount, Vec::new())?;
        for controller in homed {
            self.home[*controller as usize] = Some(index);
            self.mounts[usize::from(index)].cpuset_v1 |= *controller == Controller::CpuSet;
        }
        Ok(())
    }

    fn add_v2(&mut self, mount: &CgroupMount) -> Result<()> {
        let index = self.push(mount, Vec::new())?;
        let opened = &self.mounts[usize::from(index)];
        let listed = dir::read(&opened.root, "cgroup.controllers").map_err(|errno| Error::Discover {
            path: opened.point.join("cgroup.controllers"),
            source: errno.into(),
        })?;
        let enable: Vec<Controller> =
            listed.split_ascii_whitespace().filter_map(Controller::from_v2_name).collect();
        for controller in &enable {
            self.home[*controller as usize] = Some(index);
        }
        self.mounts[usize::from(index)].enable = enable;
        self.unified = Some(index);
        Ok(())
    }

    fn push(&mut self, mount: &CgroupMount, enable: Vec<Controller>) -> Result<u8> {
        let root = fs::open(&mount.point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::OpenDir { path: mount.point.clone(), source: errno.into() })?;
        self.mounts.push(Mount { point: mount.point.clone(), root, enable, cpuset_v1: false });
        // There are 14 controllers and one named hierarchy at most.
        Ok(u8::try_from(self.mounts.len() - 1).unwrap_or(u8::MAX))
    }
}

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
