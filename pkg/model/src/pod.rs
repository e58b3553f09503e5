//! What a pod sandbox is asked to be.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{DnsConfig, HostPort, Namespaces, PodNetworking, Resources, SecurityContext, Sysctl};

/// The kubelet's name for a sandbox (CRI `PodSandboxMetadata`): unique on the node by all four fields together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodMetadata {
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// How often the sandbox of this pod was made before.
    pub attempt: u32,
}

/// Through which of husk's doors a pod came. What came through one is never shown through another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// The CRI: a kubelet's.
    #[default]
    Cri,
    /// Docker's API.
    Docker,
    /// husk's own command line.
    Husk,
}

/// A validated CRI `PodSandboxConfig`, or what another door makes of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodConfig {
    /// The kubelet's name for it.
    pub metadata: PodMetadata,
    /// Whose it is.
    #[serde(default)]
    pub door: Door,
    /// Hostname in the pod's UTS namespace; empty with the node's network or UTS namespace means the node's own name.
    pub hostname: String,
    /// Domain of the host name, for /etc/hosts alone; may be empty.
    #[serde(default)]
    pub domain: String,
    /// Absolute directory of the containers' logs; empty when none are wanted.
    pub log_directory: String,
    /// resolv.conf; `None` means the node's. Where names of user networks are served, these are whom the resolver asks for all
    /// others, and resolv.conf names the resolver.
    pub dns: Option<DnsConfig>,
    /// Lines of /etc/hosts beyond husk's own: an address and its names.
    #[serde(default)]
    pub hosts: Vec<(IpAddr, String)>,
    /// Host ports. Of the CRI's, those with host port 0 are already gone; in user networks 0 is a free port.
    pub host_ports: Vec<HostPort>,
    /// Its networks.
    #[serde(default)]
    pub networking: PodNetworking,
    /// Labels, echoed.
    pub labels: BTreeMap<String, String>,
    /// Annotations, echoed.
    pub annotations: BTreeMap<String, String>,
    /// Parent cgroup as the kubelet names it; empty means the daemon's default parent.
    pub cgroup_parent: String,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// Security context of the sandbox.
    pub security: SecurityContext,
    /// Overhead of the pod (KEP-688), stored and reported.
    pub overhead: Option<Resources>,
    /// Sum of the containers' resources, stored and reported.
    pub resources: Option<Resources>,
    /// Runtime handler of the request, echoed.
    pub runtime_handler: String,
    /// Bytes of the pod's /dev/shm; 0 is husk's default.
    #[serde(default)]
    pub shm_size: u64,
}

impl PodConfig {
    /// A request that says nothing but a name.
    pub fn named(metadata: PodMetadata) -> Self {
        Self {
            metadata,
            door: Door::default(),
            hostname: String::new(),
            domain: String::new(),
            log_directory: String::new(),
            dns: None,
            hosts: Vec::new(),
            host_ports: Vec::new(),
            networking: PodNetworking::Default,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            cgroup_parent: String::new(),
            sysctls: BTreeMap::new(),
            security: SecurityContext::default(),
            overhead: None,
            resources: None,
            runtime_handler: String::new(),
            shm_size: 0,
        }
    }

    /// Namespace modes of the sandbox.
    pub fn namespaces(&self) -> &Namespaces {
        &self.security.namespaces
    }
}
