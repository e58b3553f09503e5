//! The families: what ListMetricDescriptors tells.

use husk_pods::MetricGroups;
use husk_proto::cri::v1::{self, MetricType};

/// Labels of every metric. As cAdvisor has them: `id` is the cgroup, `name` the container's id; of a metric of the sandbox
/// itself, `container` and `image` are empty.
pub(super) const BASE_LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// What a kernel may not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Always,
    Pressure,
    Hugetlb,
    Io,
}

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    group: Group,
    /// Labels beyond [`BASE_LABELS`].
    pub(super) labels: &'static [&'static str],
    help: &'static str,
}

impl Family {
    fn is_counted(&self, groups: MetricGroups) -> bool {
        match self.group {
            Group::Always => true,
            Group::Pressure => groups.pressure,
            Group::Hugetlb => groups.hugetlb,
            Group::Io => groups.io,
        }
    }

    fn descriptor(&self) -> v1::MetricDescriptor {
        v1::MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: BASE_LABELS.iter().chain(self.labels).map(ToString::to_string).collect(),
        }
    }
}

/// The families that are counted on this node.
pub(crate) fn descriptors(groups: MetricGroups) -> Vec<v1::MetricDescriptor> {
    ALL.iter().filter(|family| family.is_counted(groups)).map(|family| family.descriptor()).collect()
}

