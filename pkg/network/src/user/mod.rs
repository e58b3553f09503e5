//! User networks: what Docker calls networks of the bridge driver. Each has a bridge, subnets and rules of its own; a pod may be
//! in several.
//!
//! Read `spec` (what a network is), this (how it comes and goes), `pod` (how a pod gets its places) and `repair` (what a crash
//! leaves). Everything here runs on the network thread (netlink.rs), but for `handle`, the door.
//!
//! ```text
//! <root>/network/user/networks/<id>.json   the network (store.rs)
//! <root>/network/user/ipam/<id>/…          its address reservations (ipam)
//! <root>/network/pods/<pod>.json           a pod's places in networks (record.rs, `UserAttachment`)
//! ```

mod bridge;
mod handle;
mod names;
mod pod;
mod pools;
mod ports;
mod redirect;
mod repair;
mod resolvers;
mod running;
mod spec;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_model::{NetworkId, PodSandboxId};
use ipnet::IpNet;

pub use self::{
    handle::{Attached, UserNetworks},
    spec::{NetworkSpec, Options, Overlay, Pool, Subnet, SubnetSpec, UserNetwork},
};
use self::{resolvers::Resolvers, spec::Checked, store::Store};
use crate::{
    NetworkError,
    embedded::{Embedded, bridge::Bridge, user_rules::UserRules},
    free_subnet,
    holds::Holds,
    netlink::{self, Netlink},
    pod_locks::PodLocks,
    record::{Attachment, Record, Records, UserAttachment},
};

/// As many as a node may have: each is a bridge.
const MAX_NETWORKS: usize = 4096;

/// The user networks of one daemon.
#[derive(Debug)]
pub(crate) struct User {
    store: Store,
    netlink: Arc<Netlink>,
    embedded: Arc<Embedded>,
    records: Records,
    pod_locks: Arc<PodLocks>,
    /// Read by whoever gives a pod a place, until that is on record; written by whoever makes or removes a network. So no
    /// network goes away under a pod that is about to be in it.
    order: tokio::sync::RwLock<()>,
    /// Held while a bridge is made, so that it is made once.
    making: tokio::sync::Mutex<()>,
    resolvers: Resolvers,
    holds: Arc<Holds>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<String, Arc<UserNetwork>>,
    /// Bridges that this process has seen to.
    bridges: HashMap<String, Bridge>,
    pods: HashMap<PodSandboxId, Arc<UserAttachment>>,
}

impl User {
    /// The networks and places that are on record; nothing is made in the kernel yet.
    ///
    /// # Errors
    /// When the directories cannot be made or read.
    pub(crate) async fn open(
        dir: PathBuf,
        netlink: Arc<Netlink>,
        embedded: Arc<Embedded>,
        records: Records,
        pod_locks: Arc<PodLocks>,
    ) -> Result<Self, NetworkError> {
        let store = Store::open(dir)?;
        let mut state = State::default();
        let mut host_ports = embedded.host_ports().await;
        for network in store.all()? {
            host_ports.adopt_network(&network.id, rules(&network));
            state.networks.insert(network.id.clone(), Arc::new(network));
        }
        drop(host_ports);
        // Without networks nobody has a place, and the records need not be read.
        let records_of_pods = if state.networks.is_empty() { Vec::new() } else { records.all()? };
        for (id, record) in records_of_pods {
            if let Ok(Record { attachment: Attachment::User(attachment), .. }) = record {
                state.pods.insert(id, Arc::new(attachment));
            }
        }
        let (order, making) = (tokio::sync::RwLock::new(()), tokio::sync::Mutex::new(()));
        let (resolvers, state) = (Resolvers::new(), Mutex::new(state));
        let holds = Arc::new(Holds::new(Arc::clone(&netlink)));
        Ok(Self { store, netlink, embedded, records, pod_locks, order, making, resolvers, holds, state })
    }

    // === the networks ===

    fn networks(&self) -> Vec<Arc<UserNetwork>> {
        let mut networks: Vec<_> =
            self.state().networks.values().filter(|network| !network.removing).cloned().collect();
        networks.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        networks
    }

