//! The embedded network: a bridge, veth pairs, reserved addresses, masquerade and host ports, all in-process over
//! netlink (host ports: one nft transaction, for pods that have any).
//!
//! Everything here runs on the network thread (netlink.rs).

pub(crate) mod bridge;
pub(crate) mod conntrack;
pub(crate) mod hostports;
pub(crate) mod mapping;
pub(crate) mod names;
pub(crate) mod nft;
mod pod;
pub(crate) mod user_rules;

use std::{
    collections::HashSet,
    net::IpAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use husk_model::{PodSandboxId, chain};
use netlink_packet_route::link::InfoKind;

use self::{
    bridge::Bridge,
    conntrack::Stale,
    hostports::HostPorts,
    names::{is_veth_name, veth_name},
};
use crate::{
    BridgeConfig, Free, NetworkError, PodNetwork, PodNetworkRequest, Provider,
    holds::Holds,
    ipam::{Ipam, Reservation},
    netlink::{self, Netlink},
    netns_pool::Prepared,
    record::{Attachment, BridgeAttachment, Record, Records},
    request::INTERFACE,
    sysctl,
};

/// A network that lacks its nftables table is tried to be made whole by a pod that comes this much later.
const RETRY: Duration = Duration::from_secs(10);

/// The embedded network of one daemon.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Replaced whole when the kubelet tells another pod CIDR.
    plan: RwLock<Arc<Plan>>,
    netlink: Arc<Netlink>,
    records: Records,
    /// Held across nft transactions, which therefore never overlap; only pods with host ports wait here.
    host_ports: tokio::sync::Mutex<HostPorts>,
    /// Held while the bridge and the table are made, so that they are made once.
    making: tokio::sync::Mutex<()>,
    holds: Arc<Holds>,
    state: Mutex<State>,
}

/// How the network looks, and what its pods' addresses are reserved from.
#[derive(Debug)]
struct Plan {
    config: Arc<BridgeConfig>,
    ipam: Ipam,
}

#[derive(Debug, Default)]
struct State {
    bridge: Option<Bridge>,
    /// Why the network is not ready, or what of it does not work.
    trouble: Option<String>,
    /// When it was last tried to make it whole.
    tried: Option<Instant>,
}

impl State {
    /// The bridge, if there is one and nothing more is to be made now.
    fn good_bridge(&self) -> Option<Bridge> {
        let enough = self.trouble.is_none() || self.tried.is_some_and(|tried| tried.elapsed() < RETRY);
        self.bridge.filter(|_| enough)
    }
}

impl Embedded {
    /// The network as configured; nothing is made in the kernel yet. Host ports of recorded pods are adopted.
    pub(crate) fn new(
        config: BridgeConfig,
        netlink: Arc<Netlink>,
        ipam: Ipam,
        records: Records,
    ) -> Result<Self, NetworkError> {
        let mut host_ports = HostPorts::default();
        for (id, record) in records.all()? {
            match record.map(|record| record.attachment) {
                Ok(Attachment::Bridge(attachment)) => host_ports.adopt(&id, &attachment.mappings),
                Ok(Attachment::User(attachment)) => host_ports.adopt(&id, &attachment.mappings),
                Ok(Attachment::Cni(_)) | Err(_) => {}
            }
        }
        Ok(Self {
            plan: RwLock::new(Arc::new(Plan { config: Arc::new(config), ipam })),
            holds: Arc::new(Holds::new(Arc::clone(&netlink))),
            netlink,
            records,
            host_ports: tokio::sync::Mutex::new(host_ports),
            making: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
        })
    }

    /// Whether it gives pods IPv6 addresses.
    pub(crate) fn ipv6(&self) -> bool {
        self.config().subnet6.is_some()
    }

    /// Whether the bridge is there, and what the operator should know.
    pub(crate) fn condition(&self) -> (bool, Option<String>) {
        let state = self.state();
        (state.bridge.is_some(), state.trouble.clone())
    }

