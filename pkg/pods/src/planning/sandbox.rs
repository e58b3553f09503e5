//! What a pod's monitor is asked for.

use std::path::PathBuf;

use husk_model::{CgroupNamespace, NamespaceMode, PodConfig, SeLinuxContexts, Sysctl};
use husk_monitor::{PodNetwork, SandboxRequest, Scope, UtsNamespace};

/// Pause goes last when the kernel looks for memory: it is tiny, and its end is the pod's end.
const PAUSE_OOM_SCORE: i32 = -998;
/// The largest group id that the kernel takes in `ping_group_range`.
const LAST_GROUP: u32 = 2_147_483_647;

/// What the operator allows all pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Let processes without capabilities bind every port (`net.ipv4.ip_unprivileged_port_start=0`).
    pub(crate) unprivileged_ports: bool,
    /// Let processes without capabilities ping (`net.ipv4.ping_group_range`).
    pub(crate) unprivileged_icmp: bool,
}

/// The sandbox of a pod, whose network namespace is pinned at `netns` if it is made before pause is.
pub(crate) fn sandbox_request(
    config: &PodConfig,
    settings: Settings,
    cgroup_path: &str,
    netns: PathBuf,
    selinux: Option<SeLinuxContexts>,
) -> SandboxRequest {
    let namespaces = config.namespaces();
    let own_network = namespaces.network != NamespaceMode::Node;
    let (network, uts) = match (own_network, namespaces.user) {
        (false, _) => (PodNetwork::Node, UtsNamespace::Node),
        (true, None) if namespaces.uts == NamespaceMode::Node => {
            (PodNetwork::Pinned(netns), UtsNamespace::Node)
        }
        (true, None) => (PodNetwork::Pinned(netns), own_uts(config)),
        (true, Some(_)) => (PodNetwork::OwnedByUserNamespace, own_uts(config)),
    };
    let mut sysctls = config.sysctls.clone();
    if own_network && settings.unprivileged_ports {
        sysctls.entry(Sysctl::unprivileged_port_start()).or_insert_with(|| "0".into());
    }
    if own_network && settings.unprivileged_icmp {
        // Of a user namespace, only groups that are mapped.
        let last = namespaces.user.map_or(LAST_GROUP, |user| user.gids.last());
        sysctls.entry(Sysctl::ping_group_range()).or_insert_with(|| format!("0 {last}"));
    }
    SandboxRequest {
        cgroup_path: cgroup_path.to_owned(),
        network,
        uts,
        pid: scope(namespaces.pid),
        ipc: scope(namespaces.ipc),
        user: namespaces.user,
        sysctls,
        oom_score_adj: PAUSE_OOM_SCORE,
        log_directory: (!config.log_directory.is_empty()).then(|| config.log_directory.clone().into()),
        selinux,
        shm_size: config.shm_size,
        every_hierarchy: namespaces.cgroup == CgroupNamespace::Own,
    }
}

fn own_uts(config: &PodConfig) -> UtsNamespace {
    UtsNamespace::Own { hostname: (!config.hostname.is_empty()).then(|| config.hostname.clone()) }
}

/// Everything but the node's is the pod's.
pub(super) fn scope(mode: NamespaceMode) -> Scope {
    match mode {
        NamespaceMode::Node => Scope::Node,
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target => Scope::Pod,
    }
}
