//! The door to user networks: calls go to the network thread and on to their end even when the caller goes away.

use std::{net::IpAddr, sync::Arc};

use husk_model::{Attachment as Wanted, HostPort, PodSandboxId};
use ipnet::IpNet;

use super::{NetworkSpec, User, UserNetwork};
use crate::{NetworkError, record::Plug};

/// The user networks of a node. [`crate::Network::user`] gives it.
#[derive(Debug, Clone)]
pub struct UserNetworks {
    user: Arc<User>,
}

/// A pod's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Id of the network.
    pub network: String,
    /// Name of the pod's interface.
    pub interface: String,
    /// The pod's addresses, with the prefix of their subnet, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The node's addresses in the network, IPv4 first. Of an internal network nothing is led to them.
    pub gateways: Vec<IpAddr>,
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// What others in the network may call the pod.
    pub aliases: Vec<String>,
    /// What was asked for.
    pub wanted: Wanted,
}

impl From<&Plug> for Attached {
    fn from(plug: &Plug) -> Self {
        Self {
            network: plug.wanted.network.clone(),
            interface: plug.interface.clone(),
            addresses: plug.addresses.clone(),
            gateways: plug.gateways.clone(),
            mac: plug.mac,
            aliases: plug.wanted.aliases.clone(),
            wanted: plug.wanted.clone(),
        }
    }
}

impl UserNetworks {
    pub(crate) fn new(user: Arc<User>) -> Self {
        Self { user }
    }

    /// Does work on a pod while nobody else sets it up or tears it down.
    async fn alone<T: Send + 'static>(
        &self,
        id: &PodSandboxId,
        work: impl Future<Output = Result<T, NetworkError>> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (user, id) = (Arc::clone(&self.user), id.clone());
        let known = user.pod_locks.knows(&id);
        let alone = user.pod_locks.of(&id).lock_owned().await;
        let work = async move {
            let result = work.await;
            if !known {
                user.pod_locks.forget(&id);
            }
            drop(alone);
            result
        };
        self.user.netlink.run(work).await?
    }

    /// Makes a network: its record, its bridge and its rules. A failure leaves nothing.
    ///
    /// # Errors
    /// [`NetworkError::Wish`] for what no node could have, [`NetworkError::NetworkExists`], [`NetworkError::SubnetOverlaps`],
    /// [`NetworkError::SubnetTaken`], [`NetworkError::NoFreeSubnet`], [`NetworkError::LinkExists`], [`NetworkError::NftMissing`],
    /// or the step that failed.
    pub async fn create(&self, spec: NetworkSpec) -> Result<Arc<UserNetwork>, NetworkError> {
        let user = Arc::clone(&self.user);
        self.user.netlink.run(async move { user.create(spec).await }).await?
    }

    /// Docker's network `bridge`; the first call makes it.
    ///
    /// # Errors
    /// As [`UserNetworks::create`].
    pub async fn default_bridge(&self) -> Result<Arc<UserNetwork>, NetworkError> {
        let spec = NetworkSpec::default_bridge();
        let named = |name: &str| self.list().into_iter().find(|network| network.name == name);
        if let Some(there) = named(&spec.name) {
            return Ok(there);
        }
        let name = spec.name.clone();
        match self.create(spec).await {
            // Two came at once, and the other one made it.
            Err(error @ NetworkError::NetworkExists { .. }) => named(&name).ok_or(error),
            other => other,
        }
    }

    /// Removes a network, by name, id or unambiguous beginning of an id. A repetition after a failure goes on from there.
    ///
    /// # Errors
    /// [`NetworkError::NoNetwork`], [`NetworkError::AmbiguousNetwork`], [`NetworkError::NetworkInUse`] while pods are in it, or
    /// the step that failed.
    pub async fn remove(&self, name: &str) -> Result<Arc<UserNetwork>, NetworkError> {
        let (user, name) = (Arc::clone(&self.user), name.to_owned());
        self.user.netlink.run(async move { user.remove(&name).await }).await?
    }

    /// All networks, oldest first.
    pub fn list(&self) -> Vec<Arc<UserNetwork>> {
        self.user.networks()
    }

    /// The network with this id, else of this name, else whose id alone begins so.
    ///
    /// # Errors
    /// [`NetworkError::NoNetwork`], [`NetworkError::AmbiguousNetwork`].
    pub fn find(&self, name: &str) -> Result<Arc<UserNetwork>, NetworkError> {
        self.user.find(name)
    }

    /// The pods in a network, by its id, each with its place. Empty for an unknown one.
    pub fn attached(&self, network: &str) -> Vec<(PodSandboxId, Attached)> {
        let members = self.user.members(network).into_iter();
        let place = |(id, places): (PodSandboxId, Arc<crate::record::UserAttachment>)| {
            let plug = places.plugs.iter().find(|plug| plug.wanted.network == network)?;
            Some((id, plug.into()))
        };
        members.filter_map(place).collect()
    }

    /// The places of a pod, in the order in which it came into them. Empty for one that is in none.
    pub fn of(&self, pod: &PodSandboxId) -> Vec<Attached> {
        let places = self.user.places(pod);
        places.map(|places| places.plugs.iter().map(Attached::from).collect()).unwrap_or_default()
    }

    /// The published ports of a pod, each with the port of the node that it got. A port without an address of the node is on all.
    pub fn ports(&self, pod: &PodSandboxId) -> Vec<HostPort> {
        let Some(places) = self.user.places(pod) else { return Vec::new() };
        let led = |port: &&HostPort| {
            let is = |mapping: &crate::record::Mapping| {
                (mapping.protocol, mapping.host_port) == (port.protocol, port.host_port)
            };
            places.mappings.iter().any(is)
        };
        places.ports.iter().filter(led).cloned().collect()
    }

    /// Gives a running pod of user networks a place in one more. Published ports and the default route are led there if it has
    /// the higher priority, or is the first that leads out.
    ///
    /// # Errors
    /// [`NetworkError::NotOfUserNetworks`], [`NetworkError::NoNetwork`], [`NetworkError::Attached`],
    /// [`NetworkError::AddressTaken`], [`NetworkError::AddressOutside`], or the step that failed; then the pod is where it was.
    pub async fn connect(&self, pod: &PodSandboxId, wanted: Wanted) -> Result<(), NetworkError> {
        let (user, pod) = (Arc::clone(&self.user), pod.clone());
        self.alone(&pod.clone(), async move { user.connect(&pod, wanted).await }).await
    }

    /// Gives a running pod other names in networks that it is in, each by its id: what others may call it there, from now on.
    ///
    /// # Errors
    /// [`NetworkError::NotOfUserNetworks`], or those of the record; then it is called as before.
    pub async fn call(
        &self,
        pod: &PodSandboxId,
        names: Vec<(String, Vec<String>)>,
    ) -> Result<(), NetworkError> {
        let (user, pod) = (Arc::clone(&self.user), pod.clone());
        self.alone(&pod.clone(), async move { user.call(&pod, names) }).await
    }

    /// Takes a running pod out of a network. With `force`, one whose namespace cannot be reached too.
    ///
    /// # Errors
    /// [`NetworkError::NotOfUserNetworks`], [`NetworkError::NoNetwork`], [`NetworkError::NotAttached`], or the step that failed.
    pub async fn disconnect(
        &self,
        pod: &PodSandboxId,
        network: &str,
        force: bool,
    ) -> Result<(), NetworkError> {
        let (user, pod, network) = (Arc::clone(&self.user), pod.clone(), network.to_owned());
        self.alone(&pod.clone(), async move { user.disconnect(&pod, &network, force).await }).await
    }
}
