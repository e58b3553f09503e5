//! What a search may find, and what it has found.

use std::sync::Arc;

use tracing::warn;

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

/// A search under way.
pub(super) struct Search {
    decide: Decide,
    found: Vec<Finding>,
}

impl Search {
    pub(super) fn new(decide: Decide) -> Self {
        Self { decide, found: Vec::new() }
    }

    /// Who decides.
    pub(super) fn decide(&self) -> Decide {
        Arc::clone(&self.decide)
    }

    /// Ends the search: what was found, told to the log.
    pub(super) fn finish(self) -> Vec<Finding> {
        tell(&self.found);
        self.found
    }

    /// Whether an object is to be taken away.
    pub(super) fn wants(&self, leak: Leak, object: &str) -> bool {
        (self.decide)(leak, object)
    }

    /// Notes a found object; `outcome` of the attempt to take it away, if there was one.
    pub(super) fn note(&mut self, leak: Leak, object: String, outcome: Option<Result<(), String>>) {
        let (repaired, failure) = match outcome {
            None => (false, None),
            Some(Ok(())) => (true, None),
            Some(Err(error)) => (false, Some(error)),
        };
        self.found.push(Finding { leak, object, repaired, failure });
    }
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
