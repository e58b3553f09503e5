//! The engine: what `pkg/cri` calls. Each method finds the object, lets the module of its name do the work in a task of
//! its own, and waits: a caller that goes away changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use husk_cgroup::{CgroupPath, Hierarchy};
use husk_lsm::{AppArmor, selinux::SeLinux};
use husk_model::{
    ContainerConfig, ContainerId, ContainerMetadata, ContainerState, ContainerStatus, PodConfig, PodMetadata,
    PodSandboxId, PodStatus, Resources,
};
use husk_monitor::{ExecOutput, MonitorConfig};
use husk_network::Network;
use husk_stats::Stats;

use crate::{
    PodsError, Result,
    claims::Claims,
    driver::CgroupDriver,
    events::Events,
    facilities::{Images, Monitors, NoPlugins, Plugins, PodNetworks},
    life, plugins,
    pod::{Container, ContainerName, Pod},
    sources::Sources,
    store::Store,
    trash::Trash,
};

/// How the engine works on this node.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Persistent directory.
    pub root: PathBuf,
    /// Directory that dies with the boot.
    pub state: PathBuf,
    /// How monitors are started.
    pub monitor: MonitorConfig,
    /// Parent of pods whose request names none: a path that starts with `/`, or a slice.
    pub cgroup_parent: String,
    /// Who makes the cgroups of pods.
    pub cgroup_driver: CgroupDriver,
    /// Where CDI specs are; of two that have the same device, the one in the later directory counts.
    pub cdi_dirs: Vec<PathBuf>,
    /// Let processes without capabilities bind every port (`net.ipv4.ip_unprivileged_port_start=0`).
    pub unprivileged_ports: bool,
    /// Let processes without capabilities ping (`net.ipv4.ping_group_range`).
    pub unprivileged_icmp: bool,
}

