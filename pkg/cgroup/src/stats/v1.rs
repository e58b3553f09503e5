//! Statistics from v1 controller files.

use super::{
    files::Files,
    parse,
    usage::{CpuStats, HugetlbStats, IoDeviceStats, MemoryStats},
};
use crate::{Controller, Result, tree::Tree};

/// `cpuacct` counts in nanoseconds by user and system; throttling is `cpu`'s.
pub(super) fn cpu(files: &mut Files, acct: &Tree, full: bool) -> Result<Option<CpuStats>> {
    let Some(usage) = files.number(acct, "cpuacct.usage")? else {
        return Ok(None);
    };
    if !full {
        return Ok(Some(CpuStats { usage, ..CpuStats::default() }));
    }
    let mut cpu = CpuStats {
        usage,
        user: files.number(acct, "cpuacct.usage_user")?.unwrap_or_default(),
        system: files.number(acct, "cpuacct.usage_sys")?.unwrap_or_default(),
        ..CpuStats::default()
    };
    if let Some(tree) = files.home(Controller::Cpu) {
        files.text(&tree, "cpu.stat", |text| {
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

/// Everything that a v1 group's memory files tell.
pub(super) fn memory(files: &mut Files, tree: &Tree, full: bool) -> Result<Option<MemoryStats>> {
    let Some(usage) = files.number(tree, "memory.usage_in_bytes")? else {
        return Ok(None);
    };
    let mut memory = MemoryStats { usage, ..MemoryStats::default() };
    let mut swap = None;
    files.text(tree, "memory.stat", |text| {
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
    memory.limit = files.text(tree, "memory.limit_in_bytes", parse::limit)?.flatten();
    if full {
        memory.max_usage = files.number(tree, "memory.max_usage_in_bytes")?.unwrap_or_default();
        memory.failures = files.number(tree, "memory.failcnt")?.unwrap_or_default();
        files.text(tree, "memory.oom_control", |text| {
            memory.oom_kills =
                parse::keyed(text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, value)| value);
        })?;
        memory.kernel = files.number(tree, "memory.kmem.usage_in_bytes")?.unwrap_or_default();
    }
    memory.swap = swap;
    if swap.is_some() {
        let memsw = files.text(tree, "memory.memsw.limit_in_bytes", parse::limit)?.flatten();
        memory.swap_limit = memsw.zip(memory.limit).map(|(memsw, limit)| memsw.saturating_sub(limit));
    }
    Ok(Some(memory))
}

/// By device.
pub(super) fn io(files: &mut Files, tree: &Tree) -> Result<Vec<IoDeviceStats>> {
    let mut devices = Vec::new();
    for (file, bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        files.text(tree, file, |text| parse::io_v1(&mut devices, text, bytes))?;
    }
    Ok(devices)
}

/// One page size.
pub(super) fn hugetlb(files: &mut Files, tree: &Tree, page_size: &str) -> Result<Option<HugetlbStats>> {
    let mut number = |file: &str| files.number(tree, format!("hugetlb.{page_size}.{file}"));
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
