//! `events --stats`: what a container uses, in runc's form.

use husk_cgroup::{CgroupStats, Pressure};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Container, Error, Result, Status, group};

/// One event.
#[derive(Debug, Serialize)]
pub struct Event {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// That a container ran out of memory.
pub fn out_of_memory(container: &Container) -> Event {
    Event { kind: "oom", id: container.record.id.clone(), data: None }
}

/// How many processes of a container were killed for lack of memory. A container that has ended is asked as well.
///
/// # Errors
/// Its cgroup cannot be read.
pub fn memory_kills(container: &Container) -> Result<u64> {
    Ok(group::of(container.record.cgroup.as_deref())?
        .map(|group| group.oom_kills())
        .transpose()?
        .unwrap_or(0))
}

/// What a container uses now, as one event.
///
/// # Errors
/// [`Error::NotRunning`]; its cgroup cannot be read.
pub fn stats(container: &Container) -> Result<Event> {
    if container.status()? == Status::Stopped {
        return Err(Error::WrongState(format!("container with id {} is not running", container.record.id)));
    }
    let group = group::of(container.record.cgroup.as_deref())?.ok_or(Error::NotRunning)?;
    Ok(Event { kind: "stats", id: container.record.id.clone(), data: Some(data(&group.stats()?)) })
}

fn data(stats: &CgroupStats) -> Value {
    let cpu = stats.cpu.clone().unwrap_or_default();
    let memory = stats.memory.clone().unwrap_or_default();
    let pids = stats.pids.clone().unwrap_or_default();
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for device in &stats.io {
        let entry = |op: &str, value: u64| json!({ "major": device.major, "minor": device.minor, "op": op, "value": value });
        bytes.extend([entry("Read", device.read_bytes), entry("Write", device.write_bytes)]);
        operations.extend([entry("Read", device.reads), entry("Write", device.writes)]);
    }
    let hugetlb: Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|pages| {
            let value = json!({ "usage": pages.usage, "max": pages.max_usage, "failcnt": pages.failures });
            (pages.page_size.clone(), value)
        })
        .collect();
    json!({
        "cpu": {
            "usage": { "total": cpu.usage, "kernel": cpu.system, "user": cpu.user },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled
            },
            "psi": pressure(stats.pressure.cpu)
        },
        "memory": {
            "cache": memory.cache,
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failures
            },
            "swap": { "limit": memory.swap_limit.unwrap_or(u64::MAX), "usage": memory.swap.unwrap_or(0), "failcnt": 0 },
            "kernel": { "limit": u64::MAX, "usage": memory.kernel, "failcnt": 0 },
            "raw": {
                "rss": memory.rss, "anon": memory.rss, "file": memory.cache, "mapped_file": memory.mapped_file,
                "inactive_file": memory.inactive_file, "active_file": memory.active_file,
                "total_inactive_file": memory.inactive_file, "pgfault": memory.page_faults,
                "pgmajfault": memory.major_page_faults, "oom_kill": memory.oom_kills
            },
            "psi": pressure(stats.pressure.memory)
        },
        "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": bytes,
            "ioServicedRecursive": operations,
            "psi": pressure(stats.pressure.io)
        },
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": null
    })
}

fn pressure(pressure: Option<Pressure>) -> Value {
    let line = |line: husk_cgroup::PressureLine| json!({ "avg10": line.avg10, "avg60": line.avg60, "avg300": line.avg300, "total": line.total });
    pressure
        .map_or(Value::Null, |pressure| json!({ "some": line(pressure.some), "full": line(pressure.full) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_controller_there_is_a_number_all_the_same() {
        let data = data(&CgroupStats::default());
        assert_eq!(data["cpu"]["usage"]["total"], 0);
        assert_eq!(data["memory"]["usage"]["limit"], u64::MAX);
    }
}
