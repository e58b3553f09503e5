//! Who has which port of the node, and the elements in the nftables maps that make it so.
//!
//! The records are the truth; this is rebuilt from them at start, and the table is loaded with all of them whenever it
//! is (re)made.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use husk_model::{HostPort, PodSandboxId, Protocol};
use serde::{Deserialize, Serialize};

use crate::{BridgeConfig, Free, NetworkError};

use super::nft;

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
struct Key {
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    host_port: u16,
    ipv4: bool,
}

impl Mapping {
    fn key(&self) -> Key {
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
pub(super) fn mappings(ports: &[HostPort], ips: &[IpAddr]) -> Vec<Mapping> {
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

/// All mappings of the node.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    owners: HashMap<Key, (PodSandboxId, Mapping)>,
}

impl HostPorts {
    /// Takes over what a record says, at start.
    pub(super) fn adopt(&mut self, id: &PodSandboxId, mappings: &[Mapping]) {
        for mapping in mappings {
            self.owners.insert(mapping.key(), (id.clone(), mapping.clone()));
        }
    }

    /// Loads the whole table with every mapping there is.
    ///
    /// # Errors
    /// Those of nft.
    pub(super) async fn load_table(&self, config: &BridgeConfig) -> Result<(), NetworkError> {
        let all: Vec<Mapping> = self.owners.values().map(|(_, mapping)| mapping.clone()).collect();
        nft::run("load the table", nft::table(config, &all)).await
    }

    /// Gives `id` its ports. When nft refuses, perhaps because somebody flushed the rule set, the table is loaded anew.
    ///
    /// # Errors
    /// [`NetworkError::HostPortTaken`], or those of nft; none of the ports is mapped then.
    pub(super) async fn add(
        &mut self,
        config: &BridgeConfig,
        id: &PodSandboxId,
        mappings: &[Mapping],
    ) -> Result<(), NetworkError> {
        if mappings.is_empty() {
            return Ok(());
        }
        for mapping in mappings {
            if let Some((owner, _)) = self.owners.get(&mapping.key()).filter(|(owner, _)| owner != id) {
                return Err(NetworkError::HostPortTaken {
                    protocol: mapping.protocol,
                    address: mapping.host_ip,
                    port: mapping.host_port,
                    owner: owner.clone(),
                });
            }
        }
        self.adopt(id, mappings);
        let added = match nft::run("map host ports", nft::add(&config.table, mappings)).await {
            Err(NetworkError::Nft { .. }) => self.load_table(config).await,
            other => other,
        };
        if added.is_err() {
            self.forget(id, mappings);
        }
        added
    }

    /// Takes the ports of `id` away again; those that are not there are fine, and so is a table that is gone.
    ///
    /// # Errors
    /// Those of nft.
    pub(super) async fn remove(
        &mut self,
        config: &BridgeConfig,
        id: &PodSandboxId,
        mappings: &[Mapping],
    ) -> Result<(), NetworkError> {
        let own: Vec<Mapping> = mappings
            .iter()
            .filter(|mapping| self.owners.get(&mapping.key()).is_some_and(|(owner, _)| owner == id))
            .cloned()
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        match nft::run("unmap host ports", nft::remove(&config.table, &own)).await {
            // Without nft, or without the table, there is nothing they could be mapped by.
            Ok(()) | Err(NetworkError::NftMissing) => {}
            Err(NetworkError::Nft { message, .. }) if message.contains("No such file or directory") => {}
            Err(error) => return Err(error),
        }
        self.forget(id, &own);
        Ok(())
    }

    /// Finds elements in the kernel that no pod has, and deletes those that `free` agrees to. Returns them as nft writes
    /// them.
    ///
    /// # Errors
    /// Those of nft.
    pub(super) async fn free_stale(
        &mut self,
        config: &BridgeConfig,
        free: &Free,
    ) -> Result<Vec<String>, NetworkError> {
        let present = match nft::list(&config.table).await {
            Ok(present) => present,
            // Without nft, or without the table, there is nothing that could be stale.
            Err(NetworkError::NftMissing) => return Ok(Vec::new()),
            Err(NetworkError::Nft { message, .. }) if message.contains("No such file or directory") => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let owned = |mapping: &Mapping| self.owners.values().any(|(_, of_pod)| of_pod == mapping);
        let stale: Vec<Mapping> = present.into_iter().filter(|mapping| !owned(mapping)).collect();
        let goes = |mapping: &&Mapping| free(&nft::element(mapping));
        let freed: Vec<Mapping> = stale.iter().filter(goes).cloned().collect();
        if !freed.is_empty() {
            nft::run("delete stale host ports", nft::remove(&config.table, &freed)).await?;
        }
        Ok(stale.iter().map(nft::element).collect())
    }

    fn forget(&mut self, id: &PodSandboxId, mappings: &[Mapping]) {
        for mapping in mappings {
            if self.owners.get(&mapping.key()).is_some_and(|(owner, _)| owner == id) {
                self.owners.remove(&mapping.key());
            }
        }
    }
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