/// All pods and containers of the node.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) network: Box<dyn PodNetworks>,
    pub(crate) monitors: Box<dyn Monitors>,
    pub(crate) hierarchy: Hierarchy,
    /// Whether pods can have user namespaces; if not, why.
    pub(crate) user_namespaces: std::result::Result<(), String>,
    pub(crate) stats: Stats,
    pub(crate) filters: husk_seccomp::Cache,
    pub(crate) apparmor: AppArmor,
    pub(crate) selinux: SeLinux,
    pub(crate) pod_names: Claims<PodMetadata, PodSandboxId, PodConfig>,
    pub(crate) container_names: Claims<ContainerName, ContainerId, ContainerConfig>,
    pub(crate) trash: Trash,
    pub(crate) sources: Arc<Sources>,
    /// Held by whoever looks for what belongs to nobody.
    pub(crate) examining: tokio::sync::Mutex<()>,
    /// Pods that start-up undoes, which may go on behind it.
    undoing: Mutex<BTreeSet<PodSandboxId>>,
    pub(crate) joined: OnceLock<plugins::Joined>,
    pods: RwLock<BTreeMap<PodSandboxId, Arc<Pod>>>,
    containers: RwLock<BTreeMap<ContainerId, Arc<Container>>>,
    pub(crate) events: Events,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the state, finds the pods of a former daemon again, undoes what it left half done, and starts.
    ///
    /// # Errors
    /// When the directories or the cgroup hierarchy cannot be used. A single pod that cannot be loaded is no error: it is
    /// reported and can be removed.
    pub async fn start(
        config: EngineConfig,
        images: Arc<dyn Images>,
        network: Arc<Network>,
    ) -> Result<Arc<Self>> {
        let monitors = Box::new(config.monitor.clone());
        Self::start_with(config, images, Box::new(network), monitors).await
    }

    /// As [`Engine::start`], on facilities of the caller's.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_with(
        config: EngineConfig,
        images: Arc<dyn Images>,
        network: Box<dyn PodNetworks>,
        monitors: Box<dyn Monitors>,
    ) -> Result<Arc<Self>> {
        let store = Arc::new(Store::open(&config.root, &config.state)?);
        let hierarchy = Hierarchy::detect().map_err(PodsError::Cgroup)?;
        let user_namespaces = monitors.user_namespaces(&config.root).await;
        if let Err(reason) = &user_namespaces {
            tracing::info!(reason, "pods cannot have user namespaces on this node");
        }
        let mountpoint = config.root.display().to_string();
        let engine = Arc::new(Self {
            stats: Stats::new(hierarchy.clone(), mountpoint).map_err(PodsError::Stats)?,
            trash: Trash::start([store.state_trash(), store.root_trash()]),
            sources: Arc::default(),
            config,
            store,
            images,
            network,
            monitors,
            hierarchy,
            user_namespaces,
            filters: husk_seccomp::Cache::default(),
            apparmor: AppArmor::default(),
            selinux: SeLinux::default(),
            pod_names: Claims::new(),
            container_names: Claims::new(),
            joined: OnceLock::new(),
            examining: tokio::sync::Mutex::default(),
            undoing: Mutex::default(),
            pods: RwLock::default(),
            containers: RwLock::default(),
            events: Events::new(),
        });
        crate::recovery::recover(&engine).await?;
        Ok(engine)
    }

    /// Lets plugins take part; they reach the engine by what is returned. To be called once, before anything is asked of it.
    pub fn admit_plugins(self: &Arc<Self>, plugins: Arc<dyn Plugins>) -> Arc<dyn husk_nri::Runtime> {
        let joined = plugins::Joined { plugins, engine: Arc::downgrade(self) };
        // A second call changes nothing.
        let _ = self.joined.set(joined);
        Arc::new(plugins::Back(Arc::downgrade(self)))
    }

    /// The plugins, or none.
    pub(crate) fn plugins(&self) -> &dyn Plugins {
        self.joined.get().map_or(&NoPlugins as &dyn Plugins, |joined| joined.plugins.as_ref())
    }

    /// Whether pods on this node can have user namespaces; if not, why.
    ///
    /// # Errors
    /// The reason.
    pub fn user_namespaces(&self) -> std::result::Result<(), &str> {
        self.user_namespaces.as_ref().copied().map_err(String::as_str)
    }

    /// Directory of what outlives the boot: images and the writable layers of containers.
    pub fn root_dir(&self) -> &Path {
        &self.config.root
    }

    /// Directory of what dies with the boot.
    pub fn state_dir(&self) -> &Path {
        &self.config.state
    }

    /// Makes a sandbox, or joins the attempt that makes the same one. Returns its id.
    ///
    /// # Errors
    /// Of the step that failed; everything done until then is undone.
    pub async fn run_pod_sandbox(self: &Arc<Self>, config: PodConfig) -> Result<PodSandboxId> {
        crate::run::run(self, config).await
    }

    /// Stops all containers, the network and the pause process. Unknown sandboxes are fine.
    ///
    /// # Errors
    /// When a step fails; a repeated call goes on where it stopped.
    pub async fn stop_pod_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(pod) = self.find_pod(id) else { return Ok(()) };
        let engine = Arc::clone(self);
        detached(async move { crate::stop::stop_pod(&engine, &pod).await }).await
    }

    /// Removes a sandbox with its containers, stopping it first if needed. Unknown sandboxes are fine.
    ///
    /// # Errors
    /// As [`Engine::stop_pod_sandbox`].
    pub async fn remove_pod_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(pod) = self.find_pod(id) else { return Ok(()) };
        let engine = Arc::clone(self);
        detached(async move { crate::stop::remove_pod(&engine, &pod).await }).await
    }

    /// Snapshot of a sandbox.
    ///
    /// # Errors
    /// [`PodsError::NoSuchPod`].
    pub fn pod_status(&self, id: &str) -> Result<Arc<PodStatus>> {
        Ok(self.pod(id)?.status.get())
    }

    /// Snapshots of all sandboxes, in the order of their ids.
    pub fn list_pods(&self) -> Vec<Arc<PodStatus>> {
        self.all_pods().iter().map(|pod| pod.status.get()).collect()
    }

    /// Makes a container up to its gate, or joins the attempt that makes the same one. Returns its id.
    ///
    /// # Errors
    /// Of the step that failed; everything done until then is undone.
    pub async fn create_container(
        self: &Arc<Self>,
        pod_id: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let pod = self.pod(pod_id)?;
        crate::create::create(self, &pod, config).await
    }

    /// Lets a created container's command run.
    ///
    /// # Errors
    /// When it is not in state CREATED or its command cannot be executed; then it has ended with `StartError`.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let engine = Arc::clone(self);
        detached(async move { crate::create::start(&engine, &container).await }).await
    }

    /// Stop signal, `grace`, then SIGKILL. Unknown and ended containers are fine.
    ///
    /// # Errors
    /// When the monitor cannot be asked.
    pub async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        let Some(container) = self.find_container(id) else { return Ok(()) };
        let engine = Arc::clone(self);
        detached(async move { crate::stop::stop_container(&engine, &container, grace).await }).await
    }

    /// Removes a container, killing it if it runs. Unknown containers are fine. Its log file stays.
    ///
    /// # Errors
    /// When a step fails; a repeated call goes on.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(container) = self.find_container(id) else { return Ok(()) };
        let engine = Arc::clone(self);
        detached(async move { crate::stop::remove_container(&engine, &container).await }).await
    }

    /// Snapshot of a container.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`].
    pub fn container_status(&self, id: &str) -> Result<Arc<ContainerStatus>> {
        Ok(self.container(id)?.status.get())
    }

    /// Snapshots of all containers, in the order of their ids.
    pub fn list_containers(&self) -> Vec<Arc<ContainerStatus>> {
        self.all_containers().iter().map(|container| container.status.get()).collect()
    }

    /// Runs a command in a running container; without `timeout` it may take as long as it likes.
    ///
    /// # Errors
    /// [`PodsError::ExecTimeout`] when it was killed; the monitor's error when it cannot be executed.
    pub async fn exec_sync(
        &self,
        id: &str,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let container = self.container(id)?;
        container.check_running("exec")?;
        let output = container.pod.monitor()?.exec_sync(&container.id, argv, timeout).await?;
        match timeout {
            Some(limit) if output.timed_out => {
                Err(PodsError::ExecTimeout { id: container.id.clone(), seconds: limit.as_secs() })
            }
            _ => Ok(output),
        }
    }

    /// Opens a running container's log file anew, after somebody renamed it.
    ///
    /// # Errors
    /// When the container does not run or the file cannot be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        container.check_running("reopening its log")?;
        Ok(container.pod.monitor()?.reopen_log(&container.id).await?)
    }

    /// Changes the limits that `change` sets and keeps the others.
    ///
    /// # Errors
    /// When the container has ended or the kernel refuses a limit; then the stored limits stay.
    pub async fn update_resources(self: &Arc<Self>, id: &str, change: Resources) -> Result<()> {
        let container = self.container(id)?;
        let engine = Arc::clone(self);
        detached(async move { crate::update::update(&engine, &container, change).await }).await
    }

    /// Takes in what the pod's containers need together and what the pod costs beyond them; `None` keeps what is known.
    ///
    /// # Errors
    /// [`PodsError::NoSuchPod`], or when it cannot be written down.
    pub async fn update_pod_resources(
        self: &Arc<Self>,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let pod = self.pod(id)?;
        let engine = Arc::clone(self);
        detached(async move { crate::update::update_pod(&engine, &pod, overhead, resources).await }).await
    }

    /// The cgroup hierarchy of the node.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The node's AppArmor.
    pub fn apparmor(&self) -> &AppArmor {
        &self.apparmor
    }

    /// The node's SELinux.
    pub fn selinux(&self) -> &SeLinux {
        &self.selinux
    }

    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        self.find_pod(id).ok_or_else(|| PodsError::NoSuchPod { id: id.to_owned() })
    }

    fn find_pod(&self, id: &str) -> Option<Arc<Pod>> {
        let id: PodSandboxId = id.parse().ok()?;
        self.pods.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.find_container(id).ok_or_else(|| PodsError::NoSuchContainer { id: id.to_owned() })
    }

    fn find_container(&self, id: &str) -> Option<Arc<Container>> {
        let id: ContainerId = id.parse().ok()?;
        self.containers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn all_pods(&self) -> Vec<Arc<Pod>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn all_containers(&self) -> Vec<Arc<Container>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn undoing(&self) -> MutexGuard<'_, BTreeSet<PodSandboxId>> {
        self.undoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_pod(&self, pod: Arc<Pod>) {
        self.pods.write().unwrap_or_else(PoisonError::into_inner).insert(pod.id.clone(), pod);
    }

    pub(crate) fn forget_pod(&self, pod: &Pod) {
        self.stats.forget(pod.id.as_str());
        self.pods.write().unwrap_or_else(PoisonError::into_inner).remove(&pod.id);
        self.pod_names.release(&pod.name());
    }

    pub(crate) fn add_container(&self, container: Arc<Container>) {
        let mut of_pod = container.pod.containers.write().unwrap_or_else(PoisonError::into_inner);
        of_pod.insert(container.id.clone(), Arc::clone(&container));
        drop(of_pod);
        let mut all = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(container.id.clone(), container);
    }

    pub(crate) fn forget_container(&self, container: &Container) {
        self.containers.write().unwrap_or_else(PoisonError::into_inner).remove(&container.id);
        container.pod.containers.write().unwrap_or_else(PoisonError::into_inner).remove(&container.id);
        self.container_names.release(&container.name());
    }

    /// Takes a directory out of sight; it is deleted in the background.
    pub(crate) fn discard(&self, dir: &Path) -> Result<()> {
        self.store.discard(dir)?;
        self.trash.take_out();
        Ok(())
    }
}

/// A recorded cgroup path, checked.
pub(crate) fn cgroup_path(path: &str) -> Result<CgroupPath> {
    CgroupPath::parse(path)
        .map_err(|error| PodsError::CgroupPath { path: path.to_owned(), reason: error.to_string() })
}

/// Runs work to its end even when the caller goes away.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(|_| PodsError::Lost)?
}

/// Shown in errors: `namespace/name`, with the container's name behind it.
pub(crate) fn shown(pod: &PodMetadata, container: Option<&ContainerMetadata>) -> String {
    match container {
        Some(container) => format!("{}/{}/{}#{}", pod.namespace, pod.name, container.name, container.attempt),
        None => format!("{}/{}#{}", pod.namespace, pod.name, pod.attempt),
    }
}

/// Fails unless a container is in state CREATED.
pub(crate) fn check_created(container: &Container) -> Result<()> {
    let status = container.status.get();
    match status.state {
        ContainerState::Created => Ok(()),
        _ => Err(PodsError::ContainerState {
            id: container.id.clone(),
            state: life::name(&status.state),
            operation: "starting it",
            wanted: "created",
        }),
    }
}
