//! Reading stat files through descriptors that stay open: half the cost of open, read, close.

use std::{
    borrow::Cow,
    os::fd::{AsFd, OwnedFd},
};

use rustix::io::Errno;

use super::{CgroupStats, PressureSet, parse};
use crate::{Cgroup, CgroupPath, Controller, Error, Hierarchy, Result, cgroup::collect_pids, dir};

/// How much to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Usage,
    Full,
}

/// Reads one group's statistics again and again. Holds a descriptor for each file it has read.
#[derive(Debug)]
pub struct StatsReader {
    source: Source,
    files: Vec<File>,
    buf: Vec<u8>,
}

/// Where files are opened from.
#[derive(Debug)]
enum Source {
    /// The directories of an open group.
    Group(Cgroup),
    /// The roots of the hierarchies: no directory stays open, which counts on a node with a thousand containers.
    Path(Hierarchy, CgroupPath),
}

#[derive(Debug)]
struct File {
    mount: usize,
    name: Cow<'static, str>,
    /// `None`: looked for and not there. Files of a group do not appear later.
    fd: Option<OwnedFd>,
}

impl StatsReader {
    pub(super) fn of_group(group: Cgroup) -> Self {
        Self { source: Source::Group(group), files: Vec::new(), buf: Vec::new() }
    }

    pub(super) fn of_path(hierarchy: Hierarchy, path: CgroupPath) -> Self {
        Self { source: Source::Path(hierarchy, path), files: Vec::new(), buf: Vec::new() }
    }

    /// A new snapshot. After the group was removed, everything is `None`.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read(&mut self) -> Result<CgroupStats> {
        let mut stats = CgroupStats::default();
        self.cpu(&mut stats, Detail::Full)?;
        self.memory(&mut stats, Detail::Full)?;
        self.pids(&mut stats)?;
        self.hugetlb(&mut stats)?;
        self.io(&mut stats)?;
        stats.pressure = self.pressure()?;
        Ok(stats)
    }

    /// What the kubelet asks for every ten seconds, from as few files as possible: total CPU time, memory and swap with
    /// their limits, pressure, tasks. The other fields are 0 or empty.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read_usage(&mut self) -> Result<CgroupStats> {
        let mut stats = CgroupStats::default();
        self.cpu(&mut stats, Detail::Usage)?;
        self.memory(&mut stats, Detail::Usage)?;
        self.pids(&mut stats)?;
        stats.pressure = self.pressure()?;
        Ok(stats)
    }

    /// Ids of the processes in the group and below, in the caller's PID namespace. Of a group that is gone there are none.
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mount = self.hierarchy().tracking();
        let mut pids = Vec::new();
        let collected = match &self.source {
            Source::Group(group) => match group.member(mount) {
                Some(member) => collect_pids(member.dir.as_fd(), &mut pids),
                None => Ok(()),
            },
            Source::Path(hierarchy, path) => dir::open_dir(&hierarchy.mounts()[mount], path.relative())
                .and_then(|dir| collect_pids(dir.as_fd(), &mut pids)),
        };
        match collected {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(pids),
            Err(errno) => Err(self.error(mount, "cgroup.procs", errno)),
        }
    }

    fn pids(&mut self, stats: &mut CgroupStats) -> Result<()> {
        let Some(mount) = self.home(Controller::Pids) else {
            return Ok(());
        };
        let Some(current) = self.number(mount, "pids.current")? else {
            return Ok(());
        };
        let limit = self.text(mount, "pids.max", parse::limit)?.flatten();
        stats.pids = Some(super::PidsStats { current, limit });
        Ok(())
    }

    fn pressure(&mut self) -> Result<PressureSet> {
        let Some(mount) = self.hierarchy().unified() else {
            return Ok(PressureSet::default());
        };
        Ok(PressureSet {
            cpu: self.text(mount, "cpu.pressure", parse::pressure)?,
            memory: self.text(mount, "memory.pressure", parse::pressure)?,
            io: self.text(mount, "io.pressure", parse::pressure)?,
        })
    }

    // === for v1 and v2 ===

    pub(super) fn hierarchy(&self) -> &Hierarchy {
        match &self.source {
            Source::Group(group) => &group.hierarchy,
            Source::Path(hierarchy, _) => hierarchy,
        }
    }

    pub(super) fn home(&self, controller: Controller) -> Option<usize> {
        self.hierarchy().home(controller)
    }

    pub(super) fn is_unified(&self, mount: usize) -> bool {
        Some(mount) == self.hierarchy().unified()
    }

    pub(super) fn number(&mut self, mount: usize, name: impl Into<Cow<'static, str>>) -> Result<Option<u64>> {
        Ok(self.text(mount, name, |text| text.trim().parse().ok())?.flatten())
    }

    /// What `parse` makes of the file, or `None` when it or the group is not there.
    pub(super) fn text<T>(
        &mut self,
        mount: usize,
        name: impl Into<Cow<'static, str>>,
        parse: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>> {
        let name = name.into();
        let at = match self.files.iter().position(|file| file.mount == mount && file.name == name) {
            Some(at) => at,
            None => {
                let fd = self.open(mount, &name)?;
                self.files.push(File { mount, name: name.clone(), fd });
                self.files.len() - 1
            }
        };
        let Some(fd) = &self.files[at].fd else {
            return Ok(None);
        };
        match dir::read_at_start(fd, &mut self.buf) {
            Ok(()) => Ok(Some(parse(&String::from_utf8_lossy(&self.buf)))),
            // The group is gone, or the kernel runs with psi=0.
            Err(Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error(mount, &name, errno)),
        }
    }

    fn open(&self, mount: usize, name: &str) -> Result<Option<OwnedFd>> {
        let opened = match &self.source {
            Source::Group(group) => match group.member(mount) {
                Some(member) => dir::open_read(&member.dir, name),
                None => return Ok(None),
            },
            Source::Path(hierarchy, path) => {
                dir::open_read_below(&hierarchy.mounts()[mount], &format!("{}/{name}", path.relative()))
            }
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error(mount, name, errno)),
        }
    }

    fn error(&self, mount: usize, name: &str, errno: Errno) -> Error {
        let path = match &self.source {
            Source::Group(group) => group.file(mount, name),
            Source::Path(hierarchy, path) => hierarchy.full_path(mount, path).join(name),
        };
        Error::Read { path, source: errno.into() }
    }
}
