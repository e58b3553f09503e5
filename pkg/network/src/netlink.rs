//! The network thread, and rtnetlink on it.
//!
//! A netlink request is carried out by the kernel inside sendmsg(2), under the RTNL lock that all link changes of the
//! node share; it may wait there for tens of milliseconds. So setups and teardowns are driven by one small
//! single-threaded runtime, and no worker of the daemon is ever blocked. One thread is enough because RTNL lets only
//! one work anyway; and a pod that changes threads once instead of at every step has its network 0.3 ms earlier, which
//! is why the few small files of a pod are read and written on this thread too.

use std::{
    future::Future,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
    thread,
};

use futures_util::StreamExt;
use ipnet::IpNet;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkUnspec, RouteMessageBuilder, proto::ConnectionHandle,
};
use tokio::{
    runtime,
    sync::{Mutex, oneshot},
};

/// The thread, and its socket in the node's namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    runtime: runtime::Handle,
    host: Handle,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Netlink {
    /// Starts the thread; it, and the node's socket, belong to the namespace of the caller.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("husk-network".into()).spawn(move || {
            // The sender is never used, only dropped.
            let _ = runtime.block_on(stopped);
        })?;
        let host = connect(&handle)?;
        Ok(Self { runtime: handle, host, _stop: stop })
    }

    /// A socket in the node's namespace.
    pub(crate) fn host(&self) -> Handle {
        self.host.clone()
    }

    /// A socket in the caller's namespace.
    pub(crate) fn connect(&self) -> io::Result<Handle> {
        connect(&self.runtime)
    }

    /// A socket in the namespace `ns`. It holds the namespace until the handle is dropped.
    pub(crate) fn connect_in(&self, ns: BorrowedFd<'_>) -> io::Result<Handle> {
        husk_sys::netns::with(ns, || connect(&self.runtime))?
    }

    /// Runs `work` on the thread. It runs to its end even when the caller goes away.
    pub(crate) async fn run<F>(&self, work: F) -> Result<F::Output, crate::NetworkError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(work).await.map_err(|error| crate::NetworkError::TaskLost(io::Error::other(error)))
    }
}

impl Netlink {
    /// Deletes the node's link of this name, if there is one.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), crate::NetworkError> {
        let failed = || crate::NetworkError::netlink("delete the link", name);
        match link(&self.host, name).await.map_err(failed())? {
            Some(link) => delete(&self.host, link.index).await.map_err(failed()),
            None => Ok(()),
        }
    }

    /// A conntrack socket in the node's namespace, for one use.
    pub(crate) fn conntrack(&self) -> io::Result<ConnectionHandle<NetfilterMessage>> {
        let _context = self.runtime.enter();
        let (connection, handle, _multicast) =
            rtnetlink::proto::new_connection(rtnetlink::sys::protocols::NETLINK_NETFILTER)?;
        self.runtime.spawn(connection);
        Ok(handle)
    }
}

/// A socket in the caller's namespace, served by `runtime`.
pub(crate) fn connect(runtime: &runtime::Handle) -> io::Result<Handle> {
    let _context = runtime.enter();
    let (connection, handle, _multicast) = rtnetlink::new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
}

// === requests ===

/// Lists, one after the other: the kernel makes one at a time for a socket, and answers EBUSY to whoever asks for a second one
/// meanwhile (`netlink_dump_start`).
static LISTING: Mutex<()> = Mutex::const_new(());

