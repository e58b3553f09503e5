//! The bridge of the embedded network: found or made, never taken from somebody else.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::link::InfoKind;
use rtnetlink::Handle;

use super::names::mac;
use crate::{
    BridgeConfig, NetworkError, ipam,
    netlink::{self, Link},
};

/// MTU where nothing says otherwise: that of Ethernet.
const DEFAULT_MTU: u32 = 1500;

/// The bridge as it is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
}

/// Finds the bridge or makes it, up and with the gateway addresses.
///
/// # Errors
/// [`NetworkError::NameTaken`], [`NetworkError::BridgeDiffers`], [`NetworkError::SubnetTaken`], or what the kernel says.
pub(super) async fn ensure(handle: Handle, config: BridgeConfig) -> Result<Bridge, NetworkError> {
    let query = |step| NetworkError::netlink(step, &config.name);
    let links = netlink::links(&handle).await.map_err(query("list links for"))?;
    let addresses = netlink::addresses(&handle).await.map_err(query("list addresses for"))?;
    let existing = links.iter().find(|link| link.name == config.name);
    if existing.is_some_and(|link| link.kind != Some(InfoKind::Bridge)) {
        return Err(NetworkError::NameTaken { name: config.name });
    }
    let index = existing.map(|link| link.index);
    let subnets: Vec<IpNet> = config.subnets().collect();
    refuse_overlaps(&handle, &config.name, &subnets, index, &links, &addresses).await?;

    let bridge = match existing {
        Some(link) => {
            netlink::set_up(&handle, link.index).await.map_err(query("set up"))?;
            Bridge { index: link.index, mtu: link.mtu }
        }
        None => make(&handle, &config, &links).await?,
    };
    // Pods of former subnets still use the gateways of these.
    let gateways: Vec<IpNet> =
        config.all_subnets().map(|subnet| with_prefix(ipam::gateway(subnet), subnet)).collect();
    let own: Vec<IpNet> = addresses
        .iter()
        .filter(|(index, found)| *index == bridge.index && !is_link_local(found.addr()))
        .map(|(_, found)| *found)
        .collect();
    for wanted in &gateways {
        let stranger =
            |found: &&IpNet| found.addr().is_ipv4() == wanted.addr().is_ipv4() && !gateways.contains(found);
        if let Some(found) = own.iter().find(stranger) {
            let (found, wanted) = (*found, *wanted);
            return Err(NetworkError::BridgeDiffers { name: config.name.clone(), found, wanted });
        }
        if !own.contains(wanted) {
            netlink::add_address(&handle, bridge.index, *wanted).await.map_err(NetworkError::netlink(
                "give an address to",
                format!("{} ({wanted})", config.name),
            ))?;
        }
    }
    Ok(bridge)
}

/// Whether the subnets and the name are free for the bridge; changes nothing.
///
/// # Errors
/// [`NetworkError::NameTaken`], [`NetworkError::SubnetTaken`], or what the kernel says.
pub(crate) async fn check(handle: Handle, config: &BridgeConfig) -> Result<(), NetworkError> {
    let query = |step| NetworkError::netlink(step, &config.name);
    let links = netlink::links(&handle).await.map_err(query("list links for"))?;
    let addresses = netlink::addresses(&handle).await.map_err(query("list addresses for"))?;
    let existing = links.iter().find(|link| link.name == config.name);
    if existing.is_some_and(|link| link.kind != Some(InfoKind::Bridge)) {
        return Err(NetworkError::NameTaken { name: config.name.clone() });
    }
    let subnets: Vec<IpNet> = config.subnets().collect();
    refuse_overlaps(&handle, &config.name, &subnets, existing.map(|link| link.index), &links, &addresses)
        .await
}

async fn make(handle: &Handle, config: &BridgeConfig, links: &[Link]) -> Result<Bridge, NetworkError> {
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => default_mtu(handle, links).await,
    };
    let mac = mac(ipam::gateway(config.subnet.trunc().into()));
    netlink::add_bridge(handle, &config.name, mac, mtu)
        .await
        .map_err(NetworkError::netlink("make the bridge", &config.name))?;
    let made = netlink::link(handle, &config.name)
        .await
        .map_err(NetworkError::netlink("look up the bridge", &config.name))?;
    match made {
        Some(link) => Ok(Bridge { index: link.index, mtu: link.mtu }),
        None => {
            Err(NetworkError::netlink("look up the bridge", &config.name)(rustix::io::Errno::NODEV.into()))
        }
    }
}

/// The MTU of the link that the default route leaves by: on clouds with tunnels it is below 1500, and packets of the
/// pods would have to be cut or be lost.
pub(crate) async fn default_mtu(handle: &Handle, links: &[Link]) -> u32 {
    let routes = netlink::routes(handle, false).await.unwrap_or_default();
    routes
        .iter()
        .find(|route| route.destination.is_none())
        .and_then(|route| links.iter().find(|link| Some(link.index) == route.link))
        .map_or(DEFAULT_MTU, |link| link.mtu)
}

/// Addresses of other links that overlap the subnet in either way would be cut off or cut us off. Of routes only those
/// inside the subnet matter: a wider one (10.0.0.0/8 to a corporate network, say) just loses to the bridge's.
///
/// # Errors
/// [`NetworkError::SubnetTaken`], or what the kernel says.
pub(crate) async fn refuse_overlaps(
    handle: &Handle,
    name: &str,
    subnets: &[IpNet],
    bridge: Option<u32>,
    links: &[Link],
    addresses: &[(u32, IpNet)],
) -> Result<(), NetworkError> {
    let taken_by = |subnet: IpNet, taken: IpNet, index: u32| {
        let link = links.iter().find(|link| link.index == index);
        let link = link.map_or_else(|| format!("number {index}"), |link| link.name.clone());
        Err(NetworkError::SubnetTaken { subnet, taken, link })
    };
    for subnet in subnets.iter().copied() {
        let overlaps = |net: &IpNet| subnet.contains(&net.trunc()) || net.trunc().contains(&subnet);
        if let Some((index, net)) =
            addresses.iter().find(|(index, net)| Some(*index) != bridge && overlaps(net))
        {
            return taken_by(subnet, *net, *index);
        }
        let routes = netlink::routes(handle, subnet.addr().is_ipv6())
            .await
            .map_err(NetworkError::netlink("list routes for", name))?;
        for route in routes {
            if let (Some(destination), Some(index)) = (route.destination, route.link)
                && route.link != bridge
                && subnet.contains(&destination)
            {
                return taken_by(subnet, destination, index);
            }
        }
    }
    Ok(())
}

/// An address with the prefix length of its subnet.
pub(crate) fn with_prefix(ip: IpAddr, subnet: IpNet) -> IpNet {
    // A prefix length that comes from a subnet of the same family is in range.
    IpNet::new(ip, subnet.prefix_len()).unwrap_or_else(|_| ip.into())
}

pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
