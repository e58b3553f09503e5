//! One pod's place on the bridge: its veth pair, its addresses, its ports of the node.

use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};

use husk_model::PodSandboxId;
use rustix::io::Errno;

use super::{
    Embedded, bridge,
    conntrack::{self, Stale},
    names::{mac, veth_name},
};
use crate::{
    NetworkError,
    netlink::{self, Veth},
    netns_pool::Prepared,
    record::BridgeAttachment,
    request::INTERFACE,
};

impl Embedded {
    /// Makes what `attachment` says. A failure leaves it half made, for teardown.
    pub(super) async fn build(
        &self,
        id: &PodSandboxId,
        attachment: &BridgeAttachment,
        prepared: Prepared,
    ) -> Result<(), NetworkError> {
        let veth = veth_name(id);
        self.holds.forget(&veth);
        self.plug(&veth, &attachment.ips, prepared.ns).await?;
        let inside = &prepared.inside;
        let failed = || NetworkError::netlink("configure eth0 behind", &veth);
        let index = match netlink::link(inside, INTERFACE).await.map_err(failed())? {
            Some(link) => link.index,
            None => return Err(failed()(Errno::NODEV.into())),
        };
        netlink::set_up(inside, index).await.map_err(failed())?;
        // By address, not by order: the pod CIDR may have changed since they were reserved.
        let config = self.config();
        let subnet_of = |ip: &IpAddr| config.all_subnets().find(|subnet| subnet.contains(ip));
        for (subnet, ip) in attachment.ips.iter().filter_map(|ip| Some((subnet_of(ip)?, ip))) {
            let address = bridge::with_prefix(*ip, subnet);
            netlink::add_address(inside, index, address).await.map_err(failed())?;
            let gateway = crate::ipam::gateway(subnet);
            netlink::add_default_route(inside, index, gateway).await.map_err(failed())?;
        }
        if !attachment.mappings.is_empty() {
            self.host_ports.lock().await.add(&config, id, &attachment.mappings).await?;
            // A node that cannot list its own addresses has worse trouble than flows that time out.
            let own = netlink::own_ips(&self.netlink.host()).await.unwrap_or_default();
            self.forget_flows(Stale::Unled(&attachment.mappings, &own)).await;
        }
        Ok(())
    }

    /// What cannot be forgotten times out; no pod fails for it.
    pub(crate) async fn forget_flows(&self, stale: Stale<'_>) {
        if !stale.is_possible() {
            return;
        }
        let forgotten = match self.netlink.conntrack() {
            Ok(connection) => conntrack::forget(connection, stale).await,
            Err(error) => Err(error),
        };
        match forgotten {
            Ok(count) => tracing::debug!(count, "forgot stale UDP flows"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "forget stale UDP flows of host ports");
            }
        }
    }

    /// Makes the veth pair. A bridge that somebody deleted meanwhile is made again, and the leftover of an earlier
    /// attempt for the same pod replaced, once each.
    async fn plug(&self, name: &str, ips: &[IpAddr], ns: Arc<OwnedFd>) -> Result<(), NetworkError> {
        let mut tries = 0;
        loop {
            let bridge = self.ensure_ready().await?;
            let veth = Veth {
                host: name.to_owned(),
                bridge: bridge.index,
                peer: INTERFACE.to_owned(),
                peer_mac: ips.first().copied().map(mac).unwrap_or_default(),
                mtu: bridge.mtu,
                isolated: false,
            };
            let error = match netlink::add_veth(&self.netlink.host(), veth, ns.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                // An unknown master is EINVAL.
                Some(Errno::INVAL | Errno::NODEV) if tries == 1 => self.state().bridge = None,
                Some(Errno::EXIST) if tries == 1 => self.netlink.delete_link(name).await?,
                _ => return Err(NetworkError::netlink("make the veth pair", name)(error)),
            }
        }
    }
}
