//! Which limits a plugin's answer sets, field by field.

use husk_proto::nri::{Field, LinuxResources};

use crate::{NriError, owners::Owners};

/// Claims every limit that is set.
pub(crate) fn claim(
    owners: &mut Owners,
    container: &str,
    resources: &LinuxResources,
    plugin: &str,
) -> Result<(), NriError> {
    for (field, key) in fields(resources) {
        owners.claim(container, field, &key, plugin)?;
    }
    Ok(())
}

fn fields(resources: &LinuxResources) -> Vec<(Field, String)> {
    let mut set = Vec::new();
    let mut simple = |field: Field, is_set: bool| {
        if is_set {
            set.push((field, String::new()));
        }
    };
    if let Some(memory) = &resources.memory {
        simple(Field::MemLimit, memory.limit.is_some());
        simple(Field::MemReservation, memory.reservation.is_some());
        simple(Field::MemSwapLimit, memory.swap.is_some());
        simple(Field::MemKernelLimit, memory.kernel.is_some());
        simple(Field::MemTcpLimit, memory.kernel_tcp.is_some());
        simple(Field::MemSwappiness, memory.swappiness.is_some());
        simple(Field::MemDisableOomKiller, memory.disable_oom_killer.is_some());
        simple(Field::MemUseHierarchy, memory.use_hierarchy.is_some());
    }
    if let Some(cpu) = &resources.cpu {
        simple(Field::CpuShares, cpu.shares.is_some());
        simple(Field::CpuQuota, cpu.quota.is_some());
        simple(Field::CpuPeriod, cpu.period.is_some());
        simple(Field::CpuRealtimeRuntime, cpu.realtime_runtime.is_some());
        simple(Field::CpuRealtimePeriod, cpu.realtime_period.is_some());
        simple(Field::CpuSetCpUs, !cpu.cpus.is_empty());
        simple(Field::CpuSetMems, !cpu.mems.is_empty());
    }
    simple(Field::PidsLimit, resources.pids.is_some());
    set.extend(resources.hugepage_limits.iter().map(|page| (Field::HugepageLimits, page.page_size.clone())));
    set.extend(resources.unified.keys().map(|key| (Field::CgroupsUnified, key.clone())));
    set
}
