//! A pod's places in user networks: reserved, recorded, made, and undone.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use husk_model::{Attachment as Wanted, HostPort, PodSandboxId};
use husk_resolver::Sockets;
use ipnet::IpNet;
use rtnetlink::Handle;
use rustix::io::Errno;

use super::{User, ports, resolvers::listen, spec::UserNetwork};
use crate::{
    NetworkError, PodNetwork, PodNetworkRequest, Provider,
    embedded::{bridge::with_prefix, conntrack::Stale, names::mac},
    ipam::Ipam,
    netlink::{self, Veth},
    netns_pool::Prepared,
    record::{Attachment, Plug, Record, UserAttachment},
    sysctl,
};

/// Most networks of one pod.
pub(super) const MAX_PLUGS: usize = 256;

/// A pod that is on record.
struct Admitted {
    places: UserAttachment,
    answer: PodNetwork,
    /// For queries, where names are served.
    listening: Option<Sockets>,
}

impl User {
    /// Gives a pod its places. A failure leaves nothing, or a record that says what is left.
    pub(crate) async fn setup(
        self: &Arc<Self>,
        request: PodNetworkRequest,
        wanted: Vec<Wanted>,
        prepared: Prepared,
    ) -> Result<PodNetwork, NetworkError> {
        let id = request.id.clone();
        if wanted.len() > MAX_PLUGS {
            return Err(NetworkError::Wish(format!("a pod may be in {MAX_PLUGS} networks")));
        }
        let dns = request.dns.clone();
        let Admitted { places: attachment, answer, listening } =
            self.admit(request, wanted, &prepared).await?;
        let served = listening.map_or(Ok(()), |listening| {
            self.serve_names(&id, dns.as_ref(), listening, Arc::clone(&prepared.ns))
        });
        let built = match served {
            Ok(()) => self.build(&id, &attachment, &prepared).await,
            Err(error) => Err(error),
        };
        match built {
            Ok(()) => Ok(answer),
            Err(error) => {
                // The record stays if undoing fails, and gc tries again; the first error is the one to report.
                if let Err(undo) = self.teardown(&id, &attachment).await {
                    let undo = &undo as &dyn std::error::Error;
                    tracing::warn!(%id, error = undo, "undo a failed network setup");
                }
                Err(error)
            }
        }
    }

    /// Undoes a pod's places, and forgets it. What is gone already is fine.
    pub(crate) async fn teardown(
        self: &Arc<Self>,
        id: &PodSandboxId,
        attachment: &UserAttachment,
    ) -> Result<(), NetworkError> {
        if !attachment.mappings.is_empty() {
            let config = self.embedded.config();
            self.embedded.host_ports().await.remove(&config, id, &attachment.mappings).await?;
            self.embedded.forget_flows(Stale::Led(&attachment.mappings)).await;
        }
        for plug in &attachment.plugs {
            self.holds.hold(plug.ips(), &plug.link);
            self.release(id, plug)?;
        }
        self.resolvers.stop(id);
        self.records.remove(id)?;
        self.state().pods.remove(id);
        let links: Vec<String> = attachment.plugs.iter().map(|plug| plug.link.clone()).collect();
        self.holds.end_later(links);
        Ok(())
    }

    /// Reserves the addresses and ports and writes the record: the first traces a pod leaves. Then nobody removes its networks any
    /// more.
    async fn admit(
        &self,
        request: PodNetworkRequest,
        wanted: Vec<Wanted>,
        prepared: &Prepared,
    ) -> Result<Admitted, NetworkError> {
        let _order = self.order.read().await;
        let mut networks = Vec::with_capacity(wanted.len());
        for wanted in &wanted {
            let network = self.find(&wanted.network)?;
            if networks.iter().any(|other: &Arc<UserNetwork>| other.id == network.id) {
                return Err(NetworkError::Attached { network: network.name.clone() });
            }
            self.ready(&network).await?;
            networks.push(network);
        }
        let ipv6 = networks.iter().any(|network| network.has_family(false));
        let names = networks.iter().any(|network| network.names);
        let listening = enter(prepared.ns.as_fd(), (ipv6 || !prepared.hardened).then_some(ipv6), names)?;
        let id = request.id.clone();
        let mut attachment = UserAttachment {
            name_port: listening.as_ref().map(|(_, port)| *port),
            ..UserAttachment::default()
        };
        let admitted = self.admit_to(request, &networks, wanted, &mut attachment).await;
        if admitted.is_err() {
            self.embedded.host_ports().await.forget(&id, &attachment.mappings);
            for plug in &attachment.plugs {
                // The reservation carries the pod's id; if it cannot be given back now, gc will.
                let _ = self.release(&id, plug);
            }
        }
        let answer = admitted?;
        self.state().pods.insert(id, Arc::new(attachment.clone()));
        Ok(Admitted { places: attachment, answer, listening: listening.map(|(listening, _)| listening) })
    }

