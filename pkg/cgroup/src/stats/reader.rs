//! The choice between v1 and v2, controller by controller.

use super::{
    files::{Files, Source},
    parse,
    usage::{CgroupStats, PidsStats, PressureSet},
    v1, v2,
};
use crate::{Cgroup, CgroupPath, Controller, Hierarchy, Result};

/// The page sizes of the architectures husk runs on, as the kernel names them in hugetlb files.
const PAGE_SIZES: [&str; 5] = ["64KB", "2MB", "32MB", "512MB", "1GB"];

/// Reads one group's statistics again and again. Holds a descriptor for each file it has read.
#[derive(Debug)]
pub struct StatsReader(Files);

impl Cgroup {
    /// Reads everything once. For repeated reads use [`Cgroup::stats_reader`], which keeps the files open.
    ///
    /// # Errors
    /// A file that exists can't be read, or has an unknown form.
    pub fn stats(&self) -> Result<CgroupStats> {
        self.stats_reader().read()
    }

    /// A reader for this group. Nothing is opened before its first read.
    pub fn stats_reader(&self) -> StatsReader {
        StatsReader(Files::new(Source::Group(self.clone())))
    }
}

impl Hierarchy {
    /// A reader for the group at `path` that keeps no directory open. A group that does not exist reads as `None`s.
    pub fn stats_reader(&self, path: &CgroupPath) -> StatsReader {
        StatsReader(Files::new(Source::Path(self.clone(), path.clone())))
    }
}

impl StatsReader {
    /// A new snapshot. After the group was removed, everything is `None`.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read(&mut self) -> Result<CgroupStats> {
        let mut stats = self.usage(true)?;
        self.hugetlb(&mut stats)?;
        self.io(&mut stats)?;
        Ok(stats)
    }

    /// What the kubelet asks for every ten seconds, from as few files as possible: total CPU time, memory and swap with
    /// their limits, pressure, tasks. The other fields are 0 or empty.
    ///
    /// # Errors
    /// A file that exists can't be read.
    pub fn read_usage(&mut self) -> Result<CgroupStats> {
        self.usage(false)
    }

    /// The memory limit of this very group; `None` is unlimited, or a group that does not exist.
    ///
    /// # Errors
    /// The file exists and can't be read.
    pub fn memory_limit(&mut self) -> Result<Option<u64>> {
        let Some(tree) = self.0.home(Controller::Memory) else { return Ok(None) };
        let file = if tree.is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        Ok(self.0.text(&tree, file, parse::limit)?.flatten())
    }

    /// Ids of the processes in the group and below, in the caller's PID namespace. Of a group that is gone there are none.
    /// They are the numbers of this moment, to be counted and not to be acted on.
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        self.0.processes()
    }

    fn usage(&mut self, full: bool) -> Result<CgroupStats> {
        let mut stats = CgroupStats::default();
        self.cpu(&mut stats, full)?;
        self.memory(&mut stats, full)?;
        self.pids(&mut stats)?;
        self.pressure(&mut stats)?;
        Ok(stats)
    }

    fn cpu(&mut self, stats: &mut CgroupStats, full: bool) -> Result<()> {
        let files = &mut self.0;
        stats.cpu = match (files.home(Controller::CpuAcct), files.unified()) {
            (Some(acct), _) if !acct.is_v2() => v1::cpu(files, &acct, full)?,
            (_, Some(tree)) => v2::cpu(files, &tree)?,
            _ => None,
        };
        Ok(())
    }

    fn memory(&mut self, stats: &mut CgroupStats, full: bool) -> Result<()> {
        stats.memory = match self.0.home(Controller::Memory) {
            Some(tree) if tree.is_v2() => v2::memory(&mut self.0, &tree, full)?,
            Some(tree) => v1::memory(&mut self.0, &tree, full)?,
            None => None,
        };
        Ok(())
    }

    fn pids(&mut self, stats: &mut CgroupStats) -> Result<()> {
        let Some(tree) = self.0.home(Controller::Pids) else {
            return Ok(());
        };
        let Some(current) = self.0.number(&tree, "pids.current")? else {
            return Ok(());
        };
        let limit = self.0.text(&tree, "pids.max", parse::limit)?.flatten();
        stats.pids = Some(PidsStats { current, limit });
        Ok(())
    }

    fn io(&mut self, stats: &mut CgroupStats) -> Result<()> {
        stats.io = match self.0.home(Controller::Io) {
            Some(tree) if tree.is_v2() => v2::io(&mut self.0, &tree)?,
            Some(tree) => v1::io(&mut self.0, &tree)?,
            None => Vec::new(),
        };
        Ok(())
    }

    fn hugetlb(&mut self, stats: &mut CgroupStats) -> Result<()> {
        let Some(tree) = self.0.home(Controller::HugeTlb) else {
            return Ok(());
        };
        let hugetlb = if tree.is_v2() { v2::hugetlb } else { v1::hugetlb };
        for size in PAGE_SIZES {
            stats.hugetlb.extend(hugetlb(&mut self.0, &tree, size)?);
        }
        Ok(())
    }

    fn pressure(&mut self, stats: &mut CgroupStats) -> Result<()> {
        let Some(tree) = self.0.unified() else {
            return Ok(());
        };
        stats.pressure = PressureSet {
            cpu: self.0.text(&tree, "cpu.pressure", parse::pressure)?,
            memory: self.0.text(&tree, "memory.pressure", parse::pressure)?,
            io: self.0.text(&tree, "io.pressure", parse::pressure)?,
        };
        Ok(())
    }
}