macro_rules! families {
    ($( $constant:ident = $name:literal $kind:ident $group:ident [$($label:literal),*] $help:literal; )*) => {
        $(
            pub(super) const $constant: Family = Family {
                name: concat!("container_", $name),
                kind: MetricType::$kind,
                group: Group::$group,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    CPU_USAGE = "cpu_usage_seconds_total" Counter Always ["cpu"] "CPU time used, in seconds.";
    CPU_USER = "cpu_user_seconds_total" Counter Always [] "CPU time used in user mode, in seconds.";
    CPU_SYSTEM = "cpu_system_seconds_total" Counter Always [] "CPU time used in the kernel, in seconds.";
    CFS_PERIODS = "cpu_cfs_periods_total" Counter Always [] "Periods of the CPU quota that have passed.";
    CFS_THROTTLED_PERIODS = "cpu_cfs_throttled_periods_total" Counter Always [] "Periods in which the CPU quota ran out.";
    CFS_THROTTLED_SECONDS = "cpu_cfs_throttled_seconds_total" Counter Always [] "Time for which the container was throttled, in seconds.";

    MEMORY_USAGE = "memory_usage_bytes" Gauge Always [] "All memory charged, page cache included, in bytes.";
    MEMORY_WORKING_SET = "memory_working_set_bytes" Gauge Always [] "Memory charged less inactive file pages, in bytes.";
    MEMORY_RSS = "memory_rss" Gauge Always [] "Anonymous memory, in bytes.";
    MEMORY_CACHE = "memory_cache" Gauge Always [] "Page cache, in bytes.";
    MEMORY_MAPPED_FILE = "memory_mapped_file" Gauge Always [] "Mapped file pages, in bytes.";
    MEMORY_SWAP = "memory_swap" Gauge Always [] "Memory swapped out, in bytes.";
    MEMORY_KERNEL = "memory_kernel_usage" Gauge Always [] "Memory of the kernel on behalf of the container, in bytes.";
    MEMORY_MAX_USAGE = "memory_max_usage_bytes" Gauge Always [] "Highest memory usage so far, in bytes.";
    MEMORY_FAILCNT = "memory_failcnt" Counter Always [] "How often the memory limit was hit.";
    MEMORY_FAILURES = "memory_failures_total" Counter Always ["failure_type", "scope"] "Page faults; pgmajfault are those that read from disk.";
    OOM_EVENTS = "oom_events_total" Counter Always [] "Processes that the kernel killed for lack of memory.";

    NETWORK_RX_BYTES = "network_receive_bytes_total" Counter Always ["interface"] "Bytes received.";
    NETWORK_RX_PACKETS = "network_receive_packets_total" Counter Always ["interface"] "Packets received.";
    NETWORK_RX_DROPPED = "network_receive_packets_dropped_total" Counter Always ["interface"] "Received packets that were dropped.";
    NETWORK_RX_ERRORS = "network_receive_errors_total" Counter Always ["interface"] "Errors while receiving.";
    NETWORK_TX_BYTES = "network_transmit_bytes_total" Counter Always ["interface"] "Bytes sent.";
    NETWORK_TX_PACKETS = "network_transmit_packets_total" Counter Always ["interface"] "Packets sent.";
    NETWORK_TX_DROPPED = "network_transmit_packets_dropped_total" Counter Always ["interface"] "Packets to send that were dropped.";
    NETWORK_TX_ERRORS = "network_transmit_errors_total" Counter Always ["interface"] "Errors while sending.";

    FS_USAGE = "fs_usage_bytes" Gauge Always ["device"] "Size of the writable layer, in bytes.";
    FS_LIMIT = "fs_limit_bytes" Gauge Always ["device"] "Size of the filesystem that holds the writable layer, in bytes.";
    FS_INODES = "fs_inodes_total" Gauge Always ["device"] "Inodes of the filesystem that holds the writable layer.";
    FS_INODES_FREE = "fs_inodes_free" Gauge Always ["device"] "Free inodes of the filesystem that holds the writable layer.";
    FS_READ_BYTES = "fs_reads_bytes_total" Counter Io ["device"] "Bytes read from the device.";
    FS_READS = "fs_reads_total" Counter Io ["device"] "Reads from the device.";
    FS_WRITTEN_BYTES = "fs_writes_bytes_total" Counter Io ["device"] "Bytes written to the device.";
    FS_WRITES = "fs_writes_total" Counter Io ["device"] "Writes to the device.";
    BLKIO = "blkio_device_usage_total" Counter Io ["device", "major", "minor", "operation"] "Bytes read from and written to the device.";

    PROCESSES = "processes" Gauge Always [] "Processes of the container.";
    THREADS = "threads" Gauge Always [] "Threads of the container.";
    THREADS_MAX = "threads_max" Gauge Always [] "Most threads the container may have; 0 is no limit.";
    DESCRIPTORS = "file_descriptors" Gauge Always [] "Open file descriptors of the container; not there with too many processes to look at.";
    SOCKETS = "sockets" Gauge Always [] "Open sockets of the container; not there with too many descriptors to look at.";
    ULIMITS = "ulimits_soft" Gauge Always ["ulimit"] "Soft limits of the container's first process.";

    LAST_SEEN = "last_seen" Gauge Always [] "When the container was last seen, in seconds since the epoch.";
    START_TIME = "start_time_seconds" Gauge Always [] "When the container was started, in seconds since the epoch; 0 before.";

    SPEC_CPU_PERIOD = "spec_cpu_period" Gauge Always [] "Period of the CPU quota, in microseconds.";
    SPEC_CPU_QUOTA = "spec_cpu_quota" Gauge Always [] "CPU quota of a period, in microseconds; not there without a limit.";
    SPEC_CPU_SHARES = "spec_cpu_shares" Gauge Always [] "Share of the CPU.";
    SPEC_MEMORY_LIMIT = "spec_memory_limit_bytes" Gauge Always [] "Memory limit in bytes; 0 is no limit.";
    SPEC_MEMORY_RESERVATION = "spec_memory_reservation_limit_bytes" Gauge Always [] "Memory the kernel tries to leave to the container, in bytes; 0 is none.";
    SPEC_MEMORY_SWAP_LIMIT = "spec_memory_swap_limit_bytes" Gauge Always [] "Limit of memory and swap together, in bytes; 0 is no limit.";

    PRESSURE_CPU_WAITING = "pressure_cpu_waiting_seconds_total" Counter Pressure [] "Time for which some tasks waited for CPU, in seconds.";
    PRESSURE_CPU_STALLED = "pressure_cpu_stalled_seconds_total" Counter Pressure [] "Time for which all tasks waited for CPU, in seconds.";
    PRESSURE_MEMORY_WAITING = "pressure_memory_waiting_seconds_total" Counter Pressure [] "Time for which some tasks waited for memory, in seconds.";
    PRESSURE_MEMORY_STALLED = "pressure_memory_stalled_seconds_total" Counter Pressure [] "Time for which all tasks waited for memory, in seconds.";
    PRESSURE_IO_WAITING = "pressure_io_waiting_seconds_total" Counter Pressure [] "Time for which some tasks waited for I/O, in seconds.";
    PRESSURE_IO_STALLED = "pressure_io_stalled_seconds_total" Counter Pressure [] "Time for which all tasks waited for I/O, in seconds.";

    HUGETLB_USAGE = "hugetlb_usage_bytes" Gauge Hugetlb ["pagesize"] "Huge pages used, in bytes.";
    HUGETLB_MAX_USAGE = "hugetlb_max_usage_bytes" Gauge Hugetlb ["pagesize"] "Most huge pages used so far, in bytes; 0 on cgroup v2, which does not keep it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_56_families_are_there_where_the_kernel_counts_them() {
        let all = MetricGroups { pressure: true, hugetlb: true, io: true };
        let names: std::collections::BTreeSet<_> =
            descriptors(all).into_iter().map(|descriptor| descriptor.name).collect();
        assert_eq!((ALL.len(), names.len()), (56, 56));
        let none = MetricGroups { pressure: false, hugetlb: false, io: false };
        assert_eq!(descriptors(none).len(), 56 - 6 - 2 - 5);
        assert!(descriptors(all).iter().all(|descriptor| !descriptor.help.is_empty()));
    }
}
