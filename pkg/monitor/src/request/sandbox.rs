//! The request for a pod's cgroup and its pause process.

use std::{collections::BTreeMap, path::PathBuf};

use husk_model::{IdMapping, IdMappings, SeLinuxContexts, Sysctl};
use husk_proto::podmon;

use super::{Scope, text};

/// A pod sandbox to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRequest {
    /// Pod cgroup relative to the hierarchy's root; pause lives in `<path>/pause`.
    pub cgroup_path: String,
    /// Network namespace.
    pub network: PodNetwork,
    /// Host name.
    pub uts: UtsNamespace,
    /// PID namespace: the pod's own has pause as PID 1.
    pub pid: Scope,
    /// System V IPC, POSIX queues and /dev/shm.
    pub ipc: Scope,
    /// The pod's user namespace; `None` is the node's. With one, `pid` and `ipc` are the pod's.
    pub user: Option<IdMappings>,
    /// Kernel parameters, set in the pod's namespaces.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// `oom_score_adj` of pause.
    pub oom_score_adj: i32,
    /// Existing absolute directory of the containers' logs; `None` when none are wanted.
    pub log_directory: Option<PathBuf>,
    /// Contexts of pause and of the pod's own files; `None` on a node without SELinux.
    pub selinux: Option<SeLinuxContexts>,
    /// Bytes of the pod's /dev/shm; 0 is the usual size.
    pub shm_size: u64,
    /// Its groups are in every hierarchy of the node, not only in those that husk uses.
    pub every_hierarchy: bool,
}

/// Network namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodNetwork {
    /// The node's.
    Node,
    /// One that is there and pinned at this path.
    Pinned(PathBuf),
    /// A new one, which belongs to the pod's user namespace: only so may root of the pod configure it.
    OwnedByUserNamespace,
}

/// UTS namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UtsNamespace {
    /// The node's.
    Node,
    /// The pod's own.
    Own {
        /// Its host name; `None` begins with the node's.
        hostname: Option<String>,
    },
}

impl From<SandboxRequest> for podmon::RunSandbox {
    fn from(request: SandboxRequest) -> Self {
        let (netns_path, new_netns) = match &request.network {
            PodNetwork::Node => (String::new(), false),
            PodNetwork::Pinned(path) => (text(path), false),
            PodNetwork::OwnedByUserNamespace => (String::new(), true),
        };
        let (own_uts, hostname) = match request.uts {
            UtsNamespace::Node => (false, None),
            UtsNamespace::Own { hostname } => (true, hostname),
        };
        let (selinux_process, selinux_mount) =
            request.selinux.map(|contexts| (contexts.process, contexts.mount)).unwrap_or_default();
        let sysctl = |(name, value): (Sysctl, String)| podmon::Sysctl { name: name.into(), value };
        Self {
            hostname: hostname.unwrap_or_default(),
            sysctls: request.sysctls.into_iter().map(sysctl).collect(),
            netns_path,
            own_pid: request.pid == Scope::Pod,
            own_ipc: request.ipc == Scope::Pod,
            own_uts,
            uid_mappings: request.user.iter().map(|user| mapping(user.uids)).collect(),
            gid_mappings: request.user.iter().map(|user| mapping(user.gids)).collect(),
            cgroup_path: request.cgroup_path,
            oom_score_adj: Some(request.oom_score_adj),
            log_directory: request.log_directory.as_deref().map(text).unwrap_or_default(),
            new_netns,
            selinux_process,
            selinux_mount,
            shm_size: request.shm_size,
            every_hierarchy: request.every_hierarchy,
            // The pod's cgroup has no limits of its own and pause no filter.
            resources_json: Vec::new(),
            seccomp: Vec::new(),
            // The pod's network and files are made at the same time.
            held: true,
        }
    }
}

fn mapping(map: IdMapping) -> podmon::IdMapping {
    podmon::IdMapping { host_id: map.host_id, container_id: map.container_id, length: map.length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SandboxRequest {
        SandboxRequest {
            cgroup_path: "/kubepods/pod1/husk-1".to_owned(),
            network: PodNetwork::Pinned("/run/husk/netns/1".into()),
            uts: UtsNamespace::Own { hostname: Some("web".to_owned()) },
            pid: Scope::Pod,
            ipc: Scope::Pod,
            user: None,
            sysctls: BTreeMap::from([("net.ipv4.ip_forward".parse().unwrap(), "1".to_owned())]),
            oom_score_adj: -998,
            log_directory: Some("/var/log/pods/1".into()),
            selinux: None,
            shm_size: 0,
            every_hierarchy: false,
        }
    }

    #[test]
    fn a_pod_of_its_own_names_its_network_and_its_host() {
        let expected = podmon::RunSandbox {
            hostname: "web".to_owned(),
            sysctls: vec![podmon::Sysctl { name: "net.ipv4.ip_forward".to_owned(), value: "1".to_owned() }],
            netns_path: "/run/husk/netns/1".to_owned(),
            own_pid: true,
            own_ipc: true,
            own_uts: true,
            cgroup_path: "/kubepods/pod1/husk-1".to_owned(),
            oom_score_adj: Some(-998),
            log_directory: "/var/log/pods/1".to_owned(),
            held: true,
            ..Default::default()
        };
        assert_eq!(podmon::RunSandbox::from(request()), expected);
    }

    #[test]
    fn a_pod_of_the_node_has_neither_network_nor_host_name() {
        let request = SandboxRequest {
            network: PodNetwork::Node,
            uts: UtsNamespace::Node,
            pid: Scope::Node,
            ipc: Scope::Node,
            log_directory: None,
            ..request()
        };
        let message = podmon::RunSandbox::from(request);
        assert!(!message.own_uts && !message.own_pid && !message.own_ipc && !message.new_netns);
        assert_eq!([message.hostname, message.netns_path, message.log_directory], ["", "", ""]);
    }

    #[test]
    fn a_network_of_the_user_namespace_is_made_and_not_named() {
        let map = |host_id| IdMapping { host_id, container_id: 0, length: 65_536 };
        let request = SandboxRequest {
            network: PodNetwork::OwnedByUserNamespace,
            user: Some(IdMappings { uids: map(65_536), gids: map(131_072) }),
            selinux: Some(SeLinuxContexts { process: "p".to_owned(), mount: "m".to_owned() }),
            ..request()
        };
        let message = podmon::RunSandbox::from(request);
        assert!(message.new_netns);
        assert_eq!(message.netns_path, "");
        assert_eq!(message.uid_mappings, [mapping(map(65_536))]);
        assert_eq!(message.gid_mappings, [mapping(map(131_072))]);
        assert_eq!((message.selinux_process.as_str(), message.selinux_mount.as_str()), ("p", "m"));
    }
}
