//! What ListPodSandboxMetrics tells. Values are whole numbers by the protocol, so seconds lose their fractions.

use husk_cgroup::{CgroupStats, PressureLine};
use husk_model::{ContainerState, ContainerStatus, NetworkStats, PodStatus, Resources};
use husk_node::now;
use husk_pods::{ContainerMetrics, NodeMetrics, PodMetrics};
use husk_proto::cri::v1;
use husk_stats::{Detail, DeviceNames, Volume};

use super::family::{self, BASE_LABELS, Family};
use crate::convert::unsigned;

const SECOND: u64 = 1_000_000_000;

/// The period of the CPU quota, and the share of the CPU, that the kernel gives who asks for nothing.
const DEFAULT_PERIOD: u64 = 100_000;
const DEFAULT_SHARES: u64 = 1024;

/// All pods' metrics.
pub(crate) fn pod_metrics(node: &NodeMetrics) -> Vec<v1::PodSandboxMetrics> {
    let mut devices = DeviceNames::default();
    node.pods.iter().map(|pod| sandbox(pod, &node.volume, &mut devices)).collect()
}

fn sandbox(pod: &PodMetrics, volume: &Volume, devices: &mut DeviceNames) -> v1::PodSandboxMetrics {
    let mut rows = Rows::new(now(), pod_labels(pod));
    for interface in &pod.network {
        network(&mut rows, interface);
    }
    v1::PodSandboxMetrics {
        pod_sandbox_id: pod.status.id.to_string(),
        metrics: rows.metrics,
        container_metrics: pod
            .containers
            .iter()
            .map(|one| v1::ContainerMetrics {
                container_id: one.status.id.to_string(),
                metrics: container(&pod.status, one, volume, devices),
            })
            .collect(),
    }
}

/// The metrics of one object, which share their first labels.
struct Rows {
    timestamp: i64,
    labels: [String; BASE_LABELS.len()],
    metrics: Vec<v1::Metric>,
}

impl Rows {
    fn new(timestamp: i64, labels: [String; BASE_LABELS.len()]) -> Self {
        Self { timestamp, labels, metrics: Vec::with_capacity(64) }
    }

    fn add(&mut self, family: &Family, value: u64) {
        self.add_with(family, &[], value);
    }

    fn add_with(&mut self, family: &Family, labels: &[&str], value: u64) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        self.metrics.push(v1::Metric {
            name: family.name.to_owned(),
            timestamp: self.timestamp,
            metric_type: family.kind.into(),
            label_values: self.labels.iter().cloned().chain(labels.iter().map(ToString::to_string)).collect(),
            value: unsigned(value),
        });
    }
}

/// In the order of [`BASE_LABELS`].
fn pod_labels(pod: &PodMetrics) -> [String; BASE_LABELS.len()] {
    let metadata = &pod.status.config.metadata;
    let id = pod.status.id.to_string();
    [
        String::new(),
        pod.cgroup_path.clone(),
        String::new(),
        id,
        metadata.namespace.clone(),
        metadata.name.clone(),
    ]
}

/// In the order of [`BASE_LABELS`].
fn container_labels(pod: &PodStatus, container: &ContainerStatus) -> [String; BASE_LABELS.len()] {
    let config = &container.config;
    [
        config.metadata.name.clone(),
        container.cgroup_path.clone(),
        container.image_name.clone(),
        container.id.to_string(),
        pod.config.metadata.namespace.clone(),
        pod.config.metadata.name.clone(),
    ]
}

fn network(rows: &mut Rows, interface: &NetworkStats) {
    let name: &[&str] = &[&interface.name];
    rows.add_with(&family::NETWORK_RX_BYTES, name, interface.rx_bytes);
    rows.add_with(&family::NETWORK_RX_PACKETS, name, interface.rx_packets);
    rows.add_with(&family::NETWORK_RX_DROPPED, name, interface.rx_dropped);
    rows.add_with(&family::NETWORK_RX_ERRORS, name, interface.rx_errors);
    rows.add_with(&family::NETWORK_TX_BYTES, name, interface.tx_bytes);
    rows.add_with(&family::NETWORK_TX_PACKETS, name, interface.tx_packets);
    rows.add_with(&family::NETWORK_TX_DROPPED, name, interface.tx_dropped);
    rows.add_with(&family::NETWORK_TX_ERRORS, name, interface.tx_errors);
}