    async fn admit_to(
        &self,
        request: PodNetworkRequest,
        networks: &[Arc<UserNetwork>],
        wanted: Vec<Wanted>,
        attachment: &mut UserAttachment,
    ) -> Result<PodNetwork, NetworkError> {
        for (number, (network, wanted)) in networks.iter().zip(wanted).enumerate() {
            attachment.plugs.push(self.reserve(&request.id, network, wanted, number).await?);
        }
        let chosen = self.ports(&request.id, &request.host_ports, attachment).await?;
        (attachment.ports, attachment.mappings) = (chosen.ports, chosen.mappings);
        let answer = answer(attachment);
        let recorded = attachment.clone();
        let record =
            Record { request, network: Some(answer.clone()), attachment: Attachment::User(recorded) };
        self.records.write(&record)?;
        Ok(answer)
    }

    /// Chooses the ports of a pod with these places, and takes them.
    pub(super) async fn ports(
        &self,
        id: &PodSandboxId,
        wanted: &[HostPort],
        attachment: &UserAttachment,
    ) -> Result<ports::Chosen, NetworkError> {
        if wanted.is_empty() {
            return Ok(ports::Chosen::default());
        }
        let (ips, host_ip) = self.reached_at(&attachment.plugs);
        let mut wanted = wanted.to_vec();
        for port in &mut wanted {
            port.host_ip = port.host_ip.or(host_ip);
        }
        let mut taken = self.embedded.host_ports().await;
        let chosen = ports::choose(&taken, id, &wanted, &ips, &attachment.mappings)?;
        taken.adopt(id, &chosen.mappings);
        Ok(chosen)
    }

    /// Where published ports lead, and the node's address for those that name none.
    fn reached_at(&self, plugs: &[Plug]) -> (Vec<IpAddr>, Option<IpAddr>) {
        let mut ips = Vec::new();
        let mut host_ip = None;
        for ipv4 in [true, false] {
            let Some(plug) = gateway_plug(plugs, ipv4) else { continue };
            ips.extend(plug.ips().into_iter().filter(|ip| ip.is_ipv4() == ipv4));
            if ipv4 {
                let network = self.state().networks.get(&plug.wanted.network).cloned();
                host_ip = network.and_then(|network| network.settings().host_ip).map(IpAddr::V4);
            }
        }
        (ips, host_ip)
    }

    /// Reserves a place in a network: `number` is that of the interface.
    pub(super) async fn reserve(
        &self,
        id: &PodSandboxId,
        network: &UserNetwork,
        wanted: Wanted,
        number: usize,
    ) -> Result<Plug, NetworkError> {
        if let Some(mac) = wanted.mac.filter(|mac| mac[0] & 1 == 1 || *mac == [0; 6]) {
            return Err(NetworkError::Wish(format!("{mac:02x?} is not the hardware address of one host")));
        }
        let interface = format!("eth{number}");
        let fixed: Vec<IpAddr> =
            [wanted.ipv4.map(IpAddr::V4), wanted.ipv6.map(IpAddr::V6)].into_iter().flatten().collect();
        let ipam = self.store.ipam(network)?;
        let has_none = |ip: &IpAddr| fixed.iter().all(|fixed| fixed.is_ipv4() != ip.is_ipv4());
        let preferred = wanted.preferred.iter().copied().filter(|ip| has_none(ip) && ipam.may_have(*ip));
        let liked: Vec<IpAddr> = fixed.iter().copied().chain(preferred).collect();
        for link in liked.iter().filter_map(|ip| self.holds.holder(*ip)) {
            self.holds.end(&link).await?;
        }
        let reserve = |asked: &[IpAddr]| {
            ipam.reserve_wanted(id, &interface, asked, |ip| self.holds.holder(ip).is_some())
        };
        let reserved = match reserve(&liked) {
            Err(NetworkError::AddressTaken { .. }) if liked != fixed => reserve(&fixed),
            other => other,
        };
        let ips = match reserved {
            Err(NetworkError::Exhausted { .. }) if !self.holds.are_none() => {
                self.holds.end_all().await?;
                reserve(&fixed)?
            }
            other => other?,
        };
        // By address: they come in the order of the subnets, one each.
        let of_ip = |ip: &IpAddr| network.subnets.iter().find(|subnet| subnet.net.contains(ip));
        Ok(Plug {
            link: link_name(id, number),
            addresses: ips.iter().filter_map(|ip| Some(with_prefix(*ip, of_ip(ip)?.net))).collect(),
            gateways: network.subnets.iter().map(|subnet| subnet.gateway).collect(),
            mac: wanted.mac.or_else(|| ips.first().copied().map(mac)).unwrap_or_default(),
            internal: network.internal,
            unsettled: false,
            interface,
            wanted,
        })
    }

