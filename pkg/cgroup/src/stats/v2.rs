//! Statistics from the v2 tree, and the choice between it and v1.

use super::{
    CgroupStats, CpuStats, HugetlbStats, IoDeviceStats, MemoryStats, StatsReader, parse, reader::Detail,
};
use crate::{Controller, Result};

/// The page sizes of the architectures husk runs on, as the kernel names them in hugetlb files.
const PAGE_SIZES: [&str; 5] = ["64KB", "2MB", "32MB", "512MB", "1GB"];

impl StatsReader {
    pub(super) fn cpu(&mut self, stats: &mut CgroupStats, detail: Detail) -> Result<()> {
        stats.cpu = match (self.home(Controller::CpuAcct), self.hierarchy().unified()) {
            (Some(acct), _) if !self.is_unified(acct) => self.cpu_v1(acct, detail)?,
            (_, Some(mount)) => self.cpu_v2(mount)?,
            _ => None,
        };
        Ok(())
    }

    pub(super) fn memory(&mut self, stats: &mut CgroupStats, detail: Detail) -> Result<()> {
        stats.memory = match self.home(Controller::Memory) {
            Some(mount) if self.is_unified(mount) => self.memory_v2(mount, detail)?,
            Some(mount) => self.memory_v1(mount, detail)?,
            None => None,
        };
        Ok(())
    }

    pub(super) fn io(&mut self, stats: &mut CgroupStats) -> Result<()> {
        stats.io = match self.home(Controller::Io) {
            Some(mount) if self.is_unified(mount) => self.io_v2(mount)?,
            Some(mount) => self.io_v1(mount)?,
            None => Vec::new(),
        };
        Ok(())
    }

    pub(super) fn hugetlb(&mut self, stats: &mut CgroupStats) -> Result<()> {
        let Some(mount) = self.home(Controller::HugeTlb) else {
            return Ok(());
        };
        for size in PAGE_SIZES {
            let one = if self.is_unified(mount) {
                self.hugetlb_v2(mount, size)
            } else {
                self.hugetlb_v1(mount, size)
            };
            stats.hugetlb.extend(one?);
        }
        Ok(())
    }

    /// `cpu.stat` counts in microseconds; its first lines are there without the controller too.
    fn cpu_v2(&mut self, mount: usize) -> Result<Option<CpuStats>> {
        self.text(mount, "cpu.stat", |text| {
            let mut cpu = CpuStats::default();
            for (key, micros) in parse::keyed(text) {
                match key {
                    "usage_usec" => cpu.usage = micros * 1000,
                    "user_usec" => cpu.user = micros * 1000,
                    "system_usec" => cpu.system = micros * 1000,
                    "nr_periods" => cpu.periods = micros,
                    "nr_throttled" => cpu.throttled_periods = micros,
                    "throttled_usec" => cpu.throttled = micros * 1000,
                    _ => {}
                }
            }
            cpu
        })
    }

    fn memory_v2(&mut self, mount: usize, detail: Detail) -> Result<Option<MemoryStats>> {
        let Some(usage) = self.number(mount, "memory.current")? else {
            return Ok(None);
        };
        let mut memory = MemoryStats { usage, ..MemoryStats::default() };
        self.text(mount, "memory.stat", |text| {
            for (key, value) in parse::keyed(text) {
                match key {
                    "file" => memory.cache = value,
                    "anon" => memory.rss = value,
                    "file_mapped" => memory.mapped_file = value,
                    "inactive_file" => memory.inactive_file = value,
                    "active_file" => memory.active_file = value,
                    "kernel" => memory.kernel = value,
                    "pgfault" => memory.page_faults = value,
                    "pgmajfault" => memory.major_page_faults = value,
                    _ => {}
                }
            }
        })?;
        memory.working_set = usage.saturating_sub(memory.inactive_file);
        memory.limit = self.text(mount, "memory.max", parse::limit)?.flatten();
        if detail == Detail::Full {
            memory.max_usage = self.number(mount, "memory.peak")?.unwrap_or_default();
            self.text(mount, "memory.events", |text| {
                for (key, value) in parse::keyed(text) {
                    match key {
                        "max" => memory.failures = value,
                        "oom_kill" => memory.oom_kills = value,
                        _ => {}
                    }
                }
            })?;
        }
        memory.swap = self.number(mount, "memory.swap.current")?;
        memory.swap_limit = self.text(mount, "memory.swap.max", parse::limit)?.flatten();
        Ok(Some(memory))
    }

    fn io_v2(&mut self, mount: usize) -> Result<Vec<IoDeviceStats>> {
        Ok(self.text(mount, "io.stat", parse::io_v2)?.unwrap_or_default())
    }

    fn hugetlb_v2(&mut self, mount: usize, page_size: &str) -> Result<Option<HugetlbStats>> {
        let file = |name: &str| format!("hugetlb.{page_size}.{name}");
        let Some(usage) = self.number(mount, file("current"))? else {
            return Ok(None);
        };
        let failures = self.text(mount, file("events"), |text| {
            parse::keyed(text).find(|(key, _)| *key == "max").map_or(0, |(_, value)| value)
        })?;
        let failures = failures.unwrap_or_default();
        Ok(Some(HugetlbStats { page_size: page_size.to_owned(), usage, max_usage: 0, failures }))
    }
}
