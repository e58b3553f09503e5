//! The public face: namespaces, setup, teardown, status and garbage, whoever provides the network.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_model::{PodNetworking, PodSandboxId, chain};
use husk_telemetry::phases::{inherited, waiting};

use crate::{
    BridgeConfig, Free, GcReport, NetworkConfig, NetworkError, NetworkStatus, Owners, PodCidr, PodNetwork,
    PodNetworkRequest, Provider,
    cni::{self, Cni},
    embedded::Embedded,
    free_subnet,
    ipam::Ipam,
    netlink::{self, Netlink},
    netns_pool::{Flavor, Pool, Prepared},
    pod_cidr::Kept,
    pod_locks::PodLocks,
    record::{Attachment, Record, Records},
    user::{User, UserNetworks},
};

/// What waiting for another who works on a pod's network is called.
const LOCK: &str = "wait for other work on the pod's network";

/// The pod network of one daemon. All state that matters is on disk and in the kernel; dropping this changes neither.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    netlink: Arc<Netlink>,
    pool: Arc<Pool>,
    embedded: Arc<Embedded>,
    cni: Arc<Cni>,
    user: Arc<User>,
    records: Records,
    pod_locks: Arc<PodLocks>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Namespaces pinned by this process and not yet set up, with their sockets.
    prepared: HashMap<PathBuf, Prepared>,
    /// Pins made by this process: gc leaves them alone, whatever its caller's list says.
    pins: HashSet<PathBuf>,
}

impl Network {
    /// Starts the network: threads, the watch on the CNI directory, and the embedded bridge unless CNI is configured.
    /// Trouble with the node (no nft, a subnet in use) is not an error here but [`Network::status`]; it is tried anew
    /// with the next pod.
    ///
    /// # Errors
    /// A configuration that cannot work, or directories that cannot be made.
    pub async fn start(mut config: NetworkConfig) -> Result<Arc<Self>, NetworkError> {
        let problems = config.bridge.problems();
        if !problems.is_empty() {
            return Err(NetworkError::Config(problems));
        }
        let netns_dir = config.netns_dir();
        fs::create_dir_all(&netns_dir).map_err(NetworkError::file("create", netns_dir))?;
        let records = Records::open(config.record_dir())?;
        Cni::end_strays(&records).await?;
        let netlink = Arc::new(Netlink::start().map_err(NetworkError::NetlinkSocket)?);
        if config.choose_subnet {
            config.bridge.subnet = free_subnet::choose(&config, &netlink, &records).await?;
        }
        let ipam = Ipam::open(&config.ipam_dir(), &config.bridge.name, config.bridge.subnets())?;
        if let Some(kept) = Kept::read(&config.pod_cidr_file())? {
            config.bridge.former = kept.former;
            config.bridge = config.bridge.with_cidr(kept.cidr)?;
            forget_unused(&mut config.bridge, &ipam)?;
        }
        let ipam = ipam.with_subnets(config.bridge.subnets());
        let embedded =
            Arc::new(Embedded::new(config.bridge.clone(), netlink.clone(), ipam, records.clone())?);
        let pod_locks = Arc::new(PodLocks::default());
        let (dir, thread, locks) = (config.user_dir(), netlink.clone(), pod_locks.clone());
        let user = User::open(dir, thread, embedded.clone(), records.clone(), locks).await?;
        let cni = Cni::start(&config).await;
        let pool = Pool::start(netlink.clone(), config.netns_pool, flavor(&cni.choice(), &embedded));
        let network = Arc::new(Self {
            config,
            netlink,
            pool,
            embedded,
            cni,
            user: Arc::new(user),
            records,
            pod_locks,
            state: Mutex::default(),
        });
        if let cni::Choice::Embedded = network.cni.choice() {
            // Its trouble, if any, is kept for the status.
            let embedded = network.embedded.clone();
            let _ = network.netlink.run(async move { embedded.ensure_ready().await }).await?;
        }
        let user = network.user.clone();
        network.netlink.run(async move { user.repair().await }).await?;
        network.follow_cni();
        Ok(network)
    }

