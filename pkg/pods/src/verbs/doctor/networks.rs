//! Links, addresses, host ports, namespaces and undo records of pods that are gone.

use std::{path::PathBuf, sync::Arc};

use husk_model::PodSandboxId;

use super::{
    known::Known,
    search::{Leak, Search},
};
use crate::node::Networks;

/// Asks the network for what it has of pods that nobody knows.
pub(super) async fn search(networks: &Networks, known: &Known, search: &mut Search) {
    let (known, decide) = (known.clone(), search.decide());
    // A name tells its kind: an id, an address, a path, a link, an element.
    let free = move |name: &str| decide(kind_of(name), name);
    let report =
        networks.facility.examine(Arc::new(move || known.pods().into_iter().collect()), Arc::new(free)).await;
    let pods = report.pods.iter().map(ToString::to_string);
    let addresses = report.addresses.iter().map(ToString::to_string);
    let pins = report.pins.iter().map(|path: &PathBuf| path.display().to_string());
    let (links, elements) = (report.links.iter().cloned(), report.elements.iter().cloned());
    for object in pods.chain(addresses).chain(pins).chain(links).chain(elements) {
        let leak = kind_of(&object);
        let outcome = search.wants(leak, &object).then_some(Ok(()));
        search.note(leak, object, outcome);
    }
    for failure in report.failures {
        search.note(Leak::Network, "pod networks".to_owned(), Some(Err(failure)));
    }
}

fn kind_of(name: &str) -> Leak {
    if name.starts_with('/') {
        Leak::Netns
    } else if name.starts_with("hostports") {
        Leak::HostPort
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        Leak::Address
    } else if name.parse::<PodSandboxId>().is_ok() {
        Leak::Network
    } else {
        Leak::Link
    }
}
