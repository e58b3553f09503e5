//! The bridge of a user network: made with the network, and again after a reboot or when somebody deleted it.

use ipnet::IpNet;
use netlink_packet_route::link::InfoKind;
use rtnetlink::Handle;
use rustix::io::Errno;

use super::spec::{Subnet, UserNetwork};
use crate::{
    NetworkError,
    embedded::{
        bridge::{Bridge, default_mtu, is_link_local, refuse_overlaps, with_prefix},
        names::mac,
    },
    netlink, sysctl,
};

/// What a bridge of ours is known by: the table's name, since that is each daemon's own, and the network.
pub(super) fn tag(table: &str, id: &str) -> String {
    format!("husk {table} network {id}")
}

/// Whether a link with this alias is a bridge of a network of the daemon with this table.
pub(super) fn is_tagged(table: &str, alias: Option<&str>) -> bool {
    alias.is_some_and(|alias| alias.starts_with(&tag(table, "")))
}

/// Finds the bridge or makes it, up and with the gateway addresses.
///
/// # Errors
/// [`NetworkError::NameTaken`], [`NetworkError::BridgeDiffers`], [`NetworkError::SubnetTaken`], or what the kernel says.
pub(super) async fn ensure(
    handle: Handle,
    network: &UserNetwork,
    table: &str,
) -> Result<Bridge, NetworkError> {
    let name = &network.bridge;
    let query = |step| NetworkError::netlink(step, name);
    let links = netlink::links(&handle).await.map_err(query("list links for"))?;
    let addresses = netlink::addresses(&handle).await.map_err(query("list addresses for"))?;
    let existing = links.iter().find(|link| link.name == *name);
    if existing.is_some_and(|link| link.kind != Some(InfoKind::Bridge)) {
        return Err(NetworkError::NameTaken { name: name.clone() });
    }
    let subnets: Vec<IpNet> = network.subnets.iter().map(|subnet| subnet.net).collect();
    refuse_overlaps(&handle, name, &subnets, existing.map(|link| link.index), &links, &addresses).await?;
    let bridge = match existing {
        Some(link) => {
            netlink::set_up(&handle, link.index).await.map_err(query("set up"))?;
            Bridge { index: link.index, mtu: link.mtu }
        }
        None => {
            let mtu = match network.settings().mtu {
                Some(mtu) => mtu,
                None => default_mtu(&handle, &links).await,
            };
            make(&handle, network, mtu, &tag(table, &network.id)).await?
        }
    };
    let own: Vec<IpNet> = addresses
        .iter()
        .filter(|(index, found)| *index == bridge.index && !is_link_local(found.addr()))
        .map(|(_, found)| *found)
        .collect();
    for subnet in &network.subnets {
        give_address(&handle, network, bridge, subnet, &own).await?;
    }
    Ok(bridge)
}

async fn make(handle: &Handle, network: &UserNetwork, mtu: u32, tag: &str) -> Result<Bridge, NetworkError> {
    let name = &network.bridge;
    let failed = |step| NetworkError::netlink(step, name);
    let mac = network.subnets.first().map(|subnet| mac(subnet.gateway)).unwrap_or_default();
    netlink::add_bridge(handle, name, mac, mtu).await.map_err(failed("make the bridge"))?;
    let made = netlink::link(handle, name).await.map_err(failed("look up the bridge"))?;
    let Some(link) = made else { return Err(failed("look up the bridge")(Errno::NODEV.into())) };
    netlink::set_alias(handle, link.index, tag).await.map_err(failed("mark the bridge"))?;
    Ok(Bridge { index: link.index, mtu: link.mtu })
}

async fn give_address(
    handle: &Handle,
    network: &UserNetwork,
    bridge: Bridge,
    subnet: &Subnet,
    own: &[IpNet],
) -> Result<(), NetworkError> {
    let wanted = with_prefix(subnet.gateway, subnet.net);
    let stranger = |found: &&IpNet| found.addr().is_ipv4() == wanted.addr().is_ipv4() && **found != wanted;
    if let Some(found) = own.iter().find(stranger) {
        return Err(NetworkError::BridgeDiffers { name: network.bridge.clone(), found: *found, wanted });
    }
    if own.contains(&wanted) {
        return Ok(());
    }
    let object = format!("{} ({wanted})", network.bridge);
    netlink::add_address(handle, bridge.index, wanted)
        .await
        .map_err(NetworkError::netlink("give an address to", object))
}

/// What the node needs besides the bridge, once the table is loaded: its chain `user_from` makes `route_localnet` safe.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(super) fn set_sysctls(network: &UserNetwork) -> Result<(), NetworkError> {
    let name = &network.bridge;
    if !network.internal {
        sysctl::set("ipv4/ip_forward", "1")?;
        if network.has_family(false) {
            sysctl::set("ipv6/conf/all/forwarding", "1")?;
        }
    }
    // A pod must not become the node's router by sending advertisements (CVE-2020-13401).
    sysctl::set_if_known(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    // For 127.0.0.1:hostPort.
    sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")
}
