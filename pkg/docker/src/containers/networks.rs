//! A container's places in networks: what the engine is asked for, and what is so while it runs.

use std::{net::IpAddr, sync::Arc};

use husk_model::{Attachment, HostPort, PodNetworking, PodSandboxId};
use husk_network::{Attached, NetworkError};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    container::{Container, short},
    record::{BRIDGE, Record},
    store::Store,
};
use crate::{
    api::network::EndpointSettings,
    error::{Failure, Result},
    facilities::{Endpoint, User},
};

impl Store {
    /// Finds the networks of a container that is being made, by the names that the request has, and notes their ids.
    ///
    /// # Errors
    /// 404 for one that is not there, 400 for an address that is none.
    pub(super) async fn find_networks(&self, record: &mut Record) -> Result<()> {
        if is_without(&record.host.network_mode) {
            return Ok(());
        }
        let user = self.0.shared.network.user();
        for (wanted, mut place) in std::mem::take(&mut record.networks) {
            let network = match wanted.as_str() {
                BRIDGE => user.default_bridge().await?,
                name => {
                    user.find(name).map_err(|_| Failure::not_found(format!("network {name} not found")))?
                }
            };
            if network.overlay.is_some() && !network.attachable {
                return Err(Failure::forbidden(format!("network {wanted} not manually attachable")));
            }
            place.network_id.clone_from(&network.id);
            attachment(&place, Names::default())?;
            if record.host.network_mode == wanted {
                record.host.network_mode.clone_from(&network.name);
            }
            record.networks.insert(network.name.clone(), place);
        }
        Ok(())
    }

    /// What the engine is asked for.
    ///
    /// # Errors
    /// 400 for an address that is none.
    pub(super) fn networking(&self, record: &Record) -> Result<PodNetworking> {
        match record.host.network_mode.as_str() {
            // The node's namespace has the node's network.
            "host" => return Ok(PodNetworking::Default),
            "none" => return Ok(PodNetworking::Isolated),
            _ => {}
        }
        let mut places: Vec<_> = record.networks.iter().collect();
        // The one that the container was made with is its first interface.
        places.sort_by_key(|(name, _)| (**name != record.host.network_mode, (*name).clone()));
        let former = record.state.run.as_ref().map(|run| run.addresses.clone()).unwrap_or_default();
        let attachments = places.into_iter().map(|(name, place)| {
            let attachment = attachment(place, self.names_in(record, name, place)?)?;
            Ok(Attachment { preferred: former.clone(), ..attachment })
        });
        Ok(PodNetworking::Named(attachments.collect::<Result<_>>()?))
    }

    /// What others call it in a network, and what it calls them.
    fn names_in(&self, record: &Record, network: &str, place: &EndpointSettings) -> Result<Names> {
        let mut links = super::links::parse(place.links.as_ref())?;
        // A link that is asked for without a network is one of the first network.
        if record.host.network_mode == network {
            links.extend(super::links::of(&record.host)?);
        }
        let theirs = |link: super::links::Link| {
            let name = self.find(&link.target).map_or(link.target, |other| other.record().name.clone());
            (link.alias, name)
        };
        Ok(Names {
            own: own_names(record, network, place),
            links: if network == BRIDGE { Vec::new() } else { links.into_iter().map(theirs).collect() },
        })
    }

    /// Its IPv4 address in a network, else its IPv6 one.
    pub(super) fn address_in(&self, record: &Record, network: &str) -> Option<IpAddr> {
        let id = &record.networks.get(network)?.network_id;
        let attached = self.attached(record).into_iter().find(|attached| attached.network == *id)?;
        attached.addresses.iter().map(IpNet::addr).min_by_key(IpAddr::is_ipv6)
    }

    /// The node's address in Docker's network `bridge`, which `host-gateway` stands for.
    ///
    /// # Errors
    /// Those of making that network.
    pub(super) async fn host_gateway(&self, record: &Record) -> Result<Option<IpAddr>> {
        if !record.host.extra_hosts.iter().flatten().any(|entry| entry.ends_with(super::plan::HOST_GATEWAY)) {
            return Ok(None);
        }
        let bridge = self.0.shared.network.user().default_bridge().await?;
        Ok(bridge.subnets.first().map(|subnet| subnet.gateway))
    }

    /// Names and ids of its networks.
    pub(super) fn network_names(&self, record: &Record) -> Vec<String> {
        let both = record.networks.iter().flat_map(|(name, place)| [name.clone(), place.network_id.clone()]);
        both.filter(|text| !text.is_empty()).collect()
    }

