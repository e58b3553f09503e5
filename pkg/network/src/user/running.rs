//! Networks that a pod comes into and goes out of while it runs. Each is marked in the pod's record before anything is made or
//! undone, so that a crash in between is found and ended by the next start (repair.rs).

use std::{os::fd::AsFd, sync::Arc};

use husk_model::{Attachment as Wanted, PodSandboxId};
use husk_resolver::Sockets;

use super::{
    User,
    pod::{MAX_PLUGS, answer, enter, set_routes},
};
use crate::{
    NetworkError,
    embedded::conntrack::Stale,
    netns_pool::Prepared,
    record::{Attachment, Plug, Record, UserAttachment},
};

impl User {
    /// Gives a pod a place in one more network.
    pub(super) async fn connect(
        self: &Arc<Self>,
        id: &PodSandboxId,
        wanted: Wanted,
    ) -> Result<(), NetworkError> {
        let (mut record, mut places) = self.read(id)?;
        let _order = self.order.read().await;
        let network = self.find(&wanted.network)?;
        if places.plugs.iter().any(|plug| plug.wanted.network == network.id) {
            return Err(NetworkError::Attached { network: network.name.clone() });
        }
        if places.plugs.len() >= MAX_PLUGS {
            return Err(NetworkError::Wish(format!("a pod may be in {MAX_PLUGS} networks")));
        }
        self.ready(&network).await?;
        let prepared = self.enter(&record)?;
        let names = network.names && !self.has_resolver(id);
        let listening = enter(prepared.ns.as_fd(), network.has_family(false).then_some(true), names)?;
        let used = |number: &usize| places.plugs.iter().any(|plug| plug.interface == format!("eth{number}"));
        let number = (0..MAX_PLUGS).find(|number| !used(number)).unwrap_or(MAX_PLUGS);
        let wanted = Wanted { network: network.id.clone(), ..wanted };
        let mut plug = self.reserve(id, &network, wanted, number).await?;
        plug.unsettled = true;
        places.plugs.push(plug.clone());
        places.name_port = listening.as_ref().map(|(_, port)| *port).or(places.name_port);
        if let Err(error) = self.write(&mut record, &places) {
            // The reservation carries the pod's id; if it cannot be given back now, the next start does.
            let _ = self.release(id, &plug);
            return Err(error);
        }
        let made = self
            .arrive(&mut record, &places, &plug, listening.map(|(listening, _)| listening), &prepared)
            .await;
        if made.is_err() {
            // The first error is the one to report; what cannot be undone is undone by the next start.
            let undone = match self.take_out(&mut record, &network.id).await {
                // Ports and routes may have been led there already.
                Ok(places) => self.settle(&mut record, places, Some(&prepared)).await,
                Err(error) => Err(error),
            };
            if let Err(undo) = undone {
                let undo = &undo as &dyn std::error::Error;
                tracing::warn!(%id, error = undo, "take a pod out of a network that it could not come into");
            }
        }
        made
    }

    /// Makes a place that is marked, and takes the mark away.
    async fn arrive(
        self: &Arc<Self>,
        record: &mut Record,
        places: &UserAttachment,
        plug: &Plug,
        listening: Option<Sockets>,
        prepared: &Prepared,
    ) -> Result<(), NetworkError> {
        if let Some(listening) = listening {
            let request = &record.request;
            self.serve_names(&request.id, request.dns.as_ref(), listening, Arc::clone(&prepared.ns))?;
        }
        self.plug(plug, prepared).await?;
        let mut settled = places.clone();
        settled.plugs.iter_mut().for_each(|plug| plug.unsettled = false);
        self.settle(record, settled, Some(prepared)).await
    }

    /// Gives a pod other names in networks that it is in.
    pub(super) fn call(
        &self,
        id: &PodSandboxId,
        names: Vec<(String, Vec<String>)>,
    ) -> Result<(), NetworkError> {
        let (mut record, mut places) = self.read(id)?;
        for (network, names) in names {
            places
                .plugs
                .iter_mut()
                .filter(|plug| plug.wanted.network == network)
                .for_each(|plug| plug.wanted.aliases.clone_from(&names));
        }
        self.write(&mut record, &places)
    }

