//! How the engine works on this node.

use std::path::PathBuf;

use husk_monitor::MonitorConfig;

use crate::{node::CgroupDriver, verbs::Hang};

/// How the engine works on this node.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Persistent directory.
    pub root: PathBuf,
    /// Directory that dies with the boot.
    pub state: PathBuf,
    /// How monitors are started.
    pub monitor: MonitorConfig,
    /// Parent of pods whose request names none: a path that starts with `/`, or a slice.
    pub cgroup_parent: String,
    /// Who makes the cgroups of pods.
    pub cgroup_driver: CgroupDriver,
    /// Where CDI specs are; of two that have the same device, the one in the later directory counts.
    pub cdi_dirs: Vec<PathBuf>,
    /// Let processes without capabilities bind every port (`net.ipv4.ip_unprivileged_port_start=0`).
    pub unprivileged_ports: bool,
    /// Let processes without capabilities ping (`net.ipv4.ping_group_range`).
    pub unprivileged_icmp: bool,
    /// When a monitor whose pod is to end counts as hung.
    pub hang: Hang,
}
