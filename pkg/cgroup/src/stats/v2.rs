//! Statistics from the v2 tree.

use super::{
    files::Files,
    parse,
    usage::{CpuStats, HugetlbStats, IoDeviceStats, MemoryStats},
};
use crate::{Result, tree::Tree};

/// `cpu.stat` counts in microseconds; its first lines are there without the controller too.
pub(super) fn cpu(files: &mut Files, tree: &Tree) -> Result<Option<CpuStats>> {
    files.text(tree, "cpu.stat", |text| {
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

/// Everything that a v2 group's memory files tell.
pub(super) fn memory(files: &mut Files, tree: &Tree, full: bool) -> Result<Option<MemoryStats>> {
    let Some(usage) = files.number(tree, "memory.current")? else {
        return Ok(None);
    };
    let mut memory = MemoryStats { usage, ..MemoryStats::default() };
    files.text(tree, "memory.stat", |text| {
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
    memory.limit = files.text(tree, "memory.max", parse::limit)?.flatten();
    if full {
        memory.max_usage = files.number(tree, "memory.peak")?.unwrap_or_default();
        files.text(tree, "memory.events", |text| {
            for (key, value) in parse::keyed(text) {
                match key {
                    "max" => memory.failures = value,
                    "oom_kill" => memory.oom_kills = value,
                    _ => {}
                }
            }
        })?;
    }
    memory.swap = files.number(tree, "memory.swap.current")?;
    memory.swap_limit = files.text(tree, "memory.swap.max", parse::limit)?.flatten();
    Ok(Some(memory))
}

/// By device.
pub(super) fn io(files: &mut Files, tree: &Tree) -> Result<Vec<IoDeviceStats>> {
    Ok(files.text(tree, "io.stat", parse::io_v2)?.unwrap_or_default())
}

/// One page size.
pub(super) fn hugetlb(files: &mut Files, tree: &Tree, page_size: &str) -> Result<Option<HugetlbStats>> {
    let file = |name: &str| format!("hugetlb.{page_size}.{name}");
    let Some(usage) = files.number(tree, file("current"))? else {
        return Ok(None);
    };
    let failures = files.text(tree, file("events"), |text| {
        parse::keyed(text).find(|(key, _)| *key == "max").map_or(0, |(_, value)| value)
    })?;
    let failures = failures.unwrap_or_default();
    Ok(Some(HugetlbStats { page_size: page_size.to_owned(), usage, max_usage: 0, failures }))
}