    /// By id, else by name, else by an unambiguous beginning of the id.
    fn find(&self, name: &str) -> Result<Arc<UserNetwork>, NetworkError> {
        let networks = self.networks();
        let exact = networks.iter().find(|network| network.id == name);
        if let Some(found) = exact.or_else(|| networks.iter().find(|network| network.name == name)) {
            return Ok(Arc::clone(found));
        }
        let shown = || name.chars().take(80).collect();
        let begin = networks.iter().filter(|network| !name.is_empty() && network.id.starts_with(name));
        match begin.collect::<Vec<_>>().as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(NetworkError::NoNetwork { name: shown() }),
            several => Err(NetworkError::AmbiguousNetwork { prefix: shown(), count: several.len() }),
        }
    }

    async fn create(&self, spec: NetworkSpec) -> Result<Arc<UserNetwork>, NetworkError> {
        let checked = spec::check(spec)?;
        let _order = self.order.write().await;
        let name = &checked.spec.name;
        let networks = self.networks();
        if networks.iter().any(|network| network.name == *name) {
            return Err(NetworkError::NetworkExists { name: name.clone() });
        }
        if networks.len() >= MAX_NETWORKS {
            return Err(NetworkError::NoFreeSubnet);
        }
        let id = NetworkId::generate().to_string();
        let chosen = self.choose(&checked, &id).await?;
        let network = Arc::new(checked.network(id, husk_node::now(), chosen));
        self.refuse_foreign_link(&network).await?;
        self.store.write(&network)?;
        self.state().networks.insert(network.id.clone(), Arc::clone(&network));
        match self.ready(&network).await {
            Ok(_) => Ok(network),
            Err(error) => {
                // The first error is the one to report; what cannot be undone is undone by the next start.
                if let Err(undo) = self.take_away(&network).await {
                    let undo = &undo as &dyn std::error::Error;
                    tracing::warn!(
                        network = network.name,
                        error = undo,
                        "undo a user network that could not be made"
                    );
                }
                Err(error)
            }
        }
    }

    /// Refused while pods are in it.
    async fn remove(&self, name: &str) -> Result<Arc<UserNetwork>, NetworkError> {
        let _order = self.order.write().await;
        let network = self.find(name)?;
        let pods = self.members(&network.id).len();
        if pods > 0 {
            return Err(NetworkError::NetworkInUse { name: network.name.clone(), pods });
        }
        self.take_away(&network).await?;
        Ok(network)
    }

    /// Undoes a network. The record says so first, and goes last.
    async fn take_away(&self, network: &UserNetwork) -> Result<(), NetworkError> {
        let leaving = UserNetwork { removing: true, ..network.clone() };
        self.store.write(&leaving)?;
        self.state().networks.insert(network.id.clone(), Arc::new(leaving));
        self.state().bridges.remove(&network.id);
        self.embedded.host_ports().await.remove_network(&self.embedded.config(), &network.id).await?;
        self.delete_bridge(network).await?;
        self.store.remove(&network.id)?;
        self.state().networks.remove(&network.id);
        Ok(())
    }

    /// Deletes the bridge, if it is ours.
    async fn delete_bridge(&self, network: &UserNetwork) -> Result<(), NetworkError> {
        let host = self.netlink.host();
        let failed = || NetworkError::netlink("delete the bridge", &network.bridge);
        let tag = bridge::tag(&self.embedded.config().table, &network.id);
        match netlink::link(&host, &network.bridge).await.map_err(failed())? {
            // A name of ours is random, and a crash may have come before the tag.
            Some(link) if link.alias == Some(tag) || link.name == spec::own_bridge_name(&network.id) => {
                netlink::delete(&host, link.index).await.map_err(failed())
            }
            _ => Ok(()),
        }
    }

    /// The bridge of a network, with its rules loaded: nothing is plugged in without them.
    async fn ready(&self, network: &UserNetwork) -> Result<Bridge, NetworkError> {
        if let Some(bridge) = self.seen(&network.id) {
            return Ok(bridge);
        }
        let _making = self.making.lock().await;
        if let Some(bridge) = self.seen(&network.id) {
            return Ok(bridge);
        }
        let config = self.embedded.config();
        let bridge = bridge::ensure(self.netlink.host(), network, &config.table).await?;
        self.embedded.host_ports().await.add_network(&config, &network.id, rules(network)).await?;
        bridge::set_sysctls(network)?;
        self.state().bridges.insert(network.id.clone(), bridge);
        Ok(bridge)
    }

    fn seen(&self, network: &str) -> Option<Bridge> {
        self.state().bridges.get(network).copied()
    }

    /// Subnets for the families that name none, and a look at who has those that are named.
    async fn choose(&self, checked: &Checked, id: &str) -> Result<Vec<Subnet>, NetworkError> {
        let mut own: Vec<(IpNet, String)> = Vec::new();
        for network in self.state().networks.values() {
            own.extend(
                network.subnets.iter().map(|subnet| (subnet.net, format!("network {}", network.name))),
            );
        }
        let config = self.embedded.config();
        own.extend(config.all_subnets().map(|net| (net, "the pod network".to_owned())));
        for subnet in &checked.subnets {
            if let Some((taken, owner)) = own.iter().find(|(net, _)| pools::overlap(subnet.net, *net)) {
                let (subnet, taken, owner) = (subnet.net, *taken, owner.clone());
                return Err(NetworkError::SubnetOverlaps { subnet, taken, owner });
            }
        }
        let mut chosen = Vec::new();
        if checked.lacks(true) || checked.lacks(false) {
            let mut taken = self.taken_on_the_node().await?;
            taken.extend(own.iter().map(|(net, _)| *net));
            taken.extend(checked.subnets.iter().map(|subnet| subnet.net));
            let free = [
                checked.lacks(true).then(|| {
                    let of_pool = checked.pool().and_then(|pool| pools::free_of(pool, &taken));
                    of_pool.or_else(|| pools::free_ipv4(&taken))
                }),
                checked.lacks(false).then(|| pools::free_ipv6(id, &taken)),
            ];
            for pool in free.into_iter().flatten() {
                let pool = pool.ok_or(NetworkError::NoFreeSubnet)?;
                chosen.push(spec::subnet(&pool.into()).map_err(NetworkError::Wish)?);
            }
        }
        Ok(chosen)
    }

    async fn taken_on_the_node(&self) -> Result<Vec<IpNet>, NetworkError> {
        let host = self.netlink.host();
        let failed = || NetworkError::netlink("look for a free subnet among", "the node's routes");
        let mut taken: Vec<IpNet> = Vec::new();
        taken.extend(netlink::addresses(&host).await.map_err(failed())?.into_iter().map(|(_, net)| net));
        for ipv6 in [false, true] {
            let routes = netlink::routes(&host, ipv6).await.map_err(failed())?;
            taken.extend(routes.into_iter().filter_map(|route| route.destination));
        }
        taken.extend(free_subnet::of_others());
        // A node without the file has no name servers.
        taken.extend(pools::name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
        Ok(taken)
    }

    async fn refuse_foreign_link(&self, network: &UserNetwork) -> Result<(), NetworkError> {
        let failed = NetworkError::netlink("look up the link", &network.bridge);
        match netlink::link(&self.netlink.host(), &network.bridge).await.map_err(failed)? {
            Some(_) => Err(NetworkError::LinkExists { name: network.bridge.clone() }),
            None => Ok(()),
        }
    }

    // === who is in them ===

    /// The pods with a place in a network.
    fn members(&self, network: &str) -> Vec<(PodSandboxId, Arc<UserAttachment>)> {
        let is_in =
            |attachment: &UserAttachment| attachment.plugs.iter().any(|plug| plug.wanted.network == network);
        let state = self.state();
        let members = state.pods.iter().filter(|(_, attachment)| is_in(attachment));
        members.map(|(id, attachment)| (id.clone(), Arc::clone(attachment))).collect()
    }

    fn places(&self, pod: &PodSandboxId) -> Option<Arc<UserAttachment>> {
        self.state().pods.get(pod).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A network as the table has it.
fn rules(network: &UserNetwork) -> UserRules {
    let options = network.settings();
    UserRules {
        bridge: network.bridge.clone(),
        subnets: network.subnets.iter().map(|subnet| subnet.net).collect(),
        internal: network.internal,
        icc: options.icc,
        masquerade: options.masquerade,
    }
}
