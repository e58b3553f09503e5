//! CreateContainer and StartContainer.
//!
//! ```text
//! claim the name → image → spec and filter → plugins → container.json (incomplete) → writable layer → init at its gate
//!                → container.json (complete) → CREATED
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use husk_cdi::Edits;
use husk_model::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, EnvVar, NamespaceMode, Rootfs, Signal,
};
use husk_monitor::{ContainerRequest, Created, PidNamespace, Stdin};
use husk_nri::Event;
use husk_seccomp::Program;
use husk_spec::{DeviceNode, Labels, SpecInput, container_spec};
use oci_spec::runtime::Spec;
use tracing::warn;

use crate::{
    Engine, Lifecycle, PodsError, Result,
    claims::Claim,
    devices,
    engine::{check_created, now, shown},
    facilities::{ImageFacts, Lease},
    files, plugins,
    pod::{Container, Phase, Pod, Snapshot},
    run::scope,
    seccomp, selinux, signal,
    sources::Claimed,
    stop::discard_container,
    store::ContainerFile,
    user::user_request,
    volumes::{self, ImageVolume, Layers},
    watch,
};

pub(crate) async fn create(
    engine: &Arc<Engine>,
    pod: &Arc<Pod>,
    config: ContainerConfig,
) -> Result<ContainerId> {
    let config = Arc::new(config);
    let id = ContainerId::generate();
    let shown = shown(&pod.name(), Some(&config.metadata));
    let name = (pod.id.clone(), config.metadata.clone());
    let attempt = match engine.container_names.claim("container", &name, &shown, &config, &id)? {
        Claim::Joined(wait) => {
            let id = wait.outcome().await?;
            // A retry means the container that it asked for, not one that has run since.
            return match engine.container(id.as_str()) {
                Ok(container) if container.status.get().state == ContainerState::Created => Ok(id),
                _ => Err(PodsError::NameTaken { what: "container", name: shown, id: id.to_string() }),
            };
        }
        Claim::Mine(attempt) => attempt,
    };
    let wait = attempt.wait();
    let (engine, pod) = (Arc::clone(engine), Arc::clone(pod));
    tokio::spawn(async move {
        let outcome = build(&engine, &pod, &id, &config).await;
        attempt.settle(outcome.map(|()| id));
    });
    wait.outcome().await
}

async fn build(
    engine: &Arc<Engine>,
    pod: &Arc<Pod>,
    id: &ContainerId,
    config: &Arc<ContainerConfig>,
) -> Result<()> {
    let phase = pod.gate.read().await;
    if *phase != Phase::Open || !pod.is_ready() {
        return Err(PodsError::PodNotReady { id: pod.id.clone() });
    }
    let no_image =
        || PodsError::NoSuchImage { field: "config.image.image".to_owned(), reference: config.image.clone() };
    let image = engine.images.find(&config.image).ok_or_else(no_image)?;
    let layers = Layers::lease(engine.images.as_ref(), &image.id, config)?;
    let (facts, sources) = NodeFacts::gather(engine, pod, config).await?;
    let built = async {
        let plan = Plan::new(engine, pod, id, config, &image, &layers, facts)?;
        build_planned(engine, pod, id, plan, layers).await
    };
    match built.await {
        Ok(()) => sources.keep(),
        Err(error) => {
            let take_back = move || {
                drop(sources);
                Ok(())
            };
            if let Err(left) = look("take back the directories made for mount sources", take_back).await {
                warn!(container = %id, error = &left as &dyn std::error::Error, "a failed creation may leave directories");
            }
            return Err(error);
        }
    }
    if let Some(container) = pod.container(id) {
        plugins::tell_of(engine, Event::PostCreateContainer, &container).await;
    }
    Ok(())
}

