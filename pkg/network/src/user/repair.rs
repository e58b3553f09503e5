//! What a daemon that died left half done, and what is left of pods that are gone.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use husk_model::PodSandboxId;
use netlink_packet_route::link::InfoKind;

use super::{User, bridge, pod::is_link_name, spec::UserNetwork};
use crate::{
    Free, NetworkError,
    netlink::{self, Link},
    record::{Attachment, Plug},
};

impl User {
    /// Ends what a former daemon began, and makes the bridges. To be called before anybody asks for anything. What fails is told
    /// and left for the next start; networks whose bridge cannot be made are tried again with the next pod.
    pub(crate) async fn repair(self: &Arc<Self>) {
        let failed = |error: &NetworkError, what: &str| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "{what}");
        };
        let pods: Vec<PodSandboxId> = self.state().pods.keys().cloned().collect();
        for pod in &pods {
            if let Err(error) = self.settle_record(pod).await {
                failed(&error, "take a pod out of a network that it was on its way into or out of");
            }
        }
        let networks: Vec<Arc<UserNetwork>> = self.state().networks.values().cloned().collect();
        for network in networks {
            if network.removing {
                if let Err(error) = self.take_away(&network).await {
                    failed(&error, "go on removing a user network");
                }
                continue;
            }
            if let Err(error) = self.free_unrecorded(&network) {
                failed(&error, "free addresses that no pod has");
            }
            if let Err(error) = self.ready(&network).await {
                failed(&error, "make the bridge of a user network");
            }
        }
        for pod in pods {
            let record = self.records.read(&pod);
            let again =
                record.and_then(|record| record.map_or(Ok(()), |record| self.serve_names_again(record)));
            if let Err(error) = again {
                failed(&error, "serve names in a pod again");
            }
        }
    }

    async fn settle_record(&self, id: &PodSandboxId) -> Result<(), NetworkError> {
        let Some(mut record) = self.records.read(id)? else { return Ok(()) };
        let Attachment::User(places) = &record.attachment else { return Ok(()) };
        let unsettled: Vec<String> = places
            .plugs
            .iter()
            .filter(|plug| plug.unsettled)
            .map(|plug| plug.wanted.network.clone())
            .collect();
        for network in unsettled {
            self.take_out(&mut record, &network).await?;
        }
        Ok(())
    }

    /// A crash came between the reservation of an address and the record that names it.
    fn free_unrecorded(&self, network: &UserNetwork) -> Result<(), NetworkError> {
        let mut recorded: HashSet<(String, IpAddr)> = HashSet::new();
        for (id, places) in self.members(&network.id) {
            let ips =
                places.plugs.iter().filter(|plug| plug.wanted.network == network.id).flat_map(Plug::ips);
            recorded.extend(ips.map(|ip| (id.to_string(), ip)));
        }
        let ipam = self.store.ipam(network)?;
        let mut stray = ipam.reservations()?;
        stray.retain(|reservation| !recorded.contains(&(reservation.id.clone(), reservation.ip)));
        ipam.give_back(&stray)
    }

    /// Frees addresses whose owner `stale` names, in every network.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn stale_addresses<S: Fn(&str) -> bool>(
        &self,
        stale: impl Fn() -> S,
        free: &Free,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let networks: Vec<Arc<UserNetwork>> = self.state().networks.values().cloned().collect();
        let mut found = Vec::new();
        for network in networks {
            let stale = self.store.ipam(&network)?.release_if(&stale, |ip| free(&ip.to_string()))?;
            found.extend(stale.into_iter().map(|reservation| reservation.ip));
        }
        Ok(found)
    }

    /// Finds bridges of no network, and veths on bridges of ours that are no `live` pod's and not about to vanish by themselves,
    /// and deletes those that `free` agrees to. Returns their names.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) async fn stale_links(
        &self,
        live: impl Fn() -> HashSet<PodSandboxId>,
        free: &Free,
    ) -> Result<Vec<String>, NetworkError> {
        let (host, table) = (self.netlink.host(), self.embedded.config().table.clone());
        let failed = || NetworkError::netlink("delete stale links of", "user networks");
        let links = netlink::links(&host).await.map_err(failed())?;
        let live = live();
        let (known, bridges, recorded, draining) = {
            // Asked after the look at the links: what is made later has its record before.
            let state = self.state();
            let known: HashSet<String> =
                state.networks.values().map(|network| network.bridge.clone()).collect();
            let of_ours =
                |link: &&Link| known.contains(&link.name) || bridge::is_tagged(&table, link.alias.as_deref());
            let bridges: HashSet<u32> = links.iter().filter(of_ours).map(|link| link.index).collect();
            let pods = state.pods.iter().filter(|(id, _)| live.contains(*id));
            let plugs = pods.flat_map(|(_, places)| places.plugs.iter());
            let recorded: HashSet<String> = plugs.map(|plug| plug.link.clone()).collect();
            (known, bridges, recorded, self.holds.all_links())
        };
        let mut found = Vec::new();
        for link in links {
            let stray = match link.kind {
                Some(InfoKind::Bridge) => {
                    bridge::is_tagged(&table, link.alias.as_deref()) && !known.contains(&link.name)
                }
                Some(InfoKind::Veth) => {
                    let ours = link.master.is_some_and(|master| bridges.contains(&master))
                        && is_link_name(&link.name);
                    ours && !recorded.contains(&link.name) && !draining.contains(&link.name)
                }
                _ => false,
            };
            if !stray {
                continue;
            }
            if free(&link.name) {
                netlink::delete(&host, link.index).await.map_err(failed())?;
            }
            found.push(link.name);
        }
        Ok(found)
    }

    /// Frees the addresses of a pod that has no record: a crash may have come between reservation and record.
    ///
    /// # Errors
    /// Those of the files.
    pub(crate) fn free_addresses_of(&self, id: &PodSandboxId) -> Result<(), NetworkError> {
        let all: Free = Arc::new(|_| true);
        self.stale_addresses(|| |owner: &str| owner == id.as_str(), &all).map(drop)
    }

    /// Deletes every bridge, for a daemon that leaves the node for good. The records stay: they go with the directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) async fn dismantle(&self) -> Result<(), NetworkError> {
        let networks: Vec<Arc<UserNetwork>> = self.state().networks.values().cloned().collect();
        for network in networks {
            self.state().bridges.remove(&network.id);
            self.delete_bridge(&network).await?;
        }
        Ok(())
    }
}
