//! What is asked of the network for one pod, and what it answers.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use husk_model::{DnsConfig, HostPort, PodConfig, PodNetworking, PodSandboxId};
use serde::{Deserialize, Serialize};

/// Name of the pod's interface. Everybody expects this one (CRI-O and containerd set it as `CNI_IFNAME`).
pub(crate) const INTERFACE: &str = "eth0";

/// The pods that there are or may come to be, as of the moment of the call.
pub type Owners = Arc<dyn Fn() -> HashSet<PodSandboxId> + Send + Sync>;
/// Whether the object of this name is to be freed.
pub type Free = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A pod that wants a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodNetworkRequest {
    /// The sandbox; CNI's `CNI_CONTAINERID`.
    pub id: PodSandboxId,
    /// Pod name, for CNI's `K8S_POD_NAME`.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// Where its network namespace is pinned.
    pub netns: PathBuf,
    /// Ports of the node that lead into the pod.
    pub host_ports: Vec<HostPort>,
    /// Its networks.
    #[serde(default)]
    pub networking: PodNetworking,
    /// Annotations; `kubernetes.io/ingress-bandwidth` and `-egress-bandwidth` go to plugins that shape traffic.
    pub annotations: BTreeMap<String, String>,
    /// DNS wishes, for plugins with the `dns` capability.
    pub dns: Option<DnsConfig>,
    /// The pod's parent cgroup, for plugins with the `cgroupPath` capability; may be empty.
    pub cgroup_parent: String,
}

impl PodNetworkRequest {
    /// The request of a pod whose namespace is pinned at `netns`.
    pub fn new(id: PodSandboxId, netns: PathBuf, pod: &PodConfig) -> Self {
        Self {
            id,
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            netns,
            host_ports: pod.host_ports.clone(),
            networking: pod.networking.clone(),
            annotations: pod.annotations.clone(),
            dns: pod.dns.clone(),
            cgroup_parent: pod.cgroup_parent.clone(),
        }
    }
}

/// A pod's network as it was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// Addresses of the pod's interface; the first is the pod's IP (CRI `PodSandboxNetworkStatus.ip`), the others
    /// are its `additional_ips`.
    pub ips: Vec<IpAddr>,
    /// Name of the interface in the pod that the first address is of.
    pub interface: String,
    /// Names of user networks are served in the pod, at [`crate::NAME_SERVER`].
    #[serde(default)]
    pub names: bool,
    /// Who made it.
    pub provider: Provider,
}

impl PodNetwork {
    /// That of a pod that has loopback and nothing else.
    pub(crate) fn loopback() -> Self {
        let (ips, interface) = (Vec::new(), "lo".to_owned());
        Self { ips, interface, names: false, provider: Provider::Nobody }
    }
}

/// Who provides a pod's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The embedded bridge of this name.
    Embedded(String),
    /// The CNI network of this name.
    Cni(String),
    /// User networks.
    User,
    /// Nobody: the pod has loopback and nothing else.
    Nobody,
}

/// CRI's `NetworkReady` condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Whether pods can get a network now.
    pub ready: bool,
    /// One CamelCase word; empty when all is well.
    pub reason: String,
    /// For the operator: why it is not ready, or what does not work although it is.
    pub message: String,
    /// Who would provide the next pod's network.
    pub provider: Provider,
}

/// What [`crate::Network::gc`] freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Pods that were torn down from their records.
    pub pods: Vec<PodSandboxId>,
    /// Address reservations without a pod.
    pub addresses: Vec<IpAddr>,
    /// Host ends of veth pairs without a pod.
    pub links: Vec<String>,
    /// Namespace pins without a pod.
    pub pins: Vec<PathBuf>,
    /// Host ports in the nftables table that are no pod's, as nft writes them.
    pub elements: Vec<String>,
    /// What could not be freed, in words; the next run tries again.
    pub failures: Vec<String>,
}

impl GcReport {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
