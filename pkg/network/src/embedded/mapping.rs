//! Ports of the node that lead into a pod, one element of an nftables map each.

use std::net::{IpAddr, SocketAddr};

use husk_model::{HostPort, Protocol};
use serde::{Deserialize, Serialize};

/// One element: a port of the node, for one family, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    pub(crate) protocol: Protocol,
    /// `None` is every address of the target's family.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) target: SocketAddr,
}

/// Two mappings cannot both have this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    host_port: u16,
    ipv4: bool,
}

impl Mapping {
    pub(crate) fn key(&self) -> Key {
        Key {
            protocol: self.protocol,
            host_ip: self.host_ip,
            host_port: self.host_port,
            ipv4: self.target.is_ipv4(),
        }
    }
}

/// The mappings of a pod with these addresses. A port without an address of the node, or with the unspecified one,
/// is mapped once for each family the pod has (an unspecified address: only for its own family). A port on an address of a
/// family that the pod lacks leads nowhere and is left out, as CNI's portmap does: manifests that serve nodes of both families
/// have them. The same port asked for twice is mapped once.
pub(crate) fn mappings(ports: &[HostPort], ips: &[IpAddr]) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for port in ports {
        let fits = |ip: &IpAddr| port.host_ip.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
        let mut served = false;
        for ip in ips.iter().filter(|ip| fits(ip)) {
            let mapping = Mapping {
                protocol: port.protocol,
                host_ip: port.host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: port.host_port,
                target: SocketAddr::new(*ip, port.container_port),
            };
            served = true;
            if !mappings.contains(&mapping) {
                mappings.push(mapping);
            }
        }
        if let (Some(address), false) = (port.host_ip, served) {
            tracing::warn!(%address, port = port.host_port, "host port left out: the pod has no address of that family");
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: Option<&str>) -> HostPort {
        HostPort {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        }
    }

    fn targets(host_ip: Option<&str>, ips: &[&str]) -> Vec<(Option<String>, String)> {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        mappings(&[port(host_ip), port(host_ip)], &ips)
            .into_iter()
            .map(|m| (m.host_ip.map(|ip| ip.to_string()), m.target.to_string()))
            .collect()
    }

    #[test]
    fn a_port_is_mapped_for_each_family_it_applies_to() {
        let (v4, v6) = ((None, "10.1.0.2:80".to_owned()), (None, "[fd00::2]:80".to_owned()));
        let both = ["10.1.0.2", "fd00::2"];
        assert_eq!(targets(None, &both), [v4.clone(), v6.clone()]);
        assert_eq!(targets(Some("0.0.0.0"), &both), [v4]);
        assert_eq!(targets(Some("::"), &both), [v6]);
        assert_eq!(targets(Some("127.0.0.1"), &both), [(Some("127.0.0.1".into()), "10.1.0.2:80".into())]);
    }

    #[test]
    fn an_address_of_a_family_the_pod_lacks_is_left_out_and_the_others_stay() {
        assert!(targets(Some("::1"), &["10.1.0.2"]).is_empty());
        let mapped = mappings(&[port(Some("::")), port(None)], &["10.1.0.2".parse().unwrap()]);
        assert_eq!(mapped.len(), 1);
    }
}
