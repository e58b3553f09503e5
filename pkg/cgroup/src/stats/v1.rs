//! Statistics from v1 controller files.

use super::{CpuStats, HugetlbStats, IoDeviceStats, MemoryStats, StatsReader, parse, reader::Detail};
use crate::{Controller, Result};

impl StatsReader {
    /// `cpuacct` counts in nanoseconds by user and system; throttling is `cpu`'s.
    pub(super) fn cpu_v1(&mut self, acct: usize, detail: Detail) -> Result<Option<CpuStats>> {
        let Some(usage) = self.number(acct, "cpuacct.usage")? else {
            return Ok(None);
        };
        if detail == Detail::Usage {
            return Ok(Some(CpuStats { usage, ..CpuStats::default() }));
        }
        let mut cpu = CpuStats {
            usage,
            user: self.number(acct, "cpuacct.usage_user")?.unwrap_or_default(),
            system: self.number(acct, "cpuacct.usage_sys")?.unwrap_or_default(),
            ..CpuStats::default()
        };
        if let Some(mount) = self.home(Controller::Cpu) {
            self.text(mount, "cpu.stat", |text| {
                for (key, value) in parse::keyed(text) {
                    match key {
                        "nr_periods" => cpu.periods = value,
                        "nr_throttled" => cpu.throttled_periods = value,
                        "throttled_time" => cpu.throttled = value,
                        _ => {}
                    }
                }
            })?;
        }
        Ok(Some(cpu))
    }

    pub(super) fn memory_v1(&mut self, mount: usize, detail: Detail) -> Result<Option<MemoryStats>> {
        let Some(usage) = self.number(mount, "memory.usage_in_bytes")? else {
            return Ok(None);
        };
        let mut memory = MemoryStats { usage, ..MemoryStats::default() };
        let mut swap = None;
        self.text(mount, "memory.stat", |text| {
            for (key, value) in parse::keyed(text) {
                match key {
                    "total_cache" => memory.cache = value,
                    "total_rss" => memory.rss = value,
                    "total_mapped_file" => memory.mapped_file = value,
                    "total_inactive_file" => memory.inactive_file = value,
                    "total_active_file" => memory.active_file = value,
                    "total_pgfault" => memory.page_faults = value,
                    "total_pgmajfault" => memory.major_page_faults = value,
                    // Present only with swap accounting.
                    "total_swap" => swap = Some(value),
                    _ => {}
                }
            }
        })?;
        memory.working_set = usage.saturating_sub(memory.inactive_file);
        memory.limit = self.text(mount, "memory.limit_in_bytes", parse::limit)?.flatten();
        if detail == Detail::Full {
            memory.max_usage = self.number(mount, "memory.max_usage_in_bytes")?.unwrap_or_default();
            memory.failures = self.number(mount, "memory.failcnt")?.unwrap_or_default();
            self.text(mount, "memory.oom_control", |text| {
                memory.oom_kills =
                    parse::keyed(text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, value)| value);
            })?;
            memory.kernel = self.number(mount, "memory.kmem.usage_in_bytes")?.unwrap_or_default();
        }
        memory.swap = swap;
        if swap.is_some() {
            let memsw = self.text(mount, "memory.memsw.limit_in_bytes", parse::limit)?.flatten();
            memory.swap_limit = memsw.zip(memory.limit).map(|(memsw, limit)| memsw.saturating_sub(limit));
        }
        Ok(Some(memory))
    }

    pub(super) fn io_v1(&mut self, mount: usize) -> Result<Vec<IoDeviceStats>> {
        let mut devices = Vec::new();
        for (file, bytes) in [
            ("blkio.throttle.io_service_bytes_recursive", true),
            ("blkio.throttle.io_serviced_recursive", false),
        ] {
            self.text(mount, file, |text| parse::io_v1(&mut devices, text, bytes))?;
        }
        Ok(devices)
    }

    pub(super) fn hugetlb_v1(&mut self, mount: usize, page_size: &str) -> Result<Option<HugetlbStats>> {
        let mut number = |file: &str| self.number(mount, format!("hugetlb.{page_size}.{file}"));
        let Some(usage) = number("usage_in_bytes")? else {
            return Ok(None);
        };
        Ok(Some(HugetlbStats {
            page_size: page_size.to_owned(),
            usage,
            max_usage: number("max_usage_in_bytes")?.unwrap_or_default(),
            failures: number("failcnt")?.unwrap_or_default(),
        }))
    }
}