/// The kernel's errno, or what the crate made of an answer it did not understand.
fn kernel(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// One link of the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) master: Option<u32>,
    pub(crate) mtu: u32,
    pub(crate) alias: Option<String>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Link { index: message.header.index, ..Link::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// All links.
pub(crate) async fn links(handle: &Handle) -> io::Result<Vec<Link>> {
    let _turn = LISTING.lock().await;
    let mut stream = Box::pin(handle.link().get().execute());
    let mut links = Vec::new();
    while let Some(message) = stream.next().await {
        links.push(message.map_err(kernel)?.into());
    }
    Ok(links)
}

/// The link of this name, if there is one.
pub(crate) async fn link(handle: &Handle, name: &str) -> io::Result<Option<Link>> {
    let mut stream = Box::pin(handle.link().get().match_name(name).execute());
    match stream.next().await {
        Some(Ok(message)) => Ok(Some(message.into())),
        Some(Err(error)) => {
            let error = kernel(error);
            if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) {
                Ok(None)
            } else {
                Err(error)
            }
        }
        None => Ok(None),
    }
}

/// Sets a link up.
pub(crate) async fn set_up(handle: &Handle, index: u32) -> io::Result<()> {
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(kernel)
}

/// Deletes a link; one that is gone is fine. Costs 16 ms of everybody's RTNL for a bridged veth.
pub(crate) async fn delete(handle: &Handle, index: u32) -> io::Result<()> {
    match handle.link().del(index).execute().await.map_err(kernel) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Makes a bridge that is up. With an address of its own it does not take over that of the lowest port, which would
/// change, and break the pods' neighbour entries, whenever a pod comes or goes.
pub(crate) async fn add_bridge(handle: &Handle, name: &str, mac: [u8; 6], mtu: u32) -> io::Result<()> {
    let message = LinkBridge::new(name).address(mac.to_vec()).mtu(mtu).up().build();
    handle.link().add(message).execute().await.map_err(kernel)
}

/// A veth pair to be made.
#[derive(Debug, Clone)]
pub(crate) struct Veth {
    /// Name of the node's end.
    pub(crate) host: String,
    /// Bridge it becomes a port of.
    pub(crate) bridge: u32,
    /// Name of the pod's end.
    pub(crate) peer: String,
    /// Address of the pod's end.
    pub(crate) peer_mac: [u8; 6],
    /// MTU of both.
    pub(crate) mtu: u32,
    /// Reaches nothing of the bridge but the node: no other port that is isolated too.
    pub(crate) isolated: bool,
}

/// Makes a veth pair in one message: node's end enslaved and up, the peer born in `ns`. Nothing is moved
/// between namespaces afterwards, which would cost 15 ms of grace periods with RTNL held. The peer cannot be born up:
/// veth_open() wants its other half, which is not there yet (ENOTCONN).
pub(crate) async fn add_veth(
    handle: &Handle,
    veth: Veth,
    ns: std::sync::Arc<std::os::fd::OwnedFd>,
) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(veth.peer),
        LinkAttribute::Address(veth.peer_mac.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::NetNsFd(ns.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(veth.host.clone()),
        LinkAttribute::Mtu(veth.mtu),
        // Unasked, veth makes a queue for each processor and then switches all but one off again, kobjects, uevents
        // and all (since 5.14); saying one makes the same device sooner, on big machines much sooner.
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::Controller(veth.bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let result = handle.link().add(message).execute().await.map_err(kernel);
    // The message carried the bare number: the descriptor must stay open until the kernel has answered.
    drop(ns);
    result?;
    // With br_netfilter (every kubeadm node) translation happens on the bridge, so a pod that calls itself through a
    // host port or a service gets its packet back through its own port, which a bridge does only in hairpin mode.
    let port = LinkBridgePort::new(0).name(veth.host).hairpin(true).isolated(veth.isolated).build();
    handle.link().set_port(port).execute().await.map_err(kernel)
}

/// Gives a link an address that can be used at once: no duplicate address detection, which would hold an IPv6
/// address back for a second and which the reservation makes pointless.
pub(crate) async fn add_address(handle: &Handle, index: u32, address: IpNet) -> io::Result<()> {
    let mut request = handle.address().add(index, address.addr(), address.prefix_len());
    if address.addr().is_ipv6() {
        let message = request.message_mut();
        message.header.flags |= AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request.execute().await.map_err(kernel)
}

/// Gives a link words for those who look at it (`ip -d link`), and by which it is known again.
pub(crate) async fn set_alias(handle: &Handle, index: u32, alias: &str) -> io::Result<()> {
    let message = LinkUnspec::new_with_index(index).alias(alias).build();
    handle.link().set(message).execute().await.map_err(kernel)
}

/// Adds a default route.
pub(crate) async fn add_default_route(handle: &Handle, index: u32, gateway: IpAddr) -> io::Result<()> {
    handle.route().add(default_route(index, gateway)).execute().await.map_err(kernel)
}

/// Adds a default route in place of the one that there is, if there is one.
pub(crate) async fn replace_default_route(handle: &Handle, index: u32, gateway: IpAddr) -> io::Result<()> {
    handle.route().add(default_route(index, gateway)).replace().execute().await.map_err(kernel)
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    match gateway {
        IpAddr::V4(ip) => {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().output_interface(index).gateway(ip).build()
        }
        IpAddr::V6(ip) => {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().output_interface(index).gateway(ip).build()
        }
    }
}

/// The node's own addresses, that is, those a packet for the node may carry.
pub(crate) async fn own_ips(handle: &Handle) -> io::Result<Vec<IpAddr>> {
    Ok(addresses(handle).await?.into_iter().map(|(_, net)| net.addr()).collect())
}

/// Every address of the node with the index of its link.
pub(crate) async fn addresses(handle: &Handle) -> io::Result<Vec<(u32, IpNet)>> {
    let _turn = LISTING.lock().await;
    let mut stream = Box::pin(handle.address().get().execute());
    let mut found = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message.map_err(kernel)?;
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        if let Some(net) = address.and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok()) {
            found.push((message.header.index, net));
        }
    }
    Ok(found)
}

/// One route of the node's tables.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Where it leads; `None` is the default route.
    pub(crate) destination: Option<IpNet>,
    /// The link it leaves by.
    pub(crate) link: Option<u32>,
}

/// All IPv4 or all IPv6 unicast routes.
pub(crate) async fn routes(handle: &Handle, ipv6: bool) -> io::Result<Vec<Route>> {
    let query = if ipv6 {
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
    } else {
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()
    };
    let _turn = LISTING.lock().await;
    let mut stream = Box::pin(handle.route().get(query).execute());
    let mut found = Vec::new();
    while let Some(message) = stream.next().await {
        let message = message.map_err(kernel)?;
        if message.header.kind != RouteType::Unicast {
            continue;
        }
        let mut route = Route { destination: None, link: None };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => {
                    route.destination =
                        IpNet::new((*ip).into(), message.header.destination_prefix_length).ok();
                }
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => {
                    route.destination =
                        IpNet::new((*ip).into(), message.header.destination_prefix_length).ok();
                }
                RouteAttribute::Oif(index) => route.link = Some(*index),
                _ => {}
            }
        }
        found.push(route);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_ask_for_lists_on_one_socket_at_once() {
        let netlink = Netlink::start().unwrap();
        let host = netlink.host();
        let ask = |number: usize| {
            let host = host.clone();
            async move {
                match number % 3 {
                    0 => links(&host).await.map(drop),
                    1 => addresses(&host).await.map(drop),
                    _ => routes(&host, false).await.map(drop),
                }
            }
        };
        let all = futures_util::future::join_all((0..60).map(ask));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for answer in runtime.block_on(all) {
            answer.unwrap();
        }
    }
}