fn container(
    pod: &PodStatus,
    one: &ContainerMetrics,
    volume: &Volume,
    devices: &mut DeviceNames,
) -> Vec<v1::Metric> {
    let ContainerMetrics { status, detail } = one;
    let mut rows = Rows::new(detail.timestamp, container_labels(pod, status));
    cpu(&mut rows, &detail.cgroup);
    memory(&mut rows, &detail.cgroup);
    pressure(&mut rows, &detail.cgroup);
    filesystem(&mut rows, detail, volume);
    io(&mut rows, &detail.cgroup, volume, devices);
    processes(&mut rows, detail);
    life(&mut rows, status);
    limits(&mut rows, &status.resources);
    rows.metrics
}

fn cpu(rows: &mut Rows, cgroup: &CgroupStats) {
    let Some(cpu) = &cgroup.cpu else { return };
    rows.add_with(&family::CPU_USAGE, &["total"], cpu.usage / SECOND);
    rows.add(&family::CPU_USER, cpu.user / SECOND);
    rows.add(&family::CPU_SYSTEM, cpu.system / SECOND);
    rows.add(&family::CFS_PERIODS, cpu.periods);
    rows.add(&family::CFS_THROTTLED_PERIODS, cpu.throttled_periods);
    rows.add(&family::CFS_THROTTLED_SECONDS, cpu.throttled / SECOND);
}

fn memory(rows: &mut Rows, cgroup: &CgroupStats) {
    for pages in &cgroup.hugetlb {
        rows.add_with(&family::HUGETLB_USAGE, &[&pages.page_size], pages.usage);
        rows.add_with(&family::HUGETLB_MAX_USAGE, &[&pages.page_size], pages.max_usage);
    }
    let Some(memory) = &cgroup.memory else { return };
    rows.add(&family::MEMORY_USAGE, memory.usage);
    rows.add(&family::MEMORY_WORKING_SET, memory.working_set);
    rows.add(&family::MEMORY_RSS, memory.rss);
    rows.add(&family::MEMORY_CACHE, memory.cache);
    rows.add(&family::MEMORY_MAPPED_FILE, memory.mapped_file);
    rows.add(&family::MEMORY_SWAP, memory.swap.unwrap_or_default());
    rows.add(&family::MEMORY_KERNEL, memory.kernel);
    rows.add(&family::MEMORY_MAX_USAGE, memory.max_usage);
    rows.add(&family::MEMORY_FAILCNT, memory.failures);
    // The kernel counts a group with all below it, so the two scopes of a container are one.
    for scope in ["container", "hierarchy"] {
        rows.add_with(&family::MEMORY_FAILURES, &["pgfault", scope], memory.page_faults);
        rows.add_with(&family::MEMORY_FAILURES, &["pgmajfault", scope], memory.major_page_faults);
    }
    rows.add(&family::OOM_EVENTS, memory.oom_kills);
}

fn pressure(rows: &mut Rows, cgroup: &CgroupStats) {
    let seconds = |line: PressureLine| line.total / 1_000_000;
    for (waiting, stalled, pressure) in [
        (family::PRESSURE_CPU_WAITING, family::PRESSURE_CPU_STALLED, cgroup.pressure.cpu),
        (family::PRESSURE_MEMORY_WAITING, family::PRESSURE_MEMORY_STALLED, cgroup.pressure.memory),
        (family::PRESSURE_IO_WAITING, family::PRESSURE_IO_STALLED, cgroup.pressure.io),
    ] {
        let Some(pressure) = pressure else { continue };
        rows.add(&waiting, seconds(pressure.some));
        rows.add(&stalled, seconds(pressure.full));
    }
}

