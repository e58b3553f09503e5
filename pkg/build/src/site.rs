//! Where builds happen: a network namespace, the registry in it, buildkitd. All of it begins with the first visit and ends a while after the last
//! one.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use husk_images::ImageStore;
use husk_model::{Attachment, ImageId, PodNetworking, PodSandboxId, chain};
use husk_network::{NAME_SERVER, Network, PodNetworkRequest};
use tokio::sync::{Mutex as Gate, watch};
use tracing::{info, warn};

use crate::{
    error::{BuildError, Result},
    grpc::Caller,
    places::Places,
    program::{Running, Settings},
    registry::Registry,
    spool::Spool,
};

/// How long buildkitd stays without a client.
const IDLE: Duration = Duration::from_secs(300);

/// What a builder is made of.
#[derive(Debug, Clone)]
pub struct BuilderConfig {
    /// buildkitd: a path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// husk-oci, which runs the steps.
    pub runtime: PathBuf,
    /// What outlives a reboot: build cache and log.
    pub root: PathBuf,
    /// Where sockets are.
    pub run: PathBuf,
    /// Where network namespaces are pinned.
    pub namespaces: PathBuf,
    /// Parent of the cgroups of builds, `/husk/build`.
    pub cgroup: String,
}

/// An image that a build has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image.
    pub id: ImageId,
    /// Names that it was given, as they were asked for.
    pub names: Vec<String>,
}

/// Who is told of images that were built.
type Witness = Arc<dyn Fn(&Built) + Send + Sync>;

/// The builder of a node. Until it is first needed nothing of it runs.
pub struct Builder {
    config: BuilderConfig,
    pub(crate) images: Arc<ImageStore>,
    network: Arc<Network>,
    witness: Witness,
    /// The user network of its steps; without one it is Docker's bridge.
    place: Option<String>,
    asides: Places,
    site: Gate<Option<Arc<Site>>>,
    /// How many use it.
    visits: watch::Sender<usize>,
    /// Sessions of clients, by their ids.
    sessions: Mutex<HashMap<String, Caller>>,
    /// Builds that huskd itself has asked for.
    builds: AtomicU64,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One run of buildkitd, with what it needs.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) registry: Registry,
    pub(crate) running: Running,
    /// The node's address in the builder's network.
    pub(crate) gateway: Option<IpAddr>,
    pod: PodSandboxId,
}

/// A use of the builder, which keeps it.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) builder: Arc<Builder>,
    pub(crate) site: Arc<Site>,
    _counted: Counted,
}

/// The builder runs while this is held.
#[derive(Debug)]
#[must_use = "the builder may end as soon as this is dropped"]
pub struct Awake {
    _visit: Visit,
}

#[derive(Debug)]
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(visits: &watch::Sender<usize>) -> Self {
        visits.send_modify(|visits| *visits += 1);
        Self(visits.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|visits| *visits -= 1);
    }
}

impl Builder {
    /// A builder that does not run yet. `witness` is told of each image that a build has made, in moments.
    pub fn new(
        config: BuilderConfig,
        images: Arc<ImageStore>,
        network: Arc<Network>,
        witness: impl Fn(&Built) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::made(config, images, network, Arc::new(witness), None)
    }

    fn made(
        config: BuilderConfig,
        images: Arc<ImageStore>,
        network: Arc<Network>,
        witness: Witness,
        place: Option<String>,
    ) -> Arc<Self> {
        let (site, visits, sessions) = (Gate::default(), watch::Sender::new(0), Mutex::default());
        let (asides, builds) = (Places::default(), AtomicU64::new(0));
        Arc::new(Self { config, images, network, witness, place, asides, site, visits, sessions, builds })
    }

    /// Another builder of the same node, in this user network.
    pub(crate) fn in_network(&self, config: BuilderConfig, network: String) -> Arc<Self> {
        let (images, witness) = (Arc::clone(&self.images), Arc::clone(&self.witness));
        Self::made(config, images, Arc::clone(&self.network), witness, Some(network))
    }

    pub(crate) fn config(&self) -> &BuilderConfig {
        &self.config
    }

    pub(crate) fn places(&self) -> &Places {
        &self.asides
    }

    /// Whether there was ever a build on this node.
    pub fn is_used(&self) -> bool {
        self.config.root.exists()
    }

    /// Has it run for as long as what is returned is held.
    ///
    /// # Errors
    /// What could not be started, with the remedy.
    pub async fn wake(self: &Arc<Self>) -> Result<Awake> {
        Ok(Awake { _visit: self.enter().await? })
    }

    /// A file for an archive that a client sends.
    ///
    /// # Errors
    /// [`BuildError::File`].
    pub fn spool(&self) -> Result<Spool> {
        Spool::new(&self.config.root)
    }