    /// Its places in networks, as they are now.
    pub(super) fn places(&self, record: &Record) -> Map<String, Value> {
        let attached = self.attached(record);
        let mut places = Map::new();
        for (name, place) in &record.networks {
            let mut place = place.clone();
            let names = own_names(record, name, &place);
            place.dns_names = (!names.is_empty()).then(|| names.clone());
            if let Some(attached) = attached.iter().find(|attached| attached.network == place.network_id) {
                fill_in(&mut place, record, attached);
            }
            places.insert(name.clone(), serde_json::to_value(place).unwrap_or_default());
        }
        places
    }

    fn attached(&self, record: &Record) -> Vec<Attached> {
        pod_of(record).map(|pod| self.0.shared.network.user().of(&pod)).unwrap_or_default()
    }

    /// Its pod, and what it is to be called in networks where it is called otherwise now; `None` when it is called so already.
    pub(super) fn other_names(&self, record: &Record) -> Option<(PodSandboxId, NamesIn)> {
        let pod = pod_of(record)?;
        let otherwise = self.attached(record).into_iter().filter_map(|attached| {
            let (name, place) =
                record.networks.iter().find(|(_, place)| place.network_id == attached.network)?;
            let names = own_names(record, name, place);
            (names != attached.aliases).then_some((attached.network, names))
        });
        let otherwise: Vec<_> = otherwise.collect();
        (!otherwise.is_empty()).then_some((pod, otherwise))
    }

    /// Ports of the node that lead to it.
    pub(super) fn bound_ports(&self, record: &Record) -> Vec<HostPort> {
        pod_of(record).map(|pod| self.0.shared.network.user().ports(&pod)).unwrap_or_default()
    }

