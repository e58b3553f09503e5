//! What belongs to nobody: found, and taken away if that is wanted.
//!
//! A pod is known from before anything of it is made until everything of it is gone: its name is claimed, then its directory
//! is made; at the end the directory goes after all else, then the name. So each search first looks at what there is and
//! *then* asks who is known: an object of a pod that is being made is never taken for a leak, because the pod was
//! known before the object was there. Ids are random and never come again.
//!
//! What is searched is husk's own, and this daemon's: directories below its root and state, links on its bridge and elements of
//! its nftables table, processes of its monitor's binary with one of its pod directories, cgroups with its mark. What merely
//! looks like it (another husk's, another runtime's, a stranger's with such a name) is not even reported.

mod directories;
mod groups;
mod processes;

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use husk_model::{ContainerId, PodSandboxId};
use tracing::warn;

use crate::{Engine, recovery::directories as ids_in};

/// Kinds of what is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leak {
    /// A monitor whose pod is gone.
    Process,
    /// A pod's cgroup, perhaps with processes in it.
    Cgroup,
    /// A record of how to undo a pod's network, with all that it names.
    Network,
    /// A pinned network namespace.
    Netns,
    /// The node's end of a veth pair.
    Link,
    /// A host port in the nftables table.
    HostPort,
    /// A reserved address.
    Address,
    /// A pod's directory of records.
    PodDirectory,
    /// A container's directory of records.
    ContainerDirectory,
    /// A container's writable layer.
    WritableLayer,
    /// Files of an image layer.
    ImageLayer,
}

impl Leak {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Process,
        Self::Cgroup,
        Self::Network,
        Self::Netns,
        Self::Link,
        Self::HostPort,
        Self::Address,
        Self::PodDirectory,
        Self::ContainerDirectory,
        Self::WritableLayer,
        Self::ImageLayer,
    ];

    /// Its name in metrics, logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::Network => "network",
            Self::Netns => "netns",
            Self::Link => "link",
            Self::HostPort => "host_port",
            Self::Address => "address",
            Self::PodDirectory => "pod_directory",
            Self::ContainerDirectory => "container_directory",
            Self::WritableLayer => "writable_layer",
            Self::ImageLayer => "image_layer",
        }
    }
}

/// Something that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub leak: Leak,
    /// Which one: a path, a name, a pid with its pod.
    pub object: String,
    /// Whether it was taken away.
    pub repaired: bool,
    /// Why it was not, if that was tried.
    pub failure: Option<String>,
}

/// Whether a found object is to be taken away.
pub type Decide = Arc<dyn Fn(Leak, &str) -> bool + Send + Sync>;

impl Engine {
    /// One look at everything that may be left behind, taking away what `decide` agrees to. Safe while pods come and go; what
    /// is about to end by itself may be reported, though, so a caller that only wants to know looks twice.
    pub async fn examine(self: &Arc<Self>, decide: Decide) -> Vec<Finding> {
        let _turn = self.examining.lock().await;
        examine(self, decide).await
    }
}

/// Takes away what belongs to nobody, at once: nobody asks for anything yet. Directories of pods and containers are start-up's
/// own, and some are still being undone.
pub(crate) async fn examine_at_start(engine: &Arc<Engine>) {
    let mut search = Search { decide: Arc::new(|_, _| true), found: Vec::new() };
    things(engine, &mut search).await;
    tell(&search.found);
}

async fn examine(engine: &Arc<Engine>, decide: Decide) -> Vec<Finding> {
    let mut search = Search { decide, found: Vec::new() };
    things(engine, &mut search).await;
    directories::search(engine, &mut search).await;
    // What could not be deleted before is tried again.
    engine.trash.take_out();
    tell(&search.found);
    search.found
}

/// All but the directories that name the rest.
async fn things(engine: &Arc<Engine>, search: &mut Search) {
    // A monitor before its pod's cgroup: it would keep its pod alive.
    processes::search(engine, search).await;
    groups::search(engine, search).await;
    networks(engine, search).await;
    directories::writable_layers(engine, search);
}

fn tell(found: &[Finding]) {
    for finding in found {
        let (kind, object) = (finding.leak.as_str(), finding.object.as_str());
        match (&finding.failure, finding.repaired) {
            (Some(error), _) => warn!(kind, object, error, "cannot remove what belongs to nobody"),
            (None, true) => warn!(kind, object, "removed what belonged to nobody"),
            (None, false) => {}
        }
    }
}

/// A search under way.
struct Search {
    decide: Decide,
    found: Vec<Finding>,
}

impl Search {
    /// Whether an object is to be taken away.
    fn wants(&self, leak: Leak, object: &str) -> bool {
        (self.decide)(leak, object)
    }

    /// Notes a found object; `outcome` of the attempt to take it away, if there was one.
    fn note(&mut self, leak: Leak, object: String, outcome: Option<Result<(), String>>) {
        let (repaired, failure) = match outcome {
            None => (false, None),
            Some(Ok(())) => (true, None),
            Some(Err(error)) => (false, Some(error)),
        };
        self.found.push(Finding { leak, object, repaired, failure });
    }
}

/// Pods that are known: made, being made, being removed, or just with a directory.
fn known_pods(engine: &Engine) -> HashSet<PodSandboxId> {
    let mut pods: HashSet<PodSandboxId> =
        ids_in(&engine.store.pods()).unwrap_or_default().into_iter().collect();
    pods.extend(named_pods(engine));
    pods
}

/// Pods that the daemon has in hand.
fn named_pods(engine: &Engine) -> HashSet<PodSandboxId> {
    let mut pods: HashSet<PodSandboxId> = engine.pod_names.ids().into_iter().collect();
    pods.extend(engine.all_pods().iter().map(|pod| pod.id.clone()));
    pods.extend(engine.undoing().iter().cloned());
    pods
}

/// Containers that the daemon has in hand.
fn named_containers(engine: &Engine) -> HashSet<ContainerId> {
    let mut containers: HashSet<ContainerId> = engine.container_names.ids().into_iter().collect();
    containers.extend(engine.all_containers().iter().map(|container| container.id.clone()));
    containers
}

/// Containers that are known: those, and all that have a directory.
fn known_containers(engine: &Engine) -> HashSet<ContainerId> {
    let mut containers: HashSet<ContainerId> = known_pods(engine)
        .iter()
        .flat_map(|pod| ids_in(&engine.store.pod(pod).join("containers")).unwrap_or_default())
        .collect();
    containers.extend(named_containers(engine));
    containers
}

async fn networks(engine: &Arc<Engine>, search: &mut Search) {
    let (this, decide) = (Arc::clone(engine), Arc::clone(&search.decide));
    // A name tells its kind: an id, an address, a path, a link, an element.
    let free = move |name: &str| decide(kind_of(name), name);
    let report = engine.network.examine(Arc::new(move || known_pods(&this)), Arc::new(free)).await;
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