    /// Gives a plug's addresses back.
    pub(super) fn release(&self, id: &PodSandboxId, plug: &Plug) -> Result<(), NetworkError> {
        self.ipam_of(&plug.wanted.network)?.map_or(Ok(()), |ipam| ipam.release(id, &plug.ips()))
    }

    pub(super) fn ipam_of(&self, network: &str) -> Result<Option<Ipam>, NetworkError> {
        let network = self.state().networks.get(network).cloned();
        network.map(|network| self.store.ipam(&network)).transpose()
    }

    /// Makes what `attachment` says. A failure leaves it half made, for teardown.
    async fn build(
        &self,
        id: &PodSandboxId,
        attachment: &UserAttachment,
        prepared: &Prepared,
    ) -> Result<(), NetworkError> {
        for plug in &attachment.plugs {
            self.plug(plug, prepared).await?;
        }
        set_routes(&prepared.inside, &attachment.plugs).await?;
        self.publish(id, attachment).await
    }

    /// Maps the ports of the node.
    pub(super) async fn publish(
        &self,
        id: &PodSandboxId,
        attachment: &UserAttachment,
    ) -> Result<(), NetworkError> {
        if attachment.mappings.is_empty() {
            return Ok(());
        }
        let config = self.embedded.config();
        self.embedded.host_ports().await.add(&config, id, &attachment.mappings).await?;
        // A node that cannot list its own addresses has worse trouble than flows that time out.
        let own = netlink::own_ips(&self.netlink.host()).await.unwrap_or_default();
        self.embedded.forget_flows(Stale::Unled(&attachment.mappings, &own)).await;
        Ok(())
    }

    /// Makes one interface, up and with its addresses.
    pub(super) async fn plug(&self, plug: &Plug, prepared: &Prepared) -> Result<(), NetworkError> {
        self.holds.forget(&plug.link);
        self.add_veth(plug, Arc::clone(&prepared.ns)).await?;
        let inside = &prepared.inside;
        let failed = || NetworkError::netlink("configure the pod's end of", &plug.link);
        let Some(link) = netlink::link(inside, &plug.interface).await.map_err(failed())? else {
            return Err(failed()(Errno::NODEV.into()));
        };
        netlink::set_up(inside, link.index).await.map_err(failed())?;
        for address in &plug.addresses {
            netlink::add_address(inside, link.index, *address).await.map_err(failed())?;
        }
        Ok(())
    }

    /// Makes the veth pair. A bridge that somebody deleted meanwhile is made again, and the leftover of an earlier attempt for
    /// the same pod replaced, once each.
    async fn add_veth(&self, plug: &Plug, ns: Arc<OwnedFd>) -> Result<(), NetworkError> {
        let name = &plug.wanted.network;
        let network = self.state().networks.get(name).cloned();
        let network = network.ok_or_else(|| NetworkError::NoNetwork { name: name.clone() })?;
        let isolated = !network.settings().icc;
        let mut tries = 0;
        loop {
            let bridge = self.ready(&network).await?;
            let veth = Veth {
                host: plug.link.clone(),
                bridge: bridge.index,
                peer: plug.interface.clone(),
                peer_mac: plug.mac,
                mtu: bridge.mtu,
                isolated,
            };
            let Err(error) = netlink::add_veth(&self.netlink.host(), veth, Arc::clone(&ns)).await else {
                return Ok(());
            };
            tries += 1;
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                // An unknown master is EINVAL.
                Some(Errno::INVAL | Errno::NODEV) if tries == 1 => {
                    self.state().bridges.remove(&network.id);
                }
                Some(Errno::EXIST) if tries == 1 => self.netlink.delete_link(&plug.link).await?,
                _ => return Err(NetworkError::netlink("make the veth pair", &plug.link)(error)),
            }
        }
    }
}

/// Of the places that lead out, the one whose gateway has the default route.
pub(super) fn gateway_plug(plugs: &[Plug], ipv4: bool) -> Option<&Plug> {
    let leads_out = |plug: &&Plug| {
        !plug.internal && !plug.unsettled && plug.addresses.iter().any(|net| net.addr().is_ipv4() == ipv4)
    };
    // The last of equals is taken, so the first comes last.
    plugs.iter().rev().filter(leads_out).max_by_key(|plug| plug.wanted.gateway_priority)
}