async fn build_planned(
    engine: &Arc<Engine>,
    pod: &Arc<Pod>,
    id: &ContainerId,
    mut plan: Plan,
    layers: Layers,
) -> Result<()> {
    let turn = engine.plugins().enter().await;
    if engine.plugins().active() {
        Box::pin(plugins::adjust(engine, pod, &mut plan)).await?;
    }
    plan.seal()?;
    match build_recorded(engine, pod, &plan).await {
        Ok(created) => {
            publish(engine, pod, plan.file, created, layers.into_leases());
            drop(turn);
            Ok(())
        }
        Err(error) => {
            plugins::take_back_container(engine, pod, &plan).await;
            if let Err(left) = discard_container(engine, pod, id) {
                warn!(container = %id, error = &left as &dyn std::error::Error, "cannot remove the files of a container that failed to be created");
            }
            Err(error)
        }
    }
}

/// How long looking at the node's files may take. A dead NFS server must not hold a pod's gate for ever.
const LOOK: Duration = Duration::from_secs(20);

/// What is looked up on the node: it may block, so it is done on a thread that can be left behind.
struct NodeFacts {
    devices: Vec<DeviceNode>,
    filter: Option<Arc<Program>>,
    labels: Labels,
    cdi: Edits,
}

impl NodeFacts {
    /// Makes the mount sources that are missing, too, once nothing else is wrong.
    async fn gather(engine: &Engine, pod: &Pod, config: &Arc<ContainerConfig>) -> Result<(Self, Claimed)> {
        let security = &config.security;
        let apparmor = engine.apparmor.profile(&security.apparmor, security.privileged).await;
        let apparmor = apparmor.map_err(PodsError::AppArmor)?;
        let selinux = selinux::of_container(engine, pod, config)?;
        let (selinux_process, selinux_mount) = selinux.map(|labels| (labels.process, labels.mount)).unzip();
        let labels = Labels { apparmor, selinux_process, selinux_mount };
        let (config, cache) = (Arc::clone(config), engine.filters.clone());
        let (cdi_dirs, sources) = (engine.config.cdi_dirs.clone(), Arc::clone(&engine.sources));
        look("look up mount sources and devices", move || {
            let filter = seccomp::filter(&cache, &config.security)?;
            let cdi = devices::cdi(&cdi_dirs, &config.cdi_devices).map_err(PodsError::Cdi)?;
            let devices = devices::collect(&config)?;
            let sources = sources.make(&config)?;
            Ok((Self { devices, filter, labels, cdi }, sources))
        })
        .await
    }
}

/// Does something with the node's files on a thread that is left behind when they do not answer: in a task it would hold up
/// everybody.
pub(crate) async fn look<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(LOOK, tokio::task::spawn_blocking(work)).await {
        Ok(looked) => looked.map_err(|_| PodsError::Lost)?,
        Err(_) => Err(PodsError::Stuck { step, seconds: LOOK.as_secs() }),
    }
}

/// What is known before anything is made.
pub(crate) struct Plan {
    pub(crate) file: ContainerFile,
    pub(crate) request: ContainerRequest,
    pub(crate) spec: Spec,
}

