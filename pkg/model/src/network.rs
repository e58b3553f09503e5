//! Network wishes of a pod: DNS and host ports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Contents of the pod's resolv.conf (CRI `DNSConfig`). An empty one means: the node's own resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines, in order: IP addresses, those of IPv6 possibly with a zone.
    pub servers: Vec<String>,
    /// Domains of the `search` line.
    pub searches: Vec<String>,
    /// Entries of the `options` line.
    pub options: Vec<String>,
}

impl DnsConfig {
    /// Whether the request leaves DNS to the node.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.searches.is_empty() && self.options.is_empty()
    }
}

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the node that leads to a port of the pod. Mappings with host port 0 never become one of these
/// (CRI: "If unspecified or 0, no host port is mapped").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port inside the pod, 1-65535.
    pub container_port: u16,
    /// Port on the node, 1-65535; 0 is one that is free (only in user networks).
    pub host_port: u16,
    /// Address on the node to listen on; `None` is every address.
    pub host_ip: Option<IpAddr>,
}