    /// Who has which port of the node, and the table they are in.
    pub(crate) async fn host_ports(&self) -> tokio::sync::MutexGuard<'_, HostPorts> {
        self.host_ports.lock().await
    }

    /// How the network looks now.
    pub(crate) fn config(&self) -> Arc<BridgeConfig> {
        Arc::clone(&self.plan().config)
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives new pods addresses of other subnets. With `make`, the bridge and the table are made to fit first.
    ///
    /// # Errors
    /// When they cannot be made so, for example because the subnet is in use elsewhere: then all stays as it was.
    pub(crate) async fn change(&self, config: BridgeConfig, make: bool) -> Result<(), NetworkError> {
        let _making = self.making.lock().await;
        if make {
            let (bridge, trouble) = self.make_ready(&config).await?;
            let mut state = self.state();
            (state.bridge, state.trouble, state.tried) = (Some(bridge), trouble, Some(Instant::now()));
        } else {
            // Made to fit when it is needed.
            self.state().bridge = None;
        }
        let ipam = self.plan().ipam.with_subnets(config.subnets());
        let plan = Arc::new(Plan { config: Arc::new(config), ipam });
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan;
        Ok(())
    }

    /// Makes the bridge, forwarding and the nftables table, unless that was done.
    pub(crate) async fn ensure_ready(&self) -> Result<Bridge, NetworkError> {
        if let Some(bridge) = self.state().good_bridge() {
            return Ok(bridge);
        }
        let _making = self.making.lock().await;
        if let Some(bridge) = self.state().good_bridge() {
            return Ok(bridge);
        }
        let result = self.make_ready(&self.config()).await;
        let mut state = self.state();
        state.tried = Some(Instant::now());
        match result {
            Ok((bridge, trouble)) => {
                state.bridge = Some(bridge);
                state.trouble = trouble;
                Ok(bridge)
            }
            Err(error) => {
                state.trouble = Some(chain(&error));
                Err(error)
            }
        }
    }

    async fn make_ready(&self, config: &BridgeConfig) -> Result<(Bridge, Option<String>), NetworkError> {
        let bridge = bridge::ensure(self.netlink.host(), config.clone()).await?;
        // Without nft pods still reach each other and the node; that is worth more than refusing them all.
        let table = self.host_ports.lock().await.load_table(config).await;
        let trouble = match table {
            Ok(()) => None,
            Err(error) => Some(format!(
                "pods cannot reach beyond the node and host ports do not work: {}",
                chain(&error)
            )),
        };
        sysctl::set("ipv4/ip_forward", "1")?;
        let name = &config.name;
        // A pod must not become the node's router by sending advertisements (CVE-2020-13401).
        sysctl::set_if_known(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        if config.subnet6.is_some() {
            sysctl::set("ipv6/conf/all/forwarding", "1")?;
        }
        if trouble.is_none() {
            // For 127.0.0.1:hostPort. Only with the table, whose `from_bridge` chain makes it safe.
            sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        }
        Ok((bridge, trouble))
    }

    /// Gives a pod its network. A failure leaves nothing, or a record that says what is left.
    pub(crate) async fn setup(
        self: &Arc<Self>,
        request: PodNetworkRequest,
        prepared: Prepared,
    ) -> Result<PodNetwork, NetworkError> {
        self.ensure_ready().await?;
        if !prepared.hardened {
            husk_sys::netns::with(prepared.ns.as_fd(), || sysctl::harden_pod(self.ipv6()))
                .map_err(NetworkError::netns("enter", &request.netns))??;
        }
        let id = request.id.clone();
        let attachment = match self.reserve(request.clone()) {
            Err(NetworkError::Exhausted { .. }) if !self.holds.are_none() => {
                self.holds.end_all().await?;
                self.reserve(request)?
            }
            other => other?,
        };
        match self.build(&id, &attachment, prepared).await {
            Ok(()) => Ok(self.answer(&attachment)),
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

    /// Undoes a pod's network, and forgets it. What is gone already is fine.
    pub(crate) async fn teardown(
        self: &Arc<Self>,
        id: &PodSandboxId,
        attachment: &BridgeAttachment,
    ) -> Result<(), NetworkError> {
        if !attachment.mappings.is_empty() {
            self.host_ports.lock().await.remove(&self.config(), id, &attachment.mappings).await?;
            self.forget_flows(Stale::Led(&attachment.mappings)).await;
        }
        let veth = veth_name(id);
        self.holds.hold(attachment.ips.iter().copied(), &veth);
        self.plan().ipam.of_network(&attachment.bridge).release(id, &attachment.ips)?;
        self.records.remove(id)?;
        self.holds.end_later([veth]);
        Ok(())
    }

    /// Frees reservations whose owner `stale` names.
    pub(crate) fn free_addresses(
        &self,
        stale: impl Fn(&str) -> bool,
    ) -> Result<Vec<Reservation>, NetworkError> {
        self.plan().ipam.release_if(|| stale, |_| true)
    }

    /// Finds reservations whose owner `stale` names, and frees those that `free` agrees to.
    pub(crate) fn stale_addresses<S: Fn(&str) -> bool>(
        &self,
        stale: impl FnOnce() -> S,
        free: &Free,
    ) -> Result<Vec<Reservation>, NetworkError> {
        self.plan().ipam.release_if(stale, |ip| free(&ip.to_string()))
    }

    /// Finds veths on the bridge that are ours by name, no `live` pod's and not about to vanish by themselves, and deletes
    /// those that `free` agrees to. Returns their names.
    pub(crate) async fn stale_links(
        &self,
        live: impl Fn() -> HashSet<PodSandboxId>,
        free: &Free,
    ) -> Result<Vec<String>, NetworkError> {
        let (host, config) = (self.netlink.host(), self.config());
        let failed = || NetworkError::netlink("delete stale ports of", &config.name);
        let links = netlink::links(&host).await.map_err(failed())?;
        let Some(bridge) = links.iter().find(|link| link.name == config.name) else {
            return Ok(Vec::new());
        };
        let bridge = Some(bridge.index);
        let live: HashSet<String> = live().iter().map(veth_name).collect();
        let draining = self.holds.all_links();
        let mut found = Vec::new();
        for link in links {
            let ours = link.master == bridge && link.kind == Some(InfoKind::Veth) && is_veth_name(&link.name);
            if !ours || live.contains(&link.name) || draining.contains(&link.name) {
                continue;
            }
            if free(&link.name) {
                netlink::delete(&host, link.index).await.map_err(failed())?;
            }
            found.push(link.name);
        }
        Ok(found)
    }

    /// Finds host ports in the kernel that are no pod's, and deletes those that `free` agrees to.
    pub(crate) async fn stale_elements(&self, free: &Free) -> Result<Vec<String>, NetworkError> {
        self.host_ports.lock().await.free_stale(&self.config(), free).await
    }

    /// Deletes the bridge and the table. For a daemon that leaves for good: pods lose their network.
    pub(crate) async fn dismantle(&self) -> Result<(), NetworkError> {
        let _making = self.making.lock().await;
        self.state().bridge = None;
        let config = self.config();
        self.netlink.delete_link(&config.name).await?;
        match nft::run("delete the table", nft::drop_table(&config.table)).await {
            Err(NetworkError::NftMissing) => Ok(()),
            other => other,
        }
    }

    fn answer(&self, attachment: &BridgeAttachment) -> PodNetwork {
        PodNetwork {
            ips: attachment.ips.clone(),
            interface: INTERFACE.to_owned(),
            names: false,
            provider: Provider::Embedded(self.config().name.clone()),
        }
    }

    /// Reserves the addresses and writes the record: the first traces a pod leaves.
    fn reserve(&self, request: PodNetworkRequest) -> Result<BridgeAttachment, NetworkError> {
        let id = request.id.clone();
        let held = |ip| self.holds.holder(ip).is_some();
        let ipam = self.plan().ipam.clone();
        let ips = ipam.reserve(&id, INTERFACE, held)?;
        self.record(request, &ips).inspect_err(|_| {
            // The reservation carries the pod's id; if it cannot be given back now, gc will.
            let _ = ipam.release(&id, &ips);
        })
    }

    fn record(&self, request: PodNetworkRequest, ips: &[IpAddr]) -> Result<BridgeAttachment, NetworkError> {
        let attachment = BridgeAttachment {
            bridge: self.config().name.clone(),
            ips: ips.to_vec(),
            mappings: mapping::mappings(&request.host_ports, ips),
        };
        let network = Some(self.answer(&attachment));
        let record = Record { request, network, attachment: Attachment::Bridge(attachment.clone()) };
        self.records.write(&record)?;
        Ok(attachment)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