    /// The user networks.
    pub fn user(&self) -> UserNetworks {
        UserNetworks::new(self.user.clone())
    }

    /// The subnets from which the embedded network gives new pods their addresses.
    pub fn subnets(&self) -> Vec<ipnet::IpNet> {
        self.embedded.config().subnets().collect()
    }

    /// Takes in the node's pod CIDR. The embedded network gives new pods addresses of it, from now on and after a restart;
    /// pods keep what they have. With CNI it is kept for the day on which the last CNI configuration goes.
    ///
    /// # Errors
    /// [`NetworkError::PodCidr`] when the embedded network cannot use it, or what kept the bridge from being changed.
    pub async fn set_pod_cidr(self: &Arc<Self>, cidr: PodCidr) -> Result<(), NetworkError> {
        let embedded = matches!(self.cni.choice(), cni::Choice::Embedded);
        let present = self.embedded.config();
        if present.cidr() == cidr {
            return Ok(());
        }
        let changed = match present.with_cidr(cidr) {
            Ok(changed) => changed,
            Err(error) if !embedded => {
                tracing::info!(%error, "CNI provides the network; the pod CIDR is nothing that husk's own could use");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (this, kept) = (self.clone(), Kept { cidr, former: changed.former.clone() });
        let work = async move {
            this.embedded.change(changed, embedded).await?;
            this.pool.set_flavor(flavor(&this.cni.choice(), &this.embedded));
            kept.write(&this.config.pod_cidr_file())
        };
        self.netlink.run(work).await??;
        tracing::info!(?cidr, "new pods get addresses of another subnet");
        Ok(())
    }

    /// CRI's `NetworkReady` condition, from what is known; never waits.
    pub fn status(&self) -> NetworkStatus {
        match self.cni.choice() {
            cni::Choice::Embedded => {
                let provider = Provider::Embedded(self.config.bridge.name.clone());
                let (ready, trouble) = self.embedded.condition();
                let reason = match (ready, &trouble) {
                    (true, None) => "",
                    (true, Some(_)) => "NetworkDegraded",
                    (false, _) => "EmbeddedNetworkNotReady",
                };
                NetworkStatus {
                    ready,
                    reason: reason.to_owned(),
                    message: trouble.unwrap_or_default(),
                    provider,
                }
            }
            cni::Choice::Cni(list) => {
                let provider = Provider::Cni(list.name.clone());
                match self.cni.trouble() {
                    None => {
                        NetworkStatus { ready: true, reason: String::new(), message: String::new(), provider }
                    }
                    Some(message) => NetworkStatus {
                        ready: false,
                        reason: "CNINetworkNotReady".to_owned(),
                        message,
                        provider,
                    },
                }
            }
            cni::Choice::Broken(message) => NetworkStatus {
                ready: false,
                reason: "InvalidCNIConfiguration".to_owned(),
                message,
                provider: Provider::Cni(String::new()),
            },
        }
    }

    /// Makes a network namespace, `lo` up, and pins it at `path`, whose directory exists.
    ///
    /// # Errors
    /// [`NetworkError::Netns`], also when something is at `path` already.
    pub async fn create_netns(&self, path: &Path) -> Result<(), NetworkError> {
        let prepared = self.pool.take().await?;
        self.pin(prepared, path)
    }

    fn pin(&self, prepared: Prepared, path: &Path) -> Result<(), NetworkError> {
        let (ns, target) = (prepared.ns.clone(), path.to_owned());
        self.state().pins.insert(path.to_owned());
        // Pinning is two system calls on tmpfs, not worth the way to another thread.
        if let Err(error) = husk_sys::netns::pin(ns.as_fd(), &target) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                self.state().pins.remove(path);
            }
            return Err(NetworkError::netns("pin a", path)(error));
        }
        self.state().prepared.insert(path.to_owned(), prepared);
        Ok(())
    }

