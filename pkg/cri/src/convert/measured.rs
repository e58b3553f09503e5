//! From measurements to answers.

use husk_model::{
    ContainerStatus, CpuStats, FilesystemStats, IoStats, MemoryStats, NetworkStats, Pressure, PressureStats,
    ResourceStats,
};
use husk_node::now;
use husk_pods::PodStats;
use husk_proto::cri::v1;

use super::output::{container_metadata, map, pod_metadata, unsigned};

/// The interface that the pod's address is on (CNI's name for the first one, and ours).
const DEFAULT_INTERFACE: &str = "eth0";

/// The kernel counts microseconds, the CRI nanoseconds.
fn pressure(pressure: Option<PressureStats>) -> Option<v1::PsiStats> {
    let line = |line: Pressure| v1::PsiData {
        total: line.total.saturating_mul(1000),
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    };
    pressure.map(|pressure| v1::PsiStats { full: Some(line(pressure.full)), some: Some(line(pressure.some)) })
}

/// Use of a filesystem.
pub(crate) fn filesystem(usage: &FilesystemStats) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: usage.timestamp,
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: usage.mountpoint.clone() }),
        used_bytes: unsigned(usage.used_bytes),
        inodes_used: unsigned(usage.inodes_used),
    }
}

fn cpu(cpu: &CpuStats) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: cpu.timestamp,
        usage_core_nano_seconds: unsigned(cpu.usage_core_nanos),
        usage_nano_cores: cpu.usage_nano_cores.and_then(unsigned),
        psi: pressure(cpu.pressure),
    }
}

fn memory(memory: &MemoryStats) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp: memory.timestamp,
        working_set_bytes: unsigned(memory.working_set),
        available_bytes: memory.available.and_then(unsigned),
        usage_bytes: unsigned(memory.usage),
        rss_bytes: unsigned(memory.rss),
        page_faults: unsigned(memory.page_faults),
        major_page_faults: unsigned(memory.major_page_faults),
        psi: pressure(memory.pressure),
    }
}

fn io(io: &IoStats) -> v1::IoUsage {
    v1::IoUsage { timestamp: io.timestamp, psi: pressure(io.pressure) }
}

/// Statistics of a container.
pub(crate) fn container_stats(container: &ContainerStatus, stats: &ResourceStats) -> v1::ContainerStats {
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.to_string(),
            metadata: Some(container_metadata(container)),
            labels: map(&container.config.labels),
            annotations: map(&container.config.annotations),
        }),
        cpu: Some(cpu(&stats.cpu)),
        memory: Some(memory(&stats.memory)),
        writable_layer: stats.writable_layer.as_ref().map(filesystem),
        swap: stats.swap.as_ref().map(|swap| v1::SwapUsage {
            timestamp: swap.timestamp,
            swap_available_bytes: swap.available.and_then(unsigned),
            swap_usage_bytes: unsigned(swap.usage),
        }),
        io: Some(io(&stats.io)),
    }
}

fn interface(counters: &NetworkStats) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: counters.name.clone(),
        rx_bytes: unsigned(counters.rx_bytes),
        rx_errors: unsigned(counters.rx_errors),
        tx_bytes: unsigned(counters.tx_bytes),
        tx_errors: unsigned(counters.tx_errors),
    }
}

/// The default interface is told apart from the others, which does not list it again (as the peers do).
fn network(interfaces: &[NetworkStats]) -> Option<v1::NetworkUsage> {
    let (default, others): (Vec<_>, Vec<_>) =
        interfaces.iter().map(interface).partition(|interface| interface.name == DEFAULT_INTERFACE);
    (!interfaces.is_empty()).then(|| v1::NetworkUsage {
        timestamp: now(),
        default_interface: default.into_iter().next(),
        interfaces: others,
    })
}

/// Statistics of a sandbox.
pub(crate) fn pod_stats(stats: &PodStats) -> v1::PodSandboxStats {
    let (pod, resources) = (&stats.status, &stats.resources);
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: pod.id.to_string(),
            metadata: Some(pod_metadata(pod)),
            labels: map(&pod.config.labels),
            annotations: map(&pod.config.annotations),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(&resources.cpu)),
            memory: Some(memory(&resources.memory)),
            network: network(&stats.network),
            process: Some(v1::ProcessUsage {
                timestamp: resources.cpu.timestamp,
                process_count: unsigned(resources.processes),
            }),
            containers: stats
                .containers
                .iter()
                .map(|(status, stats)| container_stats(status, stats))
                .collect(),
            io: Some(io(&resources.io)),
        }),
        windows: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_told_in_nanoseconds() {
        let some = Pressure { total: 7, avg10: 1.5, ..Default::default() };
        let told = pressure(Some(PressureStats { some, full: Pressure::default() })).unwrap();
        assert_eq!((told.some.unwrap().total, told.some.unwrap().avg10), (7000, 1.5));
        assert_eq!(pressure(None), None);
    }

    #[test]
    fn the_default_interface_is_not_listed_twice() {
        let of = |name: &str| NetworkStats { name: name.to_owned(), rx_bytes: 5, ..Default::default() };
        let told = network(&[of("net1"), of("eth0")]).unwrap();
        assert_eq!(told.default_interface.unwrap().name, "eth0");
        assert_eq!(told.interfaces.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["net1"]);
        assert!(network(&[]).is_none(), "a pod in the node's network has no counters of its own");
    }
}
