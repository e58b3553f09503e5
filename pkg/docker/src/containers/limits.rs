//! Limits of a container: from a host configuration to the engine's.

use husk_model::{BlockIo, DeviceRate, Resources, Rlimit};
use rustix::fs::{FileType, major, minor};

use crate::{
    api::container::{HostConfig, ThrottleDevice, WeightDevice},
    error::{Failure, Result},
};

/// Least memory limit, as dockerd has it.
const LEAST_MEMORY: i64 = 6 << 20;

/// Limits of a host configuration.
///
/// # Errors
/// 400 with the field.
pub(super) fn resources(host: &HostConfig) -> Result<Resources> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let bad = |text: &str| Failure::bad(text);
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return Err(bad("Minimum memory limit allowed is 6MB"));
    }
    if host.memory_swap > 0 && host.memory == 0 {
        return Err(bad("You should always set the Memory limit when using Memoryswap limit"));
    }
    if host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(bad("Minimum memoryswap limit should be larger than memory limit"));
    }
    if host.memory_reservation != 0 && host.memory_reservation < LEAST_MEMORY {
        return Err(bad("Minimum memory reservation allowed is 6MB"));
    }
    if host.memory > 0 && host.memory < host.memory_reservation {
        return Err(bad("Minimum memory limit can not be less than memory reservation limit, see usage"));
    }
    if host.nano_cpus != 0 && (host.cpu_quota != 0 || host.cpu_period != 0) {
        return Err(bad("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set"));
    }
    if host.nano_cpus < 0 || host.cpu_shares < 0 || host.cpu_period < 0 {
        return Err(bad("a limit of CPUs is negative"));
    }
    let there =
        i64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(i64::MAX);
    if host.nano_cpus > there.saturating_mul(1_000_000_000) {
        return Err(Failure::bad(format!(
            "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )));
    }
    let (period, quota) = match host.nano_cpus {
        0 => (positive(host.cpu_period), Some(host.cpu_quota).filter(|quota| *quota != 0)),
        nanos => (Some(100_000), Some(nanos / 10_000)),
    };
    Ok(Resources {
        cpu_period: period,
        cpu_quota: quota,
        cpu_shares: positive(host.cpu_shares),
        memory_limit: Some(host.memory).filter(|limit| *limit > 0),
        // As much swap as memory, unless something is said.
        memory_swap_limit: match (host.memory_swap, host.memory) {
            (0, 0) => None,
            (0, memory) => memory.checked_mul(2),
            (swap, _) => Some(swap),
        },
        oom_score_adj: i32::try_from(host.oom_score_adj.clamp(-1000, 1000)).unwrap_or(0),
        cpuset_cpus: cpus("CpusetCpus", &host.cpuset_cpus)?,
        cpuset_mems: cpus("CpusetMems", &host.cpuset_mems)?,
        pids_limit: host.pids_limit.filter(|limit| *limit > 0),
        memory_reservation: Some(host.memory_reservation).filter(|bytes| *bytes != 0),
        block_io: block_io(host)?,
        ..Resources::default()
    })
}

fn block_io(host: &HostConfig) -> Result<BlockIo> {
    const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;
    let wrong = || Failure::bad("Range of blkio weight is from 10 to 1000");
    if host.blkio_weight != 0 && !WEIGHTS.contains(&host.blkio_weight.into()) {
        return Err(wrong());
    }
    let weight = |device: &WeightDevice| match WEIGHTS.contains(&device.weight) {
        true => device_rate(&device.path, device.weight),
        false => Err(wrong()),
    };
    let rates = |devices: &Option<Vec<ThrottleDevice>>| -> Result<Vec<DeviceRate>> {
        devices.iter().flatten().map(|device| device_rate(&device.path, device.rate)).collect()
    };
    Ok(BlockIo {
        weight: Some(host.blkio_weight).filter(|weight| *weight != 0),
        weights: host.blkio_weight_device.iter().flatten().map(weight).collect::<Result<_>>()?,
        read_bytes: rates(&host.blkio_device_read_bps)?,
        write_bytes: rates(&host.blkio_device_write_bps)?,
        reads: rates(&host.blkio_device_read_iops)?,
        writes: rates(&host.blkio_device_write_iops)?,
    })
}

fn device_rate(path: &str, rate: u64) -> Result<DeviceRate> {
    let wrong = |why: &str| Failure::bad(format!("block device {:?}: {why}", cut(path)));
    if !path.starts_with('/') {
        return Err(wrong("a path of the node is expected"));
    }
    let stat = rustix::fs::stat(path).map_err(|errno| wrong(&std::io::Error::from(errno).to_string()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => {
            Ok(DeviceRate { major: major(stat.st_rdev), minor: minor(stat.st_rdev), rate })
        }
        _ => Err(wrong("it is no block device")),
    }
}

fn cpus(field: &str, list: &str) -> Result<String> {
    match list.bytes().all(|byte| byte.is_ascii_digit() || b",- ".contains(&byte)) {
        true => Ok(list.replace(' ', "")),
        false => Err(Failure::bad(format!("invalid HostConfig.{field} {:?}", cut(list)))),
    }
}

/// Limits of its processes.
///
/// # Errors
/// 400 with the limit.
pub(super) fn rlimits(host: &HostConfig) -> Result<Vec<Rlimit>> {
    const NAMES: [&str; 16] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
        "as",
    ];
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let parse = |ulimit: &crate::api::container::Ulimit| {
        if !NAMES.contains(&ulimit.name.as_str()) {
            return Err(Failure::bad(format!("invalid ulimit type: {}", cut(&ulimit.name))));
        }
        let (soft, hard) = (limit(ulimit.soft), limit(ulimit.hard));
        if soft > hard {
            return Err(Failure::bad(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
        Ok(Rlimit { name: ulimit.name.clone(), soft, hard })
    };
    host.ulimits.iter().flatten().map(parse).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn limits_are_those_of_the_request() {
        let limits = resources(&host(r#"{"Memory":67108864,"NanoCpus":500000000,"PidsLimit":7}"#)).unwrap();
        assert_eq!((limits.memory_limit, limits.memory_swap_limit), (Some(64 << 20), Some(128 << 20)));
        assert_eq!((limits.cpu_period, limits.cpu_quota), (Some(100_000), Some(50_000)));
        assert_eq!(limits.pids_limit, Some(7));
        assert_eq!(resources(&HostConfig::default()).unwrap(), Resources::default());
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        for text in [
            r#"{"Memory":1}"#,
            r#"{"MemorySwap":67108864}"#,
            r#"{"Memory":67108864,"MemorySwap":6710886}"#,
            r#"{"NanoCpus":1,"CpuQuota":1}"#,
            r#"{"CpusetCpus":"0;reboot"}"#,
        ] {
            assert_eq!(resources(&host(text)).unwrap_err().status(), 400, "{text}");
        }
        assert!(rlimits(&host(r#"{"Ulimits":[{"Name":"files","Soft":1,"Hard":1}]}"#)).is_err());
        assert!(rlimits(&host(r#"{"Ulimits":[{"Name":"nofile","Soft":2,"Hard":1}]}"#)).is_err());
        let unlimited = rlimits(&host(r#"{"Ulimits":[{"Name":"core","Soft":-1,"Hard":-1}]}"#)).unwrap();
        assert_eq!(unlimited[0].hard, u64::MAX);
    }

    #[test]
    fn what_is_kept_and_what_devices_give_is_checked() {
        let limits =
            resources(&host(r#"{"Memory":67108864,"MemoryReservation":33554432,"BlkioWeight":500}"#))
                .unwrap();
        assert_eq!((limits.memory_reservation, limits.block_io.weight), (Some(32 << 20), Some(500)));
        for text in [
            r#"{"MemoryReservation":1}"#,
            r#"{"Memory":33554432,"MemoryReservation":67108864}"#,
            r#"{"BlkioWeight":9}"#,
            r#"{"BlkioWeightDevice":[{"Path":"/dev/null","Weight":500}]}"#,
            r#"{"BlkioDeviceReadBps":[{"Path":"/nonexistent/husk","Rate":1}]}"#,
            r#"{"BlkioDeviceWriteIOps":[{"Path":"null","Rate":1}]}"#,
        ] {
            assert_eq!(resources(&host(text)).unwrap_err().status(), 400, "{text}");
        }
    }
}