fn filesystem(rows: &mut Rows, detail: &Detail, volume: &Volume) {
    let device: &[&str] = &[&volume.device];
    rows.add_with(&family::FS_USAGE, device, detail.layer.map_or(0, |layer| layer.bytes));
    rows.add_with(&family::FS_LIMIT, device, volume.bytes);
    rows.add_with(&family::FS_INODES, device, volume.inodes);
    rows.add_with(&family::FS_INODES_FREE, device, volume.inodes_free);
}

fn io(rows: &mut Rows, cgroup: &CgroupStats, volume: &Volume, devices: &mut DeviceNames) {
    for io in &cgroup.io {
        let name = devices.of(io.major, io.minor);
        let (major, minor) = (io.major.to_string(), io.minor.to_string());
        rows.add_with(&family::FS_READ_BYTES, &[name], io.read_bytes);
        rows.add_with(&family::FS_READS, &[name], io.reads);
        rows.add_with(&family::FS_WRITTEN_BYTES, &[name], io.write_bytes);
        rows.add_with(&family::FS_WRITES, &[name], io.writes);
        rows.add_with(&family::BLKIO, &[name, &major, &minor, "Read"], io.read_bytes);
        rows.add_with(&family::BLKIO, &[name, &major, &minor, "Write"], io.write_bytes);
    }
    // The kernel lists a device with its first transfer: until then the layer's own has counted nothing.
    if cgroup.io.is_empty() {
        for family in [family::FS_READ_BYTES, family::FS_READS, family::FS_WRITTEN_BYTES, family::FS_WRITES] {
            rows.add_with(&family, &[&volume.device], 0);
        }
    }
}

fn processes(rows: &mut Rows, detail: &Detail) {
    let pids = detail.cgroup.pids.clone().unwrap_or_default();
    rows.add(&family::PROCESSES, detail.processes.count);
    rows.add(&family::THREADS, pids.current);
    rows.add(&family::THREADS_MAX, pids.limit.unwrap_or(0));
    // Not there rather than wrong, where there were too many to count.
    if let Some(descriptors) = detail.processes.descriptors {
        rows.add(&family::DESCRIPTORS, descriptors);
    }
    if let Some(sockets) = detail.processes.sockets {
        rows.add(&family::SOCKETS, sockets);
    }
    if let Some(limit) = detail.open_files_limit {
        rows.add_with(&family::ULIMITS, &["max_open_files"], limit);
    }
}

fn seconds(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or(0) / SECOND
}

fn life(rows: &mut Rows, container: &ContainerStatus) {
    let started = match &container.state {
        ContainerState::Running { started_at } | ContainerState::Exited { started_at, .. } => *started_at,
        ContainerState::Created | ContainerState::Unknown { .. } => 0,
    };
    rows.add(&family::LAST_SEEN, seconds(rows.timestamp));
    rows.add(&family::START_TIME, seconds(started));
}

fn limits(rows: &mut Rows, limits: &Resources) {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    rows.add(&family::SPEC_CPU_PERIOD, limits.cpu_period.unwrap_or(DEFAULT_PERIOD));
    // As cAdvisor: quota divided by period is a number of CPUs, and no limit is not a limit of none.
    if let Some(quota) = positive(limits.cpu_quota) {
        rows.add(&family::SPEC_CPU_QUOTA, quota);
    }
    rows.add(&family::SPEC_CPU_SHARES, limits.cpu_shares.unwrap_or(DEFAULT_SHARES));
    rows.add(&family::SPEC_MEMORY_LIMIT, positive(limits.memory_limit).unwrap_or(0));
    let reservation = limits.unified.get("memory.low").and_then(|value| value.trim().parse().ok());
    rows.add(&family::SPEC_MEMORY_RESERVATION, reservation.unwrap_or(0));
    rows.add(&family::SPEC_MEMORY_SWAP_LIMIT, positive(limits.memory_swap_limit).unwrap_or(0));
}