    /// Those that are in a network, with their places.
    pub(super) fn endpoints(&self, network: &str) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for container in self.all() {
            let record = container.record();
            let Some((_, place)) =
                record.networks.iter().find(|(name, place)| *name == network || place.network_id == network)
            else {
                continue;
            };
            let attached = self.attached(&record);
            let attached = attached.iter().find(|attached| attached.network == place.network_id);
            let address = |ipv4: bool| {
                let addresses = attached.into_iter().flat_map(|attached| &attached.addresses);
                addresses
                    .filter(|net| net.addr().is_ipv4() == ipv4)
                    .map(IpNet::to_string)
                    .next()
                    .unwrap_or_default()
            };
            endpoints.push(Endpoint {
                user: User {
                    id: record.id.clone(),
                    name: record.name.clone(),
                    running: record.state.is_running(),
                },
                endpoint: attached
                    .map(|attached| endpoint_id(&record, &attached.network))
                    .unwrap_or_default(),
                mac: attached.map(|attached| mac(attached.mac)).unwrap_or_default(),
                ipv4: address(true),
                ipv6: address(false),
            });
        }
        endpoints
    }

    /// Puts a container into one more network.
    ///
    /// # Errors
    /// 403 where it cannot be, 404 for a network that is not there; then it is where it was.
    pub(super) async fn connect_to(
        &self,
        container: &Arc<Container>,
        network: &str,
        mut place: EndpointSettings,
    ) -> Result<()> {
        let _turn = container.turn().await;
        let record = container.record();
        if is_without(&record.host.network_mode) {
            return Err(Failure::forbidden(format!(
                "container sharing network namespace with another container or host cannot be connected to any other network: {}",
                record.host.network_mode
            )));
        }
        let user = self.0.shared.network.user();
        let network = match network {
            BRIDGE => user.default_bridge().await?,
            name => user.find(name).map_err(|_| Failure::not_found(format!("network {name} not found")))?,
        };
        if record.networks.values().any(|other| other.network_id == network.id) {
            return Err(Failure::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        place.network_id.clone_from(&network.id);
        let wanted = attachment(&place, self.names_in(&record, &network.name, &place)?)?;
        let running = pod_of(&record);
        if let Some(pod) = &running {
            user.connect(pod, wanted).await?;
        }
        let noted = container.change(|record| drop(record.networks.insert(network.name.clone(), place)));
        if let (Err(_), Some(pod)) = (&noted, &running) {
            // What is not on record must not be so.
            let _ = user.disconnect(pod, &network.id, true).await;
        }
        noted.map(drop)
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// 404 when it is not in it.
    pub(super) async fn disconnect_from(
        &self,
        container: &Arc<Container>,
        network: &str,
        force: bool,
    ) -> Result<()> {
        let _turn = container.turn().await;
        let record = container.record();
        let is_it = |(name, place): &(&String, &EndpointSettings)| {
            *name == network || place.network_id == network || place.network_id.starts_with(network)
        };
        let Some((name, place)) = record.networks.iter().find(is_it) else {
            return Err(Failure::forbidden(format!(
                "container {} is not connected to network {network}",
                container.id
            )));
        };
        if let Some(pod) = pod_of(&record)
            && let Err(error) = self.0.shared.network.user().disconnect(&pod, &place.network_id, force).await
            && !force
            // An earlier attempt took it out, and could not write that down.
            && !matches!(error, NetworkError::NotAttached { .. })
        {
            return Err(error.into());
        }
        container.change(|record| drop(record.networks.remove(name)))?;
        Ok(())
    }
}

/// Whether it has no networks of its own.
fn is_without(mode: &str) -> bool {
    matches!(mode, "host" | "none") || mode.starts_with("container:")
}

fn pod_of(record: &Record) -> Option<PodSandboxId> {
    record.state.run.as_ref().and_then(|run| run.pod.clone()).filter(|_| record.state.is_running())
}

/// What others in a network of a user call it by itself.
fn own_names(record: &Record, network: &str, place: &EndpointSettings) -> Vec<String> {
    match network {
        BRIDGE => Vec::new(),
        _ => {
            let mut names = vec![record.name.clone()];
            names.extend(place.aliases.clone().unwrap_or_default());
            names.push(short(&record.id).to_owned());
            if !record.config.hostname.is_empty() {
                names.push(record.config.hostname.clone());
            }
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            names
        }
    }
}

/// By the network's id, what a pod is called in it.
type NamesIn = Vec<(String, Vec<String>)>;

/// Names in a network.
#[derive(Debug, Default)]
struct Names {
    own: Vec<String>,
    links: Vec<(String, String)>,
}

fn attachment(place: &EndpointSettings, names: Names) -> Result<Attachment> {
    super::links::parse(place.links.as_ref())?;
    let wanted = place.ipam_config.clone().unwrap_or_default();
    fn parse<T: std::str::FromStr>(text: &str) -> Result<Option<T>> {
        let wrong =
            |_| Failure::bad(format!("invalid address {:?}", text.chars().take(80).collect::<String>()));
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
    }
    Ok(Attachment {
        network: place.network_id.clone(),
        aliases: names.own,
        links: names.links,
        ipv4: parse(&wanted.ipv4_address)?,
        ipv6: parse(&wanted.ipv6_address)?,
        preferred: Vec::new(),
        mac: parse_mac(&place.mac_address)?,
        gateway_priority: i32::try_from(place.gw_priority).unwrap_or(0),
    })
}

fn parse_mac(text: &str) -> Result<Option<[u8; 6]>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes: Option<Vec<u8>> =
        text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| {
        Failure::bad(format!("invalid MAC address {:?}", text.chars().take(80).collect::<String>()))
    })
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// One for each pair of container and network.
fn endpoint_id(record: &Record, network: &str) -> String {
    format!("{}{}", record.id.get(..32).unwrap_or_default(), network.get(..32).unwrap_or_default())
}

fn fill_in(place: &mut EndpointSettings, record: &Record, attached: &Attached) {
    place.endpoint_id = endpoint_id(record, &attached.network);
    place.mac_address = mac(attached.mac);
    let gateway = |ipv4: bool| {
        let gateway = attached.gateways.iter().find(|gateway| gateway.is_ipv4() == ipv4);
        gateway.map(IpAddr::to_string).unwrap_or_default()
    };
    place.gateway = gateway(true);
    place.ipv6_gateway = gateway(false);
    for net in &attached.addresses {
        let (address, prefix) = (net.addr().to_string(), i64::from(net.prefix_len()));
        match net {
            IpNet::V4(_) => (place.ip_address, place.ip_prefix_len) = (address, prefix),
            IpNet::V6(_) => (place.global_ipv6_address, place.global_ipv6_prefix_len) = (address, prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let place = |text: &str| serde_json::from_str::<EndpointSettings>(text).unwrap();
        let good = place(r#"{"IPAMConfig":{"IPv4Address":"10.1.2.3"},"MacAddress":"02:42:0a-01-02-03"}"#);
        let wanted = attachment(&good, Names::default()).unwrap();
        assert_eq!((wanted.ipv4, wanted.mac), (Some([10, 1, 2, 3].into()), Some([2, 0x42, 10, 1, 2, 3])));
        for bad in [
            r#"{"IPAMConfig":{"IPv4Address":"10.1.2"}}"#,
            r#"{"MacAddress":"02:42"}"#,
            r#"{"MacAddress":"x"}"#,
            r#"{"Links":["a:b c"]}"#,
        ] {
            assert_eq!(attachment(&place(bad), Names::default()).unwrap_err().status(), 400, "{bad}");
        }
    }
}
