//! Limits.

use husk_model::{HugepageLimit, Resources};
use husk_proto::cri::v1;

use super::check::{Checked, invalid, line};

/// A container whose limit is lower cannot even be set up: its init is charged while it mounts the root.
pub(crate) const MEMORY_FLOOR: i64 = 512 << 10;

/// The kernel's list format (cpuset(7)); empty is not set.
fn list(field: &str, value: String) -> Checked<String> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten()
    };
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if value.is_empty() || value.split(',').all(range) {
        Ok(value)
    } else {
        Err(invalid(field, format!("{value:?} is not a list such as 0-3,7")))
    }
}

fn memory(field: &str, value: i64) -> Checked<Option<i64>> {
    match value {
        0 => Ok(None),
        ..0 => Ok(Some(-1)),
        bytes if bytes < MEMORY_FLOOR => Err(invalid(
            field,
            format!("{bytes} is below the {MEMORY_FLOOR} bytes that starting a container takes"),
        )),
        bytes => Ok(Some(bytes)),
    }
}

/// Zero means "not set" for every field but `oom_score_adj`.
pub(crate) fn resources(field: &str, message: v1::LinuxContainerResources) -> Checked<Resources> {
    let at = |name: &str| format!("{field}.{name}");
    let unsigned = |name: &str, value: i64| match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(invalid(at(name), format!("{value} is negative"))),
    };
    let cpu_period = unsigned("cpu_period", message.cpu_period)?;
    if cpu_period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
        return Err(invalid(at("cpu_period"), "is not between 1000 and 1000000 microseconds"));
    }
    if (1..1_000).contains(&message.cpu_quota) {
        return Err(invalid(at("cpu_quota"), "is below the kernel's minimum of 1000 microseconds"));
    }
    let oom_score_adj = i32::try_from(message.oom_score_adj)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| {
            invalid(at("oom_score_adj"), format!("{} is not between -1000 and 1000", message.oom_score_adj))
        })?;
    let memory_limit = memory(&at("memory_limit_in_bytes"), message.memory_limit_in_bytes)?;
    let memory_swap_limit = memory(&at("memory_swap_limit_in_bytes"), message.memory_swap_limit_in_bytes)?;
    if let (Some(limit), Some(swap)) = (memory_limit, memory_swap_limit)
        && swap > 0
        && swap < limit
    {
        return Err(invalid(
            at("memory_swap_limit_in_bytes"),
            "counts memory plus swap, so it cannot be below memory_limit_in_bytes",
        ));
    }
    let mut unified = std::collections::BTreeMap::new();
    for (file, value) in message.unified {
        let name = at(&format!("unified[{file:?}]"));
        if file.contains('/') || !file.contains('.') {
            return Err(invalid(name, "is not the name of a cgroup v2 file"));
        }
        // The files of the group itself: writing a pid to cgroup.procs would move a process of the node.
        if file.starts_with("cgroup.") {
            return Err(invalid(name, "is not a limit"));
        }
        unified.insert(line(&name, file.clone())?, super::check::text(&name, value)?);
    }
    Ok(Resources {
        cpu_period,
        cpu_quota: match message.cpu_quota {
            0 => None,
            ..0 => Some(-1),
            quota => Some(quota),
        },
        cpu_shares: unsigned("cpu_shares", message.cpu_shares)?,
        memory_limit,
        memory_swap_limit,
        oom_score_adj,
        cpuset_cpus: list(&at("cpuset_cpus"), message.cpuset_cpus)?,
        cpuset_mems: list(&at("cpuset_mems"), message.cpuset_mems)?,
        hugepages: hugepages(&at("hugepage_limits"), message.hugepage_limits)?,
        unified,
        ..Resources::default()
    })
}

fn hugepages(field: &str, limits: Vec<v1::HugepageLimit>) -> Checked<Vec<HugepageLimit>> {
    limits
        .into_iter()
        .enumerate()
        .map(|(index, limit)| {
            // The name becomes part of a file's.
            if limit.page_size.is_empty() || !limit.page_size.bytes().all(|byte| byte.is_ascii_alphanumeric())
            {
                let name = format!("{field}[{index}].page_size");
                return Err(invalid(name, format!("{:?} is not a size such as 2MB", limit.page_size)));
            }
            Ok(HugepageLimit { page_size: limit.page_size, limit: limit.limit })
        })
        .collect()
}

/// Limits in force, for a status.
pub(crate) fn to_proto(resources: &Resources) -> v1::LinuxContainerResources {
    let signed = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: signed(resources.cpu_period),
        cpu_quota: resources.cpu_quota.unwrap_or(0),
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_limit.unwrap_or(0),
        oom_score_adj: resources.oom_score_adj.into(),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|limit| v1::HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        unified: resources.unified.clone().into_iter().collect(),
        // Without one it is the memory's: no swap (`husk_spec::linux_resources`).
        memory_swap_limit_in_bytes: resources.memory_swap_limit.or(resources.memory_limit).unwrap_or(0),
    }
}
