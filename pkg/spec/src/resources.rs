//! Limits.

use husk_model::{BlockIo, DeviceRate, Resources};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxHugepageLimitBuilder, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDeviceBuilder,
};

use crate::SpecError;

/// CRI limits as the spec's resources. Only what is set appears.
///
/// Without a swap limit a memory limit is also the limit of memory plus swap: a container that asks for 64 MiB must not get
/// 64 MiB and all of the swap (the kubelet always sends both; crictl does not).
///
/// # Errors
/// When a hugepage limit exceeds the spec's signed type.
pub fn linux_resources(resources: &Resources) -> Result<LinuxResources, SpecError> {
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(period) = resources.cpu_period {
        cpu = cpu.period(period);
    }
    if let Some(quota) = resources.cpu_quota {
        cpu = cpu.quota(quota);
    }
    if let Some(shares) = resources.cpu_shares {
        cpu = cpu.shares(shares);
    }
    if !resources.cpuset_cpus.is_empty() {
        cpu = cpu.cpus(resources.cpuset_cpus.as_str());
    }
    if !resources.cpuset_mems.is_empty() {
        cpu = cpu.mems(resources.cpuset_mems.as_str());
    }
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(limit) = resources.memory_limit {
        memory = memory.limit(limit);
    }
    if let Some(swap) = resources.memory_swap_limit.or(resources.memory_limit) {
        memory = memory.swap(swap);
    }
    if let Some(reservation) = resources.memory_reservation {
        memory = memory.reservation(reservation);
    }
    let mut builder =
        LinuxResourcesBuilder::default().cpu(cpu.build()?).memory(memory.build()?).devices(Vec::new());
    if !resources.hugepages.is_empty() {
        let limits = resources.hugepages.iter().map(|page| {
            let limit = i64::try_from(page.limit)
                .map_err(|_| SpecError::TooLarge { field: "hugepage_limits.limit", value: page.limit })?;
            Ok(LinuxHugepageLimitBuilder::default()
                .page_size(page.page_size.as_str())
                .limit(limit)
                .build()?)
        });
        builder = builder.hugepage_limits(limits.collect::<Result<Vec<_>, SpecError>>()?);
    }
    if let Some(limit) = resources.pids_limit {
        builder = builder.pids(LinuxPidsBuilder::default().limit(limit).build()?);
    }
    if resources.block_io != BlockIo::default() {
        builder = builder.block_io(block_io(&resources.block_io)?);
    }
    if !resources.unified.is_empty() {
        builder = builder
            .unified(resources.unified.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    Ok(builder.build()?)
}

fn block_io(io: &BlockIo) -> Result<LinuxBlockIo, SpecError> {
    let throttles = |devices: &[DeviceRate]| -> Result<Vec<LinuxThrottleDevice>, SpecError> {
        let throttle = |device: &DeviceRate| {
            let builder = LinuxThrottleDeviceBuilder::default().rate(device.rate);
            Ok(builder.major(i64::from(device.major)).minor(i64::from(device.minor)).build()?)
        };
        devices.iter().map(throttle).collect()
    };
    let weight = |device: &DeviceRate| {
        let weight = u16::try_from(device.rate)
            .map_err(|_| SpecError::TooLarge { field: "block_io.weights", value: device.rate })?;
        let builder = LinuxWeightDeviceBuilder::default().weight(weight);
        Ok(builder.major(i64::from(device.major)).minor(i64::from(device.minor)).build()?)
    };
    let mut builder = LinuxBlockIoBuilder::default()
        .weight_device(io.weights.iter().map(weight).collect::<Result<Vec<_>, SpecError>>()?)
        .throttle_read_bps_device(throttles(&io.read_bytes)?)
        .throttle_write_bps_device(throttles(&io.write_bytes)?)
        .throttle_read_iops_device(throttles(&io.reads)?)
        .throttle_write_iops_device(throttles(&io.writes)?);
    if let Some(weight) = io.weight {
        builder = builder.weight(weight);
    }
    Ok(builder.build()?)
}
