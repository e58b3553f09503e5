//! Reading stat files through descriptors that stay open: half the cost of open, read, close.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{CgroupStats, PressureSet, parse};
use crate::{Cgroup, Controller, Result, dir};

/// Reads one group's statistics again and again. Holds a descriptor for each file it has read.
#[derive(Debug)]
pub struct StatsReader {
    pub(super) group: Cgroup,
    files: Vec<File>,
    buf: Vec<u8>,
}

#[derive(Debug)]
struct File {
    mount: usize,
    name: &'static str,
    /// `None`: looked for and not there. Files of a group do not appear later.
    fd: Option<OwnedFd>,
}

impl StatsReader {
    pub(super) fn new(group: Cgroup) -> Self {
        Self { group, files: Vec::new(), buf: Vec::new() }
    }

    /// A new snapshot. After the group was removed, everything is `None`.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read(&mut self) -> Result<CgroupStats> {
        let mut stats = self.read_usage()?;
        self.pids(&mut stats)?;
        self.hugetlb(&mut stats)?;
        self.io(&mut stats)?;
        Ok(stats)
    }

    /// CPU, memory, pressure and the number of tasks only: what the kubelet asks for every ten seconds.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read_usage(&mut self) -> Result<CgroupStats> {
        let mut stats = CgroupStats::default();
        self.cpu(&mut stats)?;
        self.memory(&mut stats)?;
        stats.pressure = self.pressure()?;
        Ok(stats)
    }

    /// Number of tasks.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn pids(&mut self, stats: &mut CgroupStats) -> Result<()> {
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
        let Some(mount) = self.group.hierarchy.unified() else {
            return Ok(PressureSet::default());
        };
        Ok(PressureSet {
            cpu: self.text(mount, "cpu.pressure", parse::pressure)?,
            memory: self.text(mount, "memory.pressure", parse::pressure)?,
            io: self.text(mount, "io.pressure", parse::pressure)?,
        })
    }

    // === for v1 and v2 ===

    pub(super) fn home(&self, controller: Controller) -> Option<usize> {
        self.group.dir_of(controller).map(|(mount, _)| mount)
    }

    pub(super) fn is_unified(&self, mount: usize) -> bool {
        Some(mount) == self.group.hierarchy.unified()
    }

    pub(super) fn number(&mut self, mount: usize, name: &'static str) -> Result<Option<u64>> {
        Ok(self.text(mount, name, |text| text.trim().parse().ok())?.flatten())
    }

    /// What `parse` makes of the file, or `None` when it or the group is not there.
    pub(super) fn text<T>(
        &mut self,
        mount: usize,
        name: &'static str,
        parse: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>> {
        let at = match self.files.iter().position(|file| file.mount == mount && file.name == name) {
            Some(at) => at,
            None => {
                let fd = self.open(mount, name)?;
                self.files.push(File { mount, name, fd });
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
            Err(errno) => Err(self.group.read_error(mount, name, errno)),
        }
    }

    fn open(&self, mount: usize, name: &'static str) -> Result<Option<OwnedFd>> {
        let Some(member) = self.group.member(mount) else {
            return Ok(None);
        };
        match dir::open_read(&member.dir, name) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.group.read_error(mount, name, errno)),
        }
    }
}
