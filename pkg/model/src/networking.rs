//! Which networks a pod wants to be in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// What connects a pod that has a network namespace of its own. One that shares the node's
/// ([`crate::NamespaceMode::Node`]) has no say in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodNetworking {
    /// The pod network of the node: CNI's, or the embedded bridge.
    #[default]
    Default,
    /// Nothing but loopback.
    Isolated,
    /// User networks, in the order of the pod's interfaces (`eth0`, `eth1`, ...). None of them may be named twice.
    Named(Vec<Attachment>),
}

/// A pod's place in one user network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Id of the network, 64 lower-case hex characters.
    pub network: String,
    /// What others in the network may call the pod. The first is the name that its addresses have when they are asked for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What this pod alone calls others in the network: its own word for one, and a name that the other has.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// This address and no other.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// This address and no other.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Addresses that the pod would like, as far as they are of this network and free: those of its former self.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<IpAddr>,
    /// Hardware address of the interface; `None` makes one from the address.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
    /// Of all networks of a pod that lead out of the node, the one with the highest number has the default route; of equals the
    /// first.
    #[serde(default)]
    pub gateway_priority: i32,
}
