//! What a group uses, in one form for both versions.

/// A snapshot of everything the kernel counts for a group. A part is `None` or empty where the node has no controller
/// for it. Times are nanoseconds, sizes bytes, counters cumulative since the group was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupStats {
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Memory and swap.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Huge pages, by page size.
    pub hugetlb: Vec<HugetlbStats>,
    /// Block I/O, by device.
    pub io: Vec<IoDeviceStats>,
    /// Pressure stall information (PSI).
    pub pressure: PressureSet,
}

/// CPU time and throttling.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// Total, ns.
    pub usage: u64,
    /// In user mode, ns.
    pub user: u64,
    /// In the kernel, ns.
    pub system: u64,
    /// Bandwidth periods that passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent throttled, ns.
    pub throttled: u64,
}

/// Memory of the group and everything below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// Charged now.
    pub usage: u64,
    /// Highest usage so far; 0 where the kernel does not keep it.
    pub max_usage: u64,
    /// The limit in force on this group; `None` is unlimited.
    pub limit: Option<u64>,
    /// Usage less file pages the kernel would drop first.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Mapped file pages.
    pub mapped_file: u64,
    /// Inactive file pages.
    pub inactive_file: u64,
    /// Active file pages.
    pub active_file: u64,
    /// Kernel memory.
    pub kernel: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from disk.
    pub major_page_faults: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// Processes the kernel killed for lack of memory.
    pub oom_kills: u64,
    /// Swapped out now; `None` where the kernel does not account it.
    pub swap: Option<u64>,
    /// Swap the group may use; `None` is unlimited or not accounted.
    pub swap_limit: Option<u64>,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// Most allowed; `None` is unlimited.
    pub limit: Option<u64>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HugetlbStats {
    /// `2MB`, `1GB`.
    pub page_size: String,
    /// Used now.
    pub usage: u64,
    /// Highest usage so far; 0 on v2.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// I/O of one block device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoDeviceStats {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// PSI of a group; `None` where the kernel has none (psi=0, pure v1).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureSet {
    /// Waiting for CPU.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for I/O.
    pub io: Option<Pressure>,
}

/// Both lines of a PSI file (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// One line of a PSI file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Per cent of the last 10 s.
    pub avg10: f64,
    /// Per cent of the last 60 s.
    pub avg60: f64,
    /// Per cent of the last 300 s.
    pub avg300: f64,
    /// Total waiting time, microseconds.
    pub total: u64,
}