    /// Sets `lo` up in a namespace that was made elsewhere and pins it at `path`: the network namespace of a pod with a user
    /// namespace must be made in that.
    ///
    /// # Errors
    /// As [`Network::create_netns`].
    pub async fn adopt_netns(&self, ns: OwnedFd, path: &Path) -> Result<(), NetworkError> {
        let inside = self.netlink.connect_in(ns.as_fd()).map_err(NetworkError::netns("enter", path))?;
        let handle = inside.clone();
        // In a fresh namespace `lo` is the link with index 1 (LOOPBACK_IFINDEX).
        self.netlink
            .run(async move { netlink::set_up(&handle, 1).await })
            .await?
            .map_err(NetworkError::netlink("set up", "lo"))?;
        self.pin(Prepared { ns: Arc::new(ns), inside, hardened: false }, path)
    }

    /// Takes the pin at `path` away; what is gone is fine. The namespace ends when its last process does.
    ///
    /// # Errors
    /// [`NetworkError::Netns`].
    pub async fn remove_netns(&self, path: &Path) -> Result<(), NetworkError> {
        let prepared = self.state().prepared.remove(path);
        drop(prepared);
        husk_sys::netns::unpin(path).map_err(NetworkError::netns("unpin", path))?;
        self.state().pins.remove(path);
        Ok(())
    }