impl Plan {
    fn new(
        engine: &Engine,
        pod: &Pod,
        id: &ContainerId,
        config: &Arc<ContainerConfig>,
        image: &ImageFacts,
        layers: &Layers,
        facts: NodeFacts,
    ) -> Result<Self> {
        let pod_config = Arc::clone(&pod.status.get().config);
        let cgroup_path = format!("{}/{id}", pod.cgroup_path);
        let mut spec = container_spec(&SpecInput {
            container: config,
            pod: &pod_config,
            image: &image.defaults,
            image_name: &config.image,
            files: &files::paths(&engine.store.pod(&pod.id)),
            devices: &facts.devices,
            labels: &facts.labels,
            node_hostname: &files::node_hostname(),
            cgroup_v2: engine.hierarchy.version() == husk_cgroup::Version::V2,
            cgroup_path: &cgroup_path,
        })?;
        facts.cdi.apply(&mut spec, devices::owner(config)).map_err(PodsError::Cdi)?;
        let mut user = user_request(config, &image.user)?;
        user.supplemental_groups.extend(&facts.cdi.additional_gids);
        let layer = engine.store.layer(id);
        let stop_signal = config
            .stop_signal
            .or_else(|| image.stop_signal.as_deref().and_then(signal::parse_signal))
            .unwrap_or(Signal::TERM);
        let log_path = match (pod_config.log_directory.as_str(), config.log_path.as_str()) {
            ("", _) | (_, "") => String::new(),
            (directory, relative) => format!("{}/{relative}", directory.trim_end_matches('/')),
        };
        let request = ContainerRequest {
            id: id.clone(),
            // Put in by `seal`.
            spec_json: Vec::new(),
            raw_env: config
                .envs
                .iter()
                .filter(|variable| std::str::from_utf8(&variable.value).is_err())
                .map(EnvVar::entry)
                .collect(),
            rootfs: Rootfs {
                base: layers.root.base.clone(),
                lowers: layers.root.lowers.clone(),
                upper: layer.join("upper"),
                work: layer.join("work"),
                readonly: config.security.readonly_rootfs,
            },
            image_volumes: layers.volumes.iter().map(ImageVolume::request).collect(),
            relabel: match &facts.labels.selinux_mount {
                Some(_) => selinux::relabelled(&config.mounts, files::paths(&engine.store.pod(&pod.id))),
                None => Vec::new(),
            },
            user,
            seccomp: facts.filter.as_deref().map(seccomp::request),
            cgroup_path: cgroup_path.clone(),
            log_path: (!log_path.is_empty()).then(|| config.log_path.clone()),
            terminal: config.tty,
            stdin: stdin(config),
            stop_signal,
            pid: pid_namespace(engine, pod, config)?,
            network: scope(pod_config.namespaces().network),
            ipc: scope(pod_config.namespaces().ipc),
            oom_score_adj: config.resources.oom_score_adj,
            privileged: config.security.privileged,
        };
        let file = ContainerFile {
            format: engine.store.format(),
            id: id.clone(),
            config: Arc::clone(config),
            image_id: image.id.clone(),
            image_ref: image.reference.clone(),
            image_name: image_name(config, image),
            image_volumes: layers.volumes.iter().map(|volume| volume.image.clone()).collect(),
            created_at: now(),
            log_path,
            resources: config.resources.clone(),
            stop_signal,
            cgroup_path,
            complete: false,
        };
        Ok(Self { file, request, spec })
    }

    /// Puts the spec into the request; nobody changes it any more.
    pub(crate) fn seal(&mut self) -> Result<()> {
        self.request.spec_json = serde_json::to_vec(&self.spec)
            .map_err(|error| PodsError::files("encode the spec of", self.file.id.as_str())(error.into()))?;
        Ok(())
    }
}

/// Makes a directory for logs, which may be on whatever filesystem the kubelet likes.
pub(crate) async fn make_log_directory(dir: PathBuf) -> Result<()> {
    let make = move || fs::create_dir_all(&dir).map_err(PodsError::files("create the log directory", &dir));
    look("create the log directory", make).await
}

/// What people know the image by. The kubelet creates containers by image id and says besides what the pod has
/// (CRI, `ImageSpec.user_specified_image`); a client that names an id only gets to see what that image is called.
fn image_name(config: &ContainerConfig, image: &ImageFacts) -> String {
    let asked = match config.user_specified_image.as_str() {
        "" => config.image.as_str(),
        specified => specified,
    };
    let hex = asked.strip_prefix("sha256:").unwrap_or(asked);
    // A repository may be called like the beginning of an id.
    let repository = || image.names.iter().any(|name| name.ends_with(&format!("/{asked}:latest")));
    if image.id.digest().hex().starts_with(hex) && !repository() {
        return image.names.first().cloned().unwrap_or_else(|| image.id.to_string());
    }
    asked.to_owned()
}

fn stdin(config: &ContainerConfig) -> Stdin {
    match (config.stdin, config.stdin_once) {
        (false, _) => Stdin::Null,
        (true, false) => Stdin::Open,
        (true, true) => Stdin::Once,
    }
}

