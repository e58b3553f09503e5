//! The kernel's controllers, by the names of both versions.

use std::fmt;

/// A resource controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Controller {
    /// CPU weight and bandwidth.
    Cpu,
    /// CPU time (v1 only; part of the core on v2).
    CpuAcct,
    /// CPU and memory node placement.
    CpuSet,
    /// Memory and swap.
    Memory,
    /// Device access (a v1 controller; an eBPF program on v2).
    Devices,
    /// Freezing (a v1 controller; part of the core on v2).
    Freezer,
    /// Block I/O (`blkio` on v1, `io` on v2).
    Io,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    HugeTlb,
    /// Network class ids (v1 only).
    NetCls,
    /// Network priorities (v1 only).
    NetPrio,
    /// perf events by group.
    PerfEvent,
    /// RDMA objects.
    Rdma,
    /// Scalar resources such as encryption ids.
    Misc,
}

impl Controller {
    /// Every controller.
    pub(crate) const ALL: [Controller; 14] = [
        Controller::Cpu,
        Controller::CpuAcct,
        Controller::CpuSet,
        Controller::Memory,
        Controller::Devices,
        Controller::Freezer,
        Controller::Io,
        Controller::Pids,
        Controller::HugeTlb,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// Name in v1 mount options and `/proc/cgroups`.
    pub(crate) fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::CpuAcct => "cpuacct",
            Controller::CpuSet => "cpuset",
            Controller::Memory => "memory",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Io => "blkio",
            Controller::Pids => "pids",
            Controller::HugeTlb => "hugetlb",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    /// Name in `cgroup.controllers`; `None` for those that v2 does not list there. (`perf_event` is on in every v2
    /// group by itself and must not be enabled.)
    pub(crate) fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Io => Some("io"),
            Controller::Cpu
            | Controller::CpuSet
            | Controller::Memory
            | Controller::Pids
            | Controller::HugeTlb
            | Controller::Rdma
            | Controller::Misc => Some(self.v1_name()),
            Controller::CpuAcct
            | Controller::Devices
            | Controller::Freezer
            | Controller::NetCls
            | Controller::NetPrio
            | Controller::PerfEvent => None,
        }
    }

    pub(crate) fn from_v1_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.v1_name() == name)
    }

    pub(crate) fn from_v2_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.v2_name() == Some(name))
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v1_name())
    }
}