    /// Comes in; the first one starts everything.
    ///
    /// # Errors
    /// [`BuildError`]: what could not be started, with the remedy.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Visit> {
        let counted = Counted::new(&self.visits);
        let mut place = self.site.lock().await;
        if let Some(site) = place.as_ref() {
            if site.running.is_alive() {
                return Ok(Visit { builder: Arc::clone(self), site: Arc::clone(site), _counted: counted });
            }
            warn!("buildkitd has ended; it is started again");
        }
        if let Some(former) = place.take() {
            self.clear(&former.pod).await;
        }
        // In a task of its own, so that a client that goes away leaves nothing half started.
        let this = Arc::clone(self);
        let started = tokio::spawn(async move { this.start().await }).await;
        let site = started.unwrap_or_else(|error| {
            Err(BuildError::Broken { call: "its start", reason: error.to_string() })
        })?;
        let site = Arc::new(site);
        *place = Some(Arc::clone(&site));
        drop(place);
        tokio::spawn(Arc::clone(self).leave_when_idle(Arc::clone(&site)));
        Ok(Visit { builder: Arc::clone(self), site, _counted: counted })
    }

    async fn start(&self) -> Result<Site> {
        let pod = PodSandboxId::generate();
        match self.start_in(&pod).await {
            Ok((registry, running, gateway)) => Ok(Site { registry, running, gateway, pod }),
            Err(error) => {
                self.clear(&pod).await;
                Err(error)
            }
        }
    }

    async fn start_in(&self, pod: &PodSandboxId) -> Result<(Registry, Running, Option<IpAddr>)> {
        let config = &self.config;
        let pin = self.pin(pod);
        self.network.create_netns(&pin).await?;
        let user = self.network.user();
        let network = match &self.place {
            None => user.default_bridge().await?,
            Some(id) => user.find(id)?,
        };
        let place = Attachment { network: network.id.clone(), ..Attachment::default() };
        let request = PodNetworkRequest {
            id: pod.clone(),
            name: "builder".to_owned(),
            namespace: "husk".to_owned(),
            uid: String::new(),
            netns: pin.clone(),
            host_ports: Vec::new(),
            networking: PodNetworking::Named(vec![place]),
            annotations: BTreeMap::new(),
            dns: None,
            cgroup_parent: String::new(),
        };
        self.network.setup(&request).await?;
        let open = || husk_sys::netns::open(&pin).map_err(BuildError::file("open", &pin));
        std::fs::create_dir_all(&config.root).map_err(BuildError::file("make", &config.root))?;
        let registry = Registry::start(Arc::clone(&self.images), open()?, config.root.join("results"))?;
        let settings = Settings {
            root: config.root.join("cache"),
            socket: config.run.join("buildkitd.sock"),
            traces: config.run.join("traces.sock"),
            runtime: config.runtime.clone(),
            cgroup: format!("{}/steps", config.cgroup),
            port: registry.port,
            name_server: network.names.then_some(NAME_SERVER.into()),
        };
        let log = config.root.join("buildkitd.log");
        let running = Running::start(&config.program, &settings, open()?, &config.run, log).await?;
        Ok((registry, running, network.subnets.first().map(|subnet| subnet.gateway)))
    }

    fn pin(&self, pod: &PodSandboxId) -> PathBuf {
        self.config.namespaces.join(pod.as_str())
    }

    /// Gives the network back. What fails is worked off by the network's own garbage collection.
    async fn clear(&self, pod: &PodSandboxId) {
        if let Err(error) = self.network.teardown(pod).await {
            warn!(error = chain(&error), "the builder's network cannot be taken down");
        }
        if let Err(error) = self.network.remove_netns(&self.pin(pod)).await {
            warn!(error = chain(&error), "the builder's network namespace stays pinned");
        }
    }

    /// Ends this run when nobody has used it for a while, or when it has ended by itself.
    async fn leave_when_idle(self: Arc<Self>, site: Arc<Site>) {
        let mut visits = self.visits.subscribe();
        loop {
            let idle = async {
                // The sender is this builder's own.
                drop(visits.wait_for(|visits| *visits == 0).await);
                tokio::time::timeout(IDLE, visits.wait_for(|visits| *visits > 0)).await.is_err()
            };
            tokio::select! {
                idle = idle => if !idle { continue },
                how = site.running.ended() => warn!("buildkitd: {how}"),
            }
            let mut place = self.site.lock().await;
            let is_current = place.as_ref().is_some_and(|current| Arc::ptr_eq(current, &site));
            if !is_current {
                return;
            }
            if *self.visits.borrow() > 0 && site.running.is_alive() {
                continue;
            }
            place.take();
            site.running.stop().await;
            self.clear(&site.pod).await;
            info!("the builder has ended");
            return;
        }
    }

    /// Ends it now, builds in progress with it.
    pub async fn close(&self) {
        let Some(site) = self.site.lock().await.take() else { return };
        site.running.stop().await;
        self.clear(&site.pod).await;
    }

    /// Tells of an image that was built.
    pub(crate) fn tell(&self, built: &Built) {
        (self.witness)(built);
    }

    /// A number that no other build of this process has.
    pub(crate) fn next(&self) -> u64 {
        self.builds.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, HashMap<String, Caller>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
