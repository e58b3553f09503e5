//! Who a container runs as and what it may do.

use serde::{Deserialize, Serialize};

use crate::{GroupsPolicy, IdMappings, UserSpec};

/// Which namespace an object lives in (CRI `NamespaceMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the containers of the pod.
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The node's.
    Node,
    /// That of another container: `target_id` for PIDs, `ipc_target_id` for IPC.
    Target,
}

impl NamespaceMode {
    /// The default is left out of records, which older releases read, too.
    fn is_pods(&self) -> bool {
        *self == Self::Pod
    }
}

/// Cgroup namespace of a container. The CRI has no say in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupNamespace {
    /// Its own on cgroup v2, unless it is privileged; else the node's. As containerd and CRI-O have it.
    #[default]
    Usual,
    /// Its own. On v1 the container has a group in every hierarchy, of which the namespace shows no more: systemd can run in it.
    Own,
    /// The node's.
    Node,
}

impl CgroupNamespace {
    /// The default is left out of records, which older releases read, too.
    fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

/// Namespace modes of a sandbox or container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Any mode.
    pub pid: NamespaceMode,
    /// `Pod` or `Node`; not of the CRI: `Target`.
    pub ipc: NamespaceMode,
    /// Host name: `Node` has the node's also where the network is the pod's own. The CRI has no say in it.
    #[serde(default, skip_serializing_if = "NamespaceMode::is_pods")]
    pub uts: NamespaceMode,
    /// Cgroups; of a pod, what its containers will ask for.
    #[serde(default, skip_serializing_if = "CgroupNamespace::is_usual")]
    pub cgroup: CgroupNamespace,
    /// Container whose PID namespace is joined when `pid` is `Target`.
    pub target_id: String,
    /// Container whose IPC namespace and /dev/shm are joined when `ipc` is `Target`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipc_target_id: String,
    /// The pod's user namespace; `None` is the node's.
    pub user: Option<IdMappings>,
}

/// Seccomp profile selection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// No filter.
    #[default]
    Unconfined,
    /// husk's default profile.
    RuntimeDefault,
    /// A profile file on the node, absolute path.
    Localhost(String),
}

/// AppArmor profile selection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmor {
    /// Nothing asked: the runtime default where the node has AppArmor, else nothing.
    #[default]
    Unset,
    /// husk's default profile was asked for by name.
    RuntimeDefault,
    /// No profile.
    Unconfined,
    /// A loaded profile by name.
    Localhost(String),
}

/// SELinux label parts; empty ones are filled from the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeLinuxLabel {
    /// user
    pub user: String,
    /// role
    pub role: String,
    /// type
    pub kind: String,
    /// level
    pub level: String,
}

/// Capability changes against the default set; names without `CAP_`, upper case, `ALL` allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Added to the default set.
    pub add: Vec<String>,
    /// Removed from the default set.
    pub drop: Vec<String>,
    /// Added to bounding, permitted, inheritable and ambient sets.
    pub ambient: Vec<String>,
}

/// Security context of a sandbox or a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// Namespace modes.
    pub namespaces: Namespaces,
    /// Capability changes.
    pub capabilities: Capabilities,
    /// All capabilities, all devices, no masks, no seccomp, writable /sys.
    pub privileged: bool,
    /// User of the request; `None` leaves it to the image.
    pub run_as_user: Option<UserSpec>,
    /// Group of the request; only valid with `run_as_user`.
    pub run_as_group: Option<u32>,
    /// Supplemental groups of the request.
    pub supplemental_groups: Vec<u32>,
    /// More of them by name, to be looked up in the container's own /etc/group; the CRI has none.
    #[serde(default)]
    pub supplemental_group_names: Vec<String>,
    /// How they combine with the image's.
    pub groups_policy: GroupsPolicy,
    /// Root filesystem mounted read-only.
    pub readonly_rootfs: bool,
    /// Sets no_new_privs.
    pub no_new_privs: bool,
    /// Paths hidden from the container; a list is complete. Without this one and the next, defaults may apply (`husk-spec`).
    pub masked_paths: Vec<String>,
    /// Paths made read-only; the list is complete.
    pub readonly_paths: Vec<String>,
    /// Seccomp.
    pub seccomp: SeccompProfile,
    /// AppArmor.
    pub apparmor: AppArmor,
    /// SELinux.
    pub selinux: Option<SeLinuxLabel>,
}

/// What a container may do when its request changes nothing: containerd's fourteen, without `CAP_`. Images built for Docker and
/// containerd rely on this list; CRI-O's shorter one breaks ping, mknod and chroot in them.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability of Linux up to CAP_CHECKPOINT_RESTORE (5.9), the last one so far; without `CAP_`.
pub const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