/// Leads the default routes where they belong. One whose interface is gone went with it.
pub(super) async fn set_routes(inside: &Handle, plugs: &[Plug]) -> Result<(), NetworkError> {
    for ipv4 in [true, false] {
        let Some(plug) = gateway_plug(plugs, ipv4) else { continue };
        let Some(gateway) = plug.gateways.iter().find(|ip| ip.is_ipv4() == ipv4) else { continue };
        let failed = || NetworkError::netlink("lead the default route to", gateway.to_string());
        let Some(link) = netlink::link(inside, &plug.interface).await.map_err(failed())? else {
            return Err(failed()(Errno::NODEV.into()));
        };
        netlink::replace_default_route(inside, link.index, *gateway).await.map_err(failed())?;
    }
    Ok(())
}

/// Does in a pod's namespace what can only be done there, in one visit: with `harden`, [`sysctl::harden_pod`], and with `names`, listens
/// for queries.
pub(super) fn enter(
    ns: BorrowedFd<'_>,
    harden: Option<bool>,
    names: bool,
) -> Result<Option<(Sockets, u16)>, NetworkError> {
    if harden.is_none() && !names {
        return Ok(None);
    }
    let visit = || {
        harden.map_or(Ok(()), sysctl::harden_pod)?;
        names.then(|| listen(None)).transpose()
    };
    husk_sys::netns::with(ns, visit).map_err(NetworkError::netns("enter", "(of a pod)"))?
}

/// What is told of a pod with these places: its first address is that of the place that leads out.
pub(super) fn answer(attachment: &UserAttachment) -> PodNetwork {
    let plugs = &attachment.plugs;
    let first = gateway_plug(plugs, true).or_else(|| gateway_plug(plugs, false)).or_else(|| plugs.first());
    let mut nets: Vec<IpNet> = first.map(|plug| plug.addresses.clone()).unwrap_or_default();
    let others = plugs.iter().flat_map(|plug| &plug.addresses).filter(|net| !nets.contains(net));
    let others: Vec<IpNet> = others.copied().collect();
    nets.extend(others);
    PodNetwork {
        ips: nets.iter().map(IpNet::addr).collect(),
        interface: first.map_or_else(|| "lo".to_owned(), |plug| plug.interface.clone()),
        names: attachment.name_port.is_some(),
        provider: Provider::User,
    }
}

/// Name of the node's end: 40 bits of the pod's id and the number of the interface, in 15 bytes.
fn link_name(id: &PodSandboxId, number: usize) -> String {
    format!("hv{}{number:03x}", &id.as_str()[..10])
}

pub(super) fn is_link_name(name: &str) -> bool {
    name.len() == 15
        && name.strip_prefix("hv").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(number: usize, net: &str, internal: bool, priority: i32) -> Plug {
        let id: PodSandboxId = "ab".repeat(32).parse().unwrap();
        Plug {
            wanted: Wanted { gateway_priority: priority, ..Wanted::default() },
            interface: format!("eth{number}"),
            link: link_name(&id, number),
            addresses: vec![net.parse().unwrap()],
            gateways: Vec::new(),
            mac: [2; 6],
            internal,
            unsettled: false,
        }
    }

    #[test]
    fn the_first_network_that_leads_out_has_the_default_route_and_a_priority_counts_more() {
        let mut plugs = vec![
            plug(0, "10.1.0.2/24", true, 9),
            plug(1, "10.2.0.2/24", false, 0),
            plug(2, "10.3.0.2/24", false, 0),
        ];
        let gateway = |plugs: &[Plug]| gateway_plug(plugs, true).map(|plug| plug.interface.clone());
        assert_eq!(gateway(&plugs).as_deref(), Some("eth1"));
        plugs[2].wanted.gateway_priority = 1;
        assert_eq!(gateway(&plugs).as_deref(), Some("eth2"));
        plugs[2].unsettled = true;
        assert_eq!(gateway(&plugs).as_deref(), Some("eth1"));
        assert_eq!(gateway(&plugs[..1]), None);
        assert!(gateway_plug(&plugs, false).is_none());
        let told = answer(&UserAttachment { plugs, ..UserAttachment::default() });
        assert_eq!(told.interface, "eth1");
        assert_eq!(told.ips[0].to_string(), "10.2.0.2");
        assert_eq!(told.ips.len(), 3);
    }

    #[test]
    fn a_link_of_ours_is_known_by_its_name() {
        let id: PodSandboxId = "ab".repeat(32).parse().unwrap();
        assert_eq!(link_name(&id, 17), "hvababababab011");
        assert!(is_link_name("hvababababab011"));
        assert!(!is_link_name("hvababababab01"));
        assert!(!is_link_name("hd-abababababab"));
        assert!(!is_link_name("husk0123456789a"));
    }
}
