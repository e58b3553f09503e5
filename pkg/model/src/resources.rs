//! Resource limits (CRI `LinuxContainerResources`). Zero in the request means "not set" and is `None` here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One hugetlb limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// Page size in the kernel's spelling, `2MB`, `1GB`.
    pub page_size: String,
    /// Limit in bytes.
    pub limit: u64,
}

/// Rates of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second; of a weight, 10 to 1000.
    pub rate: u64,
}

/// Block I/O. The CRI has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Share of the devices' time, 10 to 1000.
    pub weight: Option<u16>,
    /// The same of single devices.
    pub weights: Vec<DeviceRate>,
    /// Bytes read per second.
    pub read_bytes: Vec<DeviceRate>,
    /// Bytes written per second.
    pub write_bytes: Vec<DeviceRate>,
    /// Reads per second.
    pub reads: Vec<DeviceRate>,
    /// Writes per second.
    pub writes: Vec<DeviceRate>,
}

/// Limits of a container or pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds per period; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// Relative weight, cgroup v1 scale (2-262144).
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes; -1 is unlimited.
    pub memory_limit: Option<i64>,
    /// Memory plus swap limit in bytes; -1 is unlimited.
    pub memory_swap_limit: Option<i64>,
    /// Bytes that it keeps when memory is short on the node. The CRI has none.
    #[serde(default)]
    pub memory_reservation: Option<i64>,
    /// Block I/O.
    #[serde(default)]
    pub block_io: BlockIo,
    /// Value for `/proc/<pid>/oom_score_adj`, -1000 to 1000. Always present: 0 is a value.
    pub oom_score_adj: i32,
    /// CPUs in list format, `0-3,7`; empty is all.
    pub cpuset_cpus: String,
    /// Memory nodes in list format.
    pub cpuset_mems: String,
    /// Hugetlb limits.
    pub hugepages: Vec<HugepageLimit>,
    /// Most processes and threads; -1 is unlimited.
    #[serde(default)]
    pub pids_limit: Option<i64>,
    /// cgroup v2 files to write verbatim.
    pub unified: BTreeMap<String, String>,
}