    /// Takes a pod out of a network. With `force`, a pod whose namespace cannot be reached is taken out all the same.
    pub(super) async fn disconnect(
        self: &Arc<Self>,
        id: &PodSandboxId,
        network: &str,
        force: bool,
    ) -> Result<(), NetworkError> {
        let (mut record, mut places) = self.read(id)?;
        let network = self.find(network)?;
        let Some(plug) = places.plugs.iter_mut().find(|plug| plug.wanted.network == network.id) else {
            return Err(NetworkError::NotAttached { network: network.name.clone() });
        };
        plug.unsettled = true;
        let prepared = match self.enter(&record) {
            Ok(prepared) => Some(prepared),
            Err(error) if force => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%id, network = network.name, error, "the pod's namespace cannot be reached");
                None
            }
            Err(error) => return Err(error),
        };
        self.write(&mut record, &places)?;
        let places = self.take_out(&mut record, &network.id).await?;
        self.settle(&mut record, places, prepared.as_ref()).await
    }

    /// Undoes a place that is marked: the link, the addresses, then the mark. Returns what is left.
    pub(super) async fn take_out(
        &self,
        record: &mut Record,
        network: &str,
    ) -> Result<UserAttachment, NetworkError> {
        let Attachment::User(places) = &record.attachment else { return Ok(UserAttachment::default()) };
        let mut places = places.clone();
        let goes = |plug: &Plug| plug.wanted.network == network;
        for plug in places.plugs.iter().filter(|plug| goes(plug)) {
            self.netlink.delete_link(&plug.link).await?;
            self.release(&record.request.id, plug)?;
        }
        places.plugs.retain(|plug| !goes(plug));
        self.write(record, &places)?;
        Ok(places)
    }

    /// Leads routes and published ports where they belong now.
    async fn settle(
        &self,
        record: &mut Record,
        mut places: UserAttachment,
        inside: Option<&Prepared>,
    ) -> Result<(), NetworkError> {
        let id = record.request.id.clone();
        let chosen = self.ports(&id, &places.ports.clone(), &places).await?;
        let gone: Vec<_> =
            places.mappings.iter().filter(|mapping| !chosen.mappings.contains(mapping)).cloned().collect();
        if !gone.is_empty() {
            let config = self.embedded.config();
            let mut host_ports = self.embedded.host_ports().await;
            // A port that leads elsewhere now is one element with another value, so the old one goes first.
            host_ports.adopt(&id, &gone);
            host_ports.remove(&config, &id, &gone).await?;
            host_ports.adopt(&id, &chosen.mappings);
            drop(host_ports);
            self.embedded.forget_flows(Stale::Led(&gone)).await;
        }
        (places.ports, places.mappings) = (chosen.ports, chosen.mappings);
        self.write(record, &places)?;
        if let Some(inside) = inside {
            set_routes(&inside.inside, &places.plugs).await?;
        }
        self.publish(&id, &places).await
    }

    /// The record of a pod of user networks.
    fn read(&self, id: &PodSandboxId) -> Result<(Record, UserAttachment), NetworkError> {
        match self.records.read(id)? {
            Some(record) => match &record.attachment {
                Attachment::User(places) => {
                    let places = places.clone();
                    Ok((record, places))
                }
                Attachment::Bridge(_) | Attachment::Cni(_) => {
                    Err(NetworkError::NotOfUserNetworks { pod: id.clone() })
                }
            },
            None => Err(NetworkError::NotOfUserNetworks { pod: id.clone() }),
        }
    }

    /// Writes down where a pod is, and knows it.
    pub(super) fn write(&self, record: &mut Record, places: &UserAttachment) -> Result<(), NetworkError> {
        record.network = Some(answer(places));
        record.attachment = Attachment::User(places.clone());
        self.records.write(record)?;
        self.state().pods.insert(record.request.id.clone(), Arc::new(places.clone()));
        Ok(())
    }

    /// The pod's namespace.
    fn enter(&self, record: &Record) -> Result<Prepared, NetworkError> {
        let path = &record.request.netns;
        let ns = husk_sys::netns::open(path).map_err(NetworkError::netns("open", path))?;
        let inside = self.netlink.connect_in(ns.as_fd()).map_err(NetworkError::netns("enter", path))?;
        Ok(Prepared { ns: Arc::new(ns), inside, hardened: true })
    }
}
