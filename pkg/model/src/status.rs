//! What is true of pods and containers now, as snapshots that can be handed out without a lock.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    ContainerConfig, ContainerId, ImageId, PodConfig, PodSandboxId, Process, ResolvedUser, Resources, Signal,
};

/// Nanoseconds since the Unix epoch; 0 means "not yet".
pub type UnixNanos = i64;

/// Whether a sandbox can host containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// The pause process runs and the network is up.
    Ready,
    /// Stopped, or its pause process died.
    NotReady,
}

/// Snapshot of a pod sandbox.
#[derive(Debug, Clone)]
pub struct PodStatus {
    /// Its id.
    pub id: PodSandboxId,
    /// What was asked for.
    pub config: Arc<PodConfig>,
    /// State.
    pub state: PodState,
    /// When RunPodSandbox made it.
    pub created_at: UnixNanos,
    /// Addresses, the primary one first; empty with the node's network or after the stop.
    pub ips: Vec<IpAddr>,
    /// The pause process while it runs.
    pub process: Option<Process>,
    /// Why a sandbox is not ready when nobody asked for that: its record cannot be read, its monitor died or hung. Empty otherwise.
    pub message: String,
}

/// Why a container ended (the `reason` of CRI `ContainerStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Any other exit code or signal.
    Error,
    /// The kernel killed a process of the container for memory.
    OomKilled,
    /// The command could not be executed; exit code 128.
    StartError,
    /// The exit was not seen (the monitor was lost); exit code 255.
    Unknown,
}

impl ExitReason {
    /// The text that CRI clients show.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::StartError => "StartError",
            ExitReason::Unknown => "ContainerStatusUnknown",
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 plus the signal.
    pub code: i32,
    /// When it ended.
    pub finished_at: UnixNanos,
    /// Why.
    pub reason: ExitReason,
    /// A sentence for people; may be empty.
    pub message: String,
}

/// A container's life; the data of a state lives in its variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Its init waits at the gate before execve.
    Created,
    /// Its command runs.
    Running {
        /// When the gate was opened.
        started_at: UnixNanos,
    },
    /// It ended.
    Exited {
        /// When it was started; 0 if it never was.
        started_at: UnixNanos,
        /// How it ended.
        exit: Exit,
    },
    /// Its state on disk cannot be read; it can only be removed.
    Unknown {
        /// What is wrong.
        reason: String,
    },
}

impl ContainerState {
    /// Whether it has processes.
    pub fn is_alive(&self) -> bool {
        matches!(self, ContainerState::Created | ContainerState::Running { .. })
    }
}

/// Snapshot of a container.
#[derive(Debug, Clone)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// The pod it belongs to.
    pub pod_id: PodSandboxId,
    /// What was asked for.
    pub config: Arc<ContainerConfig>,
    /// The image it was made from.
    pub image_id: ImageId,
    /// A reference by which the image can be found again (a repo digest, else the id).
    pub image_ref: String,
    /// The image as people name it: as the user wrote it in the pod, else a tag, a repo digest or the id.
    pub image_name: String,
    /// State.
    pub state: ContainerState,
    /// When CreateContainer made it.
    pub created_at: UnixNanos,
    /// Absolute path of the log; empty when none is written.
    pub log_path: String,
    /// User it runs as, once known.
    pub user: Option<ResolvedUser>,
    /// Limits in force now.
    pub resources: Resources,
    /// Stop signal in force.
    pub stop_signal: Signal,
    /// Its init while it lives.
    pub process: Option<Process>,
    /// Cgroup path relative to the hierarchy's root.
    pub cgroup_path: String,
    /// Resolved image digests of image volumes, by container path.
    pub image_volumes: BTreeMap<String, String>,
}

/// CPU use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// When it was read.
    pub timestamp: UnixNanos,
    /// Cumulative CPU time in core nanoseconds.
    pub usage_core_nanos: u64,
    /// Rate in nanocores since the previous sample; `None` for the first.
    pub usage_nano_cores: Option<u64>,
    /// Pressure, where the kernel has it.
    pub pressure: Option<PressureStats>,
}

/// Memory use, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// When it was read.
    pub timestamp: UnixNanos,
    /// Usage less inactive file cache.
    pub working_set: u64,
    /// Limit less working set; `None` without a limit.
    pub available: Option<u64>,
    /// All memory charged.
    pub usage: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Cumulative page faults.
    pub page_faults: u64,
    /// Cumulative major page faults.
    pub major_page_faults: u64,
    /// Pressure, where the kernel has it.
    pub pressure: Option<PressureStats>,
}

/// Swap use, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SwapStats {
    /// When it was read.
    pub timestamp: UnixNanos,
    /// Limit less usage; `None` without a limit.
    pub available: Option<u64>,
    /// Swap charged.
    pub usage: u64,
}

/// I/O pressure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoStats {
    /// When it was read.
    pub timestamp: UnixNanos,
    /// Pressure, where the kernel has it.
    pub pressure: Option<PressureStats>,
}

/// One line of a PSI file (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Cumulative stall time in microseconds.
    pub total: u64,
    /// Percentage over 10 s.
    pub avg10: f64,
    /// Percentage over 60 s.
    pub avg60: f64,
    /// Percentage over 300 s.
    pub avg300: f64,
}

/// Both lines of a PSI file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureStats {
    /// Some tasks stalled.
    pub some: Pressure,
    /// All tasks stalled.
    pub full: Pressure,
}

/// Use of a filesystem or a writable layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilesystemStats {
    /// When it was measured.
    pub timestamp: UnixNanos,
    /// Mount point of the filesystem that holds it.
    pub mountpoint: String,
    /// Bytes used.
    pub used_bytes: u64,
    /// Inodes used.
    pub inodes_used: u64,
}

/// Counters of one network interface.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NetworkStats {
    /// Interface name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets to send that were dropped.
    pub tx_dropped: u64,
}

/// Everything measured of one container (or of a pod's cgroup).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceStats {
    /// CPU.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Swap; `None` where the kernel does not account it.
    pub swap: Option<SwapStats>,
    /// I/O.
    pub io: IoStats,
    /// Writable layer.
    pub writable_layer: Option<FilesystemStats>,
    /// Number of processes.
    pub processes: u64,
}
