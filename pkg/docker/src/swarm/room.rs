//! What requests about the swarm stand on, what is made with a swarm and goes with it.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    sync::Arc,
};

use husk_network::{NetworkSpec, Overlay, Pool};
use husk_swarm::{Init, Left, Status, Swarm};
use serde_json::{Value, json};
use tracing::warn;

use super::shown;
use crate::{containers::Store, error::Result, facilities::Containers, shared::Shared};

/// The network in which published ports are.
const INGRESS: &str = "ingress";

/// The swarm of this node, or none.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) swarm: Swarm,
    pub(super) shared: Arc<Shared>,
    containers: Store,
    /// Init and leave, one after the other: each makes or removes networks.
    order: tokio::sync::Mutex<()>,
}

impl Room {
    /// Takes up what is on record, and finishes to leave a swarm.
    pub(crate) async fn open(shared: Arc<Shared>, containers: Store) -> Self {
        let swarm = Swarm::open(shared.root.join("swarm"));
        if let Some(reason) = swarm.failure() {
            warn!(reason, "the swarm cannot be taken up; all else goes on without it");
        }
        let room = Self { swarm, shared, containers, order: tokio::sync::Mutex::default() };
        if let Some(left) = room.swarm.half_left() {
            room.clear(&left).await.unwrap_or_else(|failure| {
                warn!(error = failure.message(), "what a swarm had stays until it is left once more");
            });
        }
        room
    }

    /// Makes a swarm, with its network for published ports. Returns the node's id.
    ///
    /// # Errors
    /// 503 when there is one, 400 and 501 for what cannot be, those of making the network; then there is none.
    pub(super) async fn init(&self, init: Init) -> Result<String> {
        let _one = self.order.lock().await;
        let again = init.force_new_cluster && self.swarm.status() == Status::Active;
        let id = self.swarm.init(init, own_address(), &links())?;
        if again {
            return Ok(id);
        }
        let spec = NetworkSpec {
            overlay: Some(Overlay { ingress: true }),
            names: false,
            pool: self.pool(),
            ..NetworkSpec::new(INGRESS)
        };
        if let Err(error) = self.shared.network.user().create(spec).await {
            let left = self.swarm.leave(true)?;
            self.clear(&left).await?;
            return Err(crate::error::Failure::from(error).of("make the swarm's network ingress"));
        }
        Ok(id)
    }

    /// Leaves the swarm: what it had is gone at the end.
    ///
    /// # Errors
    /// 503 when there is none, or without force; those of removing what it had, and then the next attempt goes on.
    pub(super) async fn leave(&self, force: bool) -> Result<()> {
        let _one = self.order.lock().await;
        let left = self.swarm.leave(force)?;
        self.clear(&left).await
    }

    /// Removes what a swarm had.
    async fn clear(&self, left: &Left) -> Result<()> {
        let user = self.shared.network.user();
        for network in user.list().into_iter().filter(|network| network.overlay.is_some()) {
            // A container that was attached by hand stays, without the network.
            for endpoint in self.containers.of_network(&network.id) {
                self.containers.disconnect(&network.id, &endpoint.user.id, true).await?;
            }
            user.remove(&network.id).await?;
        }
        Ok(self.swarm.gone(left)?)
    }

    /// Checks that there is a swarm, for what exists in one alone.
    ///
    /// # Errors
    /// 503.
    pub(crate) fn check(&self) -> Result<()> {
        Ok(self.swarm.read(|_| ())?)
    }

    /// Where subnets of its networks are taken from.
    pub(crate) fn pool(&self) -> Option<Pool> {
        let of = |state: &husk_swarm::State| {
            let prefix = u8::try_from(state.cluster.subnet_size).ok()?;
            Some(Pool { nets: state.cluster.pools.clone(), prefix })
        };
        self.swarm.read(of).ok().flatten()
    }

    /// What `/info` says of it.
    pub(crate) fn info(&self) -> Value {
        let state = match self.swarm.status() {
            Status::Active => "active",
            Status::Locked => "locked",
            Status::Failed => "error",
            Status::Inactive | Status::Leaving => "inactive",
        };
        let none = json!({
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": state,
            "ControlAvailable": false,
            "Error": self.swarm.failure().unwrap_or_default(),
            "RemoteManagers": null,
        });
        self.swarm.read(shown::info).unwrap_or(none)
    }

    /// What the header `Swarm` of a ping says.
    pub(crate) fn header(&self) -> &'static str {
        match self.swarm.status() {
            Status::Active => "active/manager",
            Status::Locked => "locked",
            Status::Failed => "error",
            Status::Inactive | Status::Leaving => "inactive",
        }
    }
}

/// The node's address: that from which it would send to the rest of the world. Nothing is sent.
fn own_address() -> IpAddr {
    let look = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Of the documentation (RFC 5737): it stands for what the default route leads to.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    look().map_or(Ipv4Addr::LOCALHOST.into(), |address: std::net::SocketAddr| address.ip())
}

/// Names of the node's interfaces.
fn links() -> Vec<String> {
    let entries = std::fs::read_dir(Path::new("/sys/class/net")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