fn pid_namespace(engine: &Engine, pod: &Pod, config: &ContainerConfig) -> Result<PidNamespace> {
    let namespaces = &config.security.namespaces;
    match namespaces.pid {
        NamespaceMode::Pod => Ok(PidNamespace::Pod),
        NamespaceMode::Container => Ok(PidNamespace::Container),
        NamespaceMode::Node => Ok(PidNamespace::Node),
        NamespaceMode::Target => pid_target(engine, pod, &namespaces.target_id).map(PidNamespace::Target),
    }
}

fn pid_target(engine: &Engine, pod: &Pod, id: &str) -> Result<ContainerId> {
    let target = engine.container(id).map_err(|error| PodsError::PidTarget { reason: error.to_string() })?;
    if target.pod.id != pod.id {
        return Err(PodsError::PidTarget { reason: format!("container {} is of another pod", target.id) });
    }
    target
        .check_running("sharing its PID namespace")
        .map_err(|error| PodsError::PidTarget { reason: error.to_string() })?;
    Ok(target.id.clone())
}

async fn build_recorded(engine: &Engine, pod: &Pod, plan: &Plan) -> Result<Created> {
    let id = &plan.file.id;
    engine.store.create_container(&pod.id, id)?;
    engine.store.write_container(&pod.id, &plan.file)?;
    if engine.plugins().enabled() {
        engine.store.write_spec(&pod.id, id, &plan.request.spec_json)?;
    }
    engine.store.create_layer(id)?;
    let log_dir = Path::new(&plan.file.log_path).parent();
    if let Some(dir) = log_dir.filter(|dir| !dir.as_os_str().is_empty()) {
        make_log_directory(dir.to_owned()).await?;
    }
    let created = pod.monitor()?.create_container(plan.request.clone()).await?;
    let complete = ContainerFile { complete: true, ..plan.file.clone() };
    if let Err(error) = engine.store.write_container(&pod.id, &complete) {
        if let Err(left) = pod.monitor()?.remove_container(id).await {
            warn!(container = %id, error = %left, "cannot take back a container that failed to be recorded");
        }
        return Err(error);
    }
    Ok(created)
}

fn publish(engine: &Engine, pod: &Arc<Pod>, mut file: ContainerFile, created: Created, leases: Vec<Lease>) {
    file.complete = true;
    for limit in &created.degraded {
        warn!(container = %file.id, limit, "the node cannot set a limit");
    }
    let mut status = status(pod, &file, ContainerState::Created);
    status.user = Some(created.user);
    status.pid = Some(created.process.pid);
    let container = Arc::new(Container {
        id: file.id.clone(),
        pod: Arc::clone(pod),
        status: Snapshot::new(status),
        upper: engine.store.layer(&file.id).join("upper"),
        file: std::sync::Mutex::new(Some(file)),
        _leases: leases,
        removal: tokio::sync::Mutex::new(()),
        told_end: Default::default(),
    });
    engine.happen(pod, || {
        engine.add_container(Arc::clone(&container));
        Some(Lifecycle::Created(pod.id.clone(), container.id.clone()))
    });
    watch::learn_early_exit(engine, &container);
}

/// The snapshot of a container from its file.
pub(crate) fn status(pod: &Pod, file: &ContainerFile, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: file.id.clone(),
        pod_id: pod.id.clone(),
        config: Arc::clone(&file.config),
        image_id: file.image_id.clone(),
        image_ref: file.image_ref.clone(),
        image_name: match file.image_name.as_str() {
            "" => file.config.user_specified_image.clone(),
            name => name.to_owned(),
        },
        state,
        created_at: file.created_at,
        log_path: file.log_path.clone(),
        user: None,
        resources: file.resources.clone(),
        stop_signal: file.stop_signal,
        pid: None,
        cgroup_path: file.cgroup_path.clone(),
        image_volumes: volumes::by_path(&file.config, &file.image_volumes),
        info: Default::default(),
    }
}

/// Opens the gate.
pub(crate) async fn start(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    check_created(container)?;
    let turn = plugins::admit_start(engine, container).await?;
    let started_at = container.pod.monitor()?.start_container(&container.id).await?;
    watch::learn_start(engine, container, started_at);
    drop(turn);
    plugins::tell_of(engine, Event::PostStartContainer, container).await;
    Ok(())
}
