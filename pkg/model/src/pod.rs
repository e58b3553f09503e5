//! What a pod sandbox is asked to be.

use std::collections::BTreeMap;

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

/// A validated CRI `PodSandboxConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodConfig {
    /// The kubelet's name for it.
    pub metadata: PodMetadata,
    /// Hostname in the pod's UTS namespace; empty with the node's network namespace means the node's own name.
    pub hostname: String,
    /// Absolute directory of the containers' logs; empty when none are wanted.
    pub log_directory: String,
    /// resolv.conf; `None` means the node's. Where names of user networks are served, these are whom the resolver asks for all
    /// others, and resolv.conf names the resolver.
    pub dns: Option<DnsConfig>,
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
}

impl PodConfig {
    /// A request that says nothing but a name.
    pub fn named(metadata: PodMetadata) -> Self {
        Self {
            metadata,
            hostname: String::new(),
            log_directory: String::new(),
            dns: None,
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
        }
    }

    /// Namespace modes of the sandbox.
    pub fn namespaces(&self) -> &Namespaces {
        &self.security.namespaces
    }
}
