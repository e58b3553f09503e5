//! What the engine needs of the crates below it, as small traits: the lifecycle is tested with fakes behind them, and the
//! real things are plugged in here and nowhere else.

use std::{
    any::Any,
    error::Error,
    fmt,
    net::IpAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use husk_model::{Classify, ImageId, Kind, PodConfig, PodSandboxId};
use husk_network::{Free, GcReport, Network, NetworkError, Owners, PodNetworkRequest};

/// The images of this node.
pub trait Images: Send + Sync + 'static {
    /// Finds an image by id, tag or digest; `None` when it is not here.
    fn find(&self, name: &str) -> Option<ImageFacts>;

    /// Keeps the layers of an image, even if it is removed, until the lease is dropped.
    ///
    /// # Errors
    /// When the image or one of its layers is not here any more.
    fn lease(&self, id: &ImageId) -> Result<Lease, ImageFault>;
}

/// What the engine wants to know of an image.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// Its id.
    pub id: ImageId,
    /// A reference by which it can be found again: a repo digest, else the id.
    pub reference: String,
    /// What it is called: its tags, then its repo digests. None of an image that lost its names.
    pub names: Vec<String>,
    /// USER: `user`, `user:group`, or numbers; may be empty.
    pub user: String,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
    /// What to run.
    pub defaults: husk_spec::ImageDefaults,
}

/// An image's layers, kept while this lives.
pub struct Lease {
    /// Directory of the layers.
    pub base: PathBuf,
    /// Layers relative to `base`, topmost first.
    pub lowers: Vec<String>,
    /// Keeps them.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("base", &self.base)
            .field("lowers", &self.lowers)
            .finish_non_exhaustive()
    }
}

/// A failure of the image store, in its own words.
#[derive(Debug)]
pub struct ImageFault {
    kind: Kind,
    error: Box<dyn Error + Send + Sync>,
}

impl ImageFault {
    /// Takes over an error of the store.
    pub fn new(error: impl Error + Classify + Send + Sync + 'static) -> Self {
        Self { kind: error.kind(), error: Box::new(error) }
    }
}

impl fmt::Display for ImageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ImageFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl Classify for ImageFault {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// A pod's network, as far as the pod's own files tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networked {
    /// Its addresses; none of a pod that has loopback only.
    pub ips: Vec<IpAddr>,
    /// Names of user networks are served in it, at [`husk_network::NAME_SERVER`].
    pub names: bool,
}

/// The pod network.
#[async_trait]
pub trait PodNetworks: Send + Sync + 'static {
    /// Makes a network namespace and pins it at `netns`. What a failure of this or of the next two leaves is taken back by
    /// [`PodNetworks::tear_down`].
    async fn make(&self, netns: &Path) -> Result<(), NetworkError>;

    /// Pins one that was made elsewhere at `netns`.
    async fn adopt(&self, netns: &Path, made: OwnedFd) -> Result<(), NetworkError>;

    /// Gives the pod the networks that its configuration asks for, in the namespace that is pinned at `netns`.
    async fn set_up(
        &self,
        id: &PodSandboxId,
        netns: &Path,
        config: &PodConfig,
    ) -> Result<Networked, NetworkError>;

    /// Takes the network and the namespace back. Idempotent; nothing to do is fine.
    async fn tear_down(&self, id: &PodSandboxId, netns: &Path) -> Result<(), NetworkError>;

    /// Looks for what belongs to none of the pods that `owners` names, and frees what `free` agrees to.
    async fn examine(&self, owners: Owners, free: Free) -> GcReport;
}

#[async_trait]
impl PodNetworks for Arc<Network> {
    async fn make(&self, netns: &Path) -> Result<(), NetworkError> {
        self.create_netns(netns).await
    }

    async fn adopt(&self, netns: &Path, made: OwnedFd) -> Result<(), NetworkError> {
        self.adopt_netns(made, netns).await
    }

    async fn set_up(
        &self,
        id: &PodSandboxId,
        netns: &Path,
        config: &PodConfig,
    ) -> Result<Networked, NetworkError> {
        let request = PodNetworkRequest::new(id.clone(), netns.to_owned(), config);
        let network = self.setup(&request).await?;
        Ok(Networked { ips: network.ips, names: network.names })
    }

    async fn tear_down(&self, id: &PodSandboxId, netns: &Path) -> Result<(), NetworkError> {
        self.teardown(id).await?;
        self.remove_netns(netns).await
    }

    async fn examine(&self, owners: Owners, free: Free) -> GcReport {
        Network::examine(self, owners, free).await
    }
}