    /// Gives a pod its network, by CNI if that is configured, else by the embedded bridge. A failure leaves nothing
    /// behind (or, when undoing fails too, a record that [`Network::gc`] works off). Goes on when the caller goes away;
    /// a teardown of the same pod waits for it.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn setup(self: &Arc<Self>, request: &PodNetworkRequest) -> Result<PodNetwork, NetworkError> {
        let (this, request) = (self.clone(), request.clone());
        // Taken before the task starts: a teardown that is called after this was cancelled must find it locked.
        let alone = self.pod_locks.of(&request.id).lock_owned();
        let alone = waiting(LOCK, alone).await;
        let work = async move {
            let id = request.id.clone();
            let result = this.setup_alone(request).await;
            if result.is_err() {
                this.pod_locks.forget(&id);
            }
            drop(alone);
            result
        };
        self.netlink.run(inherited(work)).await?
    }

    /// Undoes the network of a pod, by those who made it and with the configuration of that time. Idempotent; an
    /// unknown pod is fine. The namespace stays pinned: see [`Network::remove_netns`], which comes after this.
    ///
    /// # Errors
    /// The step that failed; a repetition goes on from there.
    pub async fn teardown(self: &Arc<Self>, id: &PodSandboxId) -> Result<(), NetworkError> {
        let (this, id) = (self.clone(), id.clone());
        let alone = waiting(LOCK, self.pod_locks.of(&id).lock_owned()).await;
        let work = async move {
            let result = this.teardown_alone(&id).await;
            // Also after a failure: the pod is to go, so gc may go on where this stopped.
            this.pod_locks.forget(&id);
            drop(alone);
            result
        };
        self.netlink.run(inherited(work)).await?
    }

    /// The network of a pod as it was set up, also by an earlier run of the daemon.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn lookup(&self, id: &PodSandboxId) -> Result<Option<PodNetwork>, NetworkError> {
        Ok(self.records.read(id)?.and_then(|record| record.network))
    }

    /// Frees everything of pods that are neither in `valid` nor set up by this process: records, addresses, host
    /// ports, veths and pins. Never fails as a whole; what could not be freed is in the report.
    pub async fn gc(self: &Arc<Self>, valid: &HashSet<PodSandboxId>) -> GcReport {
        // A list does not know what was pinned after it was made.
        let (this, valid) = (self.clone(), valid.clone());
        let free = move |name: &str| !this.state().pins.contains(Path::new(name));
        let mut report = self.examine(Arc::new(move || valid.clone()), Arc::new(free)).await;
        report.pins.retain(|path| !self.state().pins.contains(path));
        report
    }

    /// Looks for everything of pods that `owners` does not name, and frees what `free` agrees to, by the name that the
    /// report has it under. Safe while pods come and go if `owners` names a pod from before its setup until after its
    /// teardown: it is asked after each look at what there is, never before.
    pub async fn examine(self: &Arc<Self>, owners: Owners, free: Free) -> GcReport {
        let this = self.clone();
        match self.netlink.run(async move { this.examine_here(owners, free).await }).await {
            Ok(report) => report,
            Err(error) => GcReport { failures: vec![chain(&error)], ..GcReport::default() },
        }
    }

    async fn examine_here(self: &Arc<Self>, owners: Owners, free: Free) -> GcReport {
        let mut report = GcReport::default();
        let live = || {
            let mut live = owners();
            live.extend(self.pod_locks.all());
            live
        };
        self.gc_records(&live, &free, &mut report).await;

        // Asked under the lock that every reservation is made under.
        let stale = || {
            let live = live();
            // Nobody's: a crash came between making and writing it. Another name than a pod's is not ours to judge.
            move |owner: &str| {
                owner.is_empty() || owner.parse().is_ok_and(|id: PodSandboxId| !live.contains(&id))
            }
        };
        match self.embedded.stale_addresses(stale, &free) {
            Ok(found) => report.addresses = found.into_iter().map(|reservation| reservation.ip).collect(),
            Err(error) => report.failures.push(chain(&error)),
        }
        match self.user.stale_addresses(stale, &free) {
            Ok(found) => report.addresses.extend(found),
            Err(error) => report.failures.push(chain(&error)),
        }
        match self.embedded.stale_links(live, &free).await {
            Ok(found) => report.links = found,
            Err(error) => report.failures.push(chain(&error)),
        }
        match self.user.stale_links(live, &free).await {
            Ok(found) => report.links.extend(found),
            Err(error) => report.failures.push(chain(&error)),
        }
        match self.embedded.stale_elements(&free).await {
            Ok(found) => report.elements = found,
            Err(error) => report.failures.push(chain(&error)),
        }
        self.gc_pins(live, &free, &mut report);
        if let Err(error) = self.cni.gc(&self.records).await {
            report.failures.push(chain(&error));
        }
        report
    }

    /// Deletes the bridges of user networks, the embedded bridge and the nftables table: for a daemon that leaves the node for good (`make run`, an
    /// uninstallation). Pods that are still there lose their network; tear them down first.
    ///
    /// # Errors
    /// What the kernel or nft said.
    pub async fn dismantle(&self) -> Result<(), NetworkError> {
        let (embedded, user) = (self.embedded.clone(), self.user.clone());
        let work = async move {
            user.dismantle().await?;
            embedded.dismantle().await
        };
        self.netlink.run(work).await?
    }

    /// Ends the background work and drops the pool. Pods keep their network.
    pub fn shutdown(&self) {
        self.pool.close();
        self.cni.stop();
        self.state().prepared.clear();
    }

    async fn setup_alone(self: &Arc<Self>, request: PodNetworkRequest) -> Result<PodNetwork, NetworkError> {
        // An earlier attempt for this pod died half-way.
        self.teardown_record(&request.id).await?;
        let prepared = self.state().prepared.remove(&request.netns);
        match &request.networking {
            PodNetworking::Default => {}
            // Its loopback is up already.
            PodNetworking::Isolated => return Ok(PodNetwork::loopback()),
            PodNetworking::Named(wanted) => {
                let wanted = wanted.clone();
                let prepared = self.prepared(prepared, &request.netns)?;
                return self.user.setup(request, wanted, prepared).await;
            }
        }
        match self.cni.choice() {
            cni::Choice::Embedded => {
                let prepared = self.prepared(prepared, &request.netns)?;
                self.embedded.setup(request, prepared).await
            }
            cni::Choice::Cni(list) => {
                // Plugins open the pin themselves.
                drop(prepared);
                self.cni.setup(&self.records, list, request).await
            }
            cni::Choice::Broken(message) => Err(NetworkError::CniConfig(message)),
        }
    }

    async fn teardown_alone(self: &Arc<Self>, id: &PodSandboxId) -> Result<(), NetworkError> {
        if self.teardown_record(id).await? {
            return Ok(());
        }
        // No record: a crash may have come between reservation and record.
        self.embedded.free_addresses(|owner| owner == id.as_str())?;
        self.user.free_addresses_of(id)
    }

    /// Whether there was a record.
    async fn teardown_record(self: &Arc<Self>, id: &PodSandboxId) -> Result<bool, NetworkError> {
        match self.records.read(id) {
            Ok(None) => Ok(false),
            Ok(Some(Record { attachment: Attachment::Bridge(attachment), .. })) => {
                self.embedded.teardown(id, &attachment).await?;
                Ok(true)
            }
            Ok(Some(Record { attachment: Attachment::Cni(attachment), request, .. })) => {
                self.cni.teardown(&self.records, &attachment, &request).await?;
                Ok(true)
            }
            Ok(Some(Record { attachment: Attachment::User(attachment), .. })) => {
                self.user.teardown(id, &attachment).await?;
                Ok(true)
            }
            // Damaged by a crash of the node. The address is found by its owner's id; that is all that can be done.
            Err(NetworkError::Record { path, source }) => {
                tracing::warn!(path = %path.display(), error = %source, "drop a damaged network record");
                self.records.remove(id)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn prepared(&self, prepared: Option<Prepared>, path: &Path) -> Result<Prepared, NetworkError> {
        prepared.map_or_else(|| self.open_netns(path), Ok)
    }

    /// A namespace this process did not make, or whose socket it gave up.
    fn open_netns(&self, path: &Path) -> Result<Prepared, NetworkError> {
        let ns = husk_sys::netns::open(path).map_err(NetworkError::netns("open", path))?;
        let inside = self.netlink.connect_in(ns.as_fd()).map_err(NetworkError::netns("enter", path))?;
        Ok(Prepared { ns: Arc::new(ns), inside, hardened: false })
    }

    async fn gc_records(
        self: &Arc<Self>,
        live: impl Fn() -> HashSet<PodSandboxId>,
        free: &Free,
        report: &mut GcReport,
    ) {
        let records = match self.records.all() {
            Ok(records) => records,
            Err(error) => return report.failures.push(chain(&error)),
        };
        let live = live();
        for (id, _) in records.into_iter().filter(|(id, _)| !live.contains(id)) {
            if free(id.as_str())
                && let Err(error) = self.teardown(&id).await
            {
                report.failures.push(format!("pod {id}: {}", chain(&error)));
            } else {
                report.pods.push(id);
            }
        }
    }

    fn gc_pins(&self, live: impl Fn() -> HashSet<PodSandboxId>, free: &Free, report: &mut GcReport) {
        let dir = self.config.netns_dir();
        let entries: Vec<PathBuf> = match fs::read_dir(&dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => {
                return report.failures.push(chain(&NetworkError::file("list", dir)(error)));
            }
        };
        let live = live();
        for path in entries {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if id.is_none_or(|id| live.contains(&id)) {
                continue;
            }
            if free(&path.to_string_lossy()) {
                if let Err(error) = husk_sys::netns::unpin(&path) {
                    report.failures.push(chain(&NetworkError::netns("unpin", path)(error)));
                    continue;
                }
                let mut state = self.state();
                state.pins.remove(&path);
                state.prepared.remove(&path);
            }
            report.pins.push(path);
        }
    }

    /// Keeps the pool in the flavor of the provider, and makes the bridge when the last CNI configuration goes.
    fn follow_cni(self: &Arc<Self>) {
        let mut changes = self.cni.changes();
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some(this) = this.upgrade() else { return };
                let choice = this.cni.choice();
                this.pool.set_flavor(flavor(&choice, &this.embedded));
                if let cni::Choice::Embedded = choice {
                    // Its trouble, if any, is kept for the status.
                    let embedded = this.embedded.clone();
                    let _ = this.netlink.run(async move { embedded.ensure_ready().await }).await;
                }
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Drops former subnets of which no address is reserved any more.
fn forget_unused(bridge: &mut BridgeConfig, ipam: &Ipam) -> Result<(), NetworkError> {
    let reserved = ipam.reservations()?;
    bridge.former.retain(|subnet| reserved.iter().any(|reservation| subnet.contains(&reservation.ip)));
    Ok(())
}

fn flavor(choice: &cni::Choice, embedded: &Embedded) -> Flavor {
    match choice {
        cni::Choice::Embedded => Flavor::Embedded { ipv6: embedded.ipv6() },
        cni::Choice::Cni(_) | cni::Choice::Broken(_) => Flavor::Plain,
    }
}
