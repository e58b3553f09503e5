//! RunPodSandbox: the steps that make a sandbox, and their undoing.
//!
//! ```text
//! claim the name → pod.json (incomplete) → network ∥ monitor ∥ unit → files → pause → plugins → pod.json (complete) → READY
//! with a user namespace:  monitor ∥ unit → pause, waiting → network in its namespace → files → pause goes on → ...
//! ```
//! The network, the monitor and the unit (with the systemd cgroup driver) do not need each other, so they are made at the
//! same time. A failure undoes what was made,
//! in reverse; a kill in between leaves an incomplete pod.json, for which start-up does the same.

use std::{
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use husk_model::{IdMappings, NamespaceMode, PodConfig, PodSandboxId, PodState, PodStatus, Process};
use husk_monitor::{Monitor, MonitorError, PodNetwork, SandboxRequest, Scope, UtsNamespace};
use husk_nri::Turn;
use husk_systemd::Anchor;
use tracing::{debug, warn};

use crate::{
    Engine, Lifecycle, PodsError, Result,
    claims::Claim,
    create,
    driver::Place,
    engine::{now, shown},
    error::chain,
    files, plugins,
    pod::{Phase, Pod, Snapshot},
    selinux,
    stop::kill_cgroup,
    store::PodFile,
    watch,
};

/// Pause goes last when the kernel looks for memory: it is tiny, and its end is the pod's end.
const PAUSE_OOM_SCORE: i32 = -998;

pub(crate) async fn run(engine: &Arc<Engine>, config: PodConfig) -> Result<PodSandboxId> {
    check_supported(engine, &config)?;
    let config = Arc::new(config);
    let id = PodSandboxId::generate();
    let place = engine.place(&id, &config)?;
    let name = shown(&config.metadata, None);
    let attempt = match engine.pod_names.claim("pod sandbox", &config.metadata, &name, &config, &id)? {
        Claim::Joined(wait) => {
            let id = wait.outcome().await?;
            return if engine.pod(id.as_str()).is_ok_and(|pod| pod.is_ready()) {
                Ok(id)
            } else {
                Err(PodsError::NameTaken { what: "pod sandbox", name, id: id.to_string() })
            };
        }
        Claim::Mine(attempt) => attempt,
    };
    let wait = attempt.wait();
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let outcome = build(&engine, &id, &config, &place).await;
        attempt.settle(outcome.map(|()| id));
    });
    wait.outcome().await
}

async fn build(
    engine: &Arc<Engine>,
    id: &PodSandboxId,
    config: &Arc<PodConfig>,
    place: &Place,
) -> Result<()> {
    let mut file = engine.store.new_pod(id, config, now());
    file.cgroup_path.clone_from(&place.cgroup);
    let selinux = selinux::of_pod(engine, config)?;
    file.selinux_level = selinux.level.as_ref().map(|level| level.level().to_owned());
    engine.store.create_pod(id)?;
    match build_recorded(engine, &mut file, place, selinux).await {
        Ok((pod, turn)) => {
            engine.happen(&pod, || {
                engine.add_pod(Arc::clone(&pod));
                Some(Lifecycle::PodReady(id.clone()))
            });
            drop(turn);
            watch::follow(engine, &pod);
            Ok(())
        }
        Err(error) => {
            undo(engine, &file).await;
            Err(error)
        }
    }
}

async fn build_recorded(
    engine: &Arc<Engine>,
    file: &mut PodFile,
    place: &Place,
    selinux: selinux::OfPod,
) -> Result<(Arc<Pod>, Turn)> {
    engine.store.write_pod(file)?;
    if !file.config.log_directory.is_empty() {
        create::make_log_directory(file.config.log_directory.clone().into()).await?;
    }
    let began = Instant::now();
    let request = SandboxRequest { selinux: selinux.labels, ..sandbox_request(engine, file, &place.cgroup) };
    let Made { monitor, process, anchor, ips } = match file.config.namespaces().user {
        None => make(engine, file, place, request).await?,
        Some(_) => make_in_user_namespace(engine, file, place, request).await?,
    };
    if let Some(anchor) = anchor {
        anchor.release().await;
    }
    debug!(pod = %file.id, whole = ?began.elapsed(), "made a sandbox");
    file.ips = ips;
    let ready = status(file, PodState::Ready, Some(process.pid), String::new());
    // Before the pod counts as made: one that is killed over a hook is undone at the next start.
    let turn = plugins::admit_pod(engine, ready.clone(), &place.cgroup).await?;
    file.complete = true;
    if let Err(error) = engine.store.write_pod(file) {
        plugins::take_back_pod(engine, ready, &place.cgroup).await;
        return Err(error);
    }
    let pod = Arc::new(Pod {
        id: file.id.clone(),
        status: Snapshot::new(ready),
        file: std::sync::Mutex::new(file.clone()),
        monitor: monitor.into(),
        gate: tokio::sync::RwLock::new(Phase::Open),
        containers: Default::default(),
        early_exits: Default::default(),
        told_stop: Default::default(),
        cgroup_path: place.cgroup.clone(),
        selinux_level: selinux.level,
        ended_at: Default::default(),
    });
    Ok((pod, turn))
}

/// A sandbox that runs.
struct Made {
    monitor: Monitor,
    process: Process,
    /// Holds the pod's unit until a process of the pod does.
    anchor: Option<Anchor>,
    ips: Vec<IpAddr>,
}

async fn make(engine: &Engine, file: &PodFile, place: &Place, request: SandboxRequest) -> Result<Made> {
    let dir = engine.store.pod(&file.id);
    let ((network, network_took), (monitor, monitor_took), (anchor, unit_took)) = tokio::join!(
        timed(set_up_network(engine, file, None)),
        timed(engine.monitors.spawn(&dir)),
        timed(engine.start_unit(place))
    );
    // All have run to their end, so that the undoing finds all there is.
    let (ips, monitor, anchor) = (network?, monitor?, anchor?);
    files::write(&dir, &file.config, &ips)?;
    let (process, pause_took) = timed(monitor.run_sandbox(request)).await;
    debug!(pod = %file.id, ?network_took, ?monitor_took, ?unit_took, ?pause_took, "steps of a sandbox");
    Ok(Made { process: process?, monitor, anchor, ips })
}

/// The network namespace belongs to the user namespace, so it is there only once pause is.
async fn make_in_user_namespace(
    engine: &Engine,
    file: &PodFile,
    place: &Place,
    request: SandboxRequest,
) -> Result<Made> {
    let dir = engine.store.pod(&file.id);
    let (monitor, anchor) = tokio::join!(engine.monitors.spawn(&dir), engine.start_unit(place));
    let (monitor, anchor) = (monitor?, anchor?);
    let own_network = request.network == PodNetwork::OwnedByUserNamespace;
    let process = monitor.run_sandbox(request).await?;
    let made = own_network.then(|| network_namespace(process)).transpose()?;
    let ips = set_up_network(engine, file, made).await?;
    files::write(&dir, &file.config, &ips)?;
    let process = monitor.release_sandbox().await?;
    Ok(Made { monitor, process, anchor, ips })
}

/// The network namespace of a process that is known by its identity.
fn network_namespace(process: Process) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", process.pid);
    let ns = husk_sys::netns::open(Path::new(&path)).map_err(PodsError::files("open", &path))?;
    // Checked after it was opened: so it is this process's, and not that of another one with its number.
    if husk_monitor::is_alive(process) {
        return Ok(ns);
    }
    let gone = io::Error::new(io::ErrorKind::NotFound, "the pod's process has ended");
    Err(PodsError::files("open", path)(gone))
}

/// The snapshot of a sandbox from its file.
pub(crate) fn status(file: &PodFile, state: PodState, pid: Option<u32>, message: String) -> PodStatus {
    PodStatus {
        id: file.id.clone(),
        config: Arc::clone(&file.config),
        state,
        created_at: file.created_at,
        ips: file.ips.clone(),
        pid,
        message,
        info: Default::default(),
    }
}

/// How long work took, for those who ask why a pod starts slowly.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}

async fn set_up_network(engine: &Engine, file: &PodFile, made: Option<OwnedFd>) -> Result<Vec<IpAddr>> {
    if file.config.namespaces().network == NamespaceMode::Node {
        return Ok(Vec::new());
    }
    let netns = engine.store.netns(&file.id);
    engine.network.set_up(&file.id, &netns, &file.config, made).await.map_err(PodsError::Network)
}

fn sandbox_request(engine: &Engine, file: &PodFile, cgroup_path: &str) -> SandboxRequest {
    let config = &file.config;
    let namespaces = config.namespaces();
    let own_network = namespaces.network != NamespaceMode::Node;
    let mut sysctls = config.sysctls.clone();
    if own_network {
        if engine.config.unprivileged_ports {
            sysctls.entry("net.ipv4.ip_unprivileged_port_start".into()).or_insert_with(|| "0".into());
        }
        if engine.config.unprivileged_icmp {
            // Of a user namespace, only groups that are mapped.
            let last = namespaces.user.map_or(2_147_483_647, |(_, gids)| gids.length - 1);
            sysctls.entry("net.ipv4.ping_group_range".into()).or_insert_with(|| format!("0 {last}"));
        }
    }
    let (network, uts) = match (own_network, namespaces.user) {
        (false, _) => (PodNetwork::Node, UtsNamespace::Node),
        (true, None) => (PodNetwork::Pinned(engine.store.netns(&file.id)), own_uts(config)),
        (true, Some(_)) => (PodNetwork::OwnedByUserNamespace, own_uts(config)),
    };
    SandboxRequest {
        cgroup_path: cgroup_path.to_owned(),
        network,
        uts,
        pid: scope(namespaces.pid),
        ipc: scope(namespaces.ipc),
        user: namespaces.user.map(IdMappings::from),
        sysctls,
        oom_score_adj: PAUSE_OOM_SCORE,
        log_directory: (!config.log_directory.is_empty()).then(|| config.log_directory.clone().into()),
        selinux: None,
    }
}

fn own_uts(config: &PodConfig) -> UtsNamespace {
    UtsNamespace::Own { hostname: (!config.hostname.is_empty()).then(|| config.hostname.clone()) }
}

/// Everything but the node's is the pod's.
pub(crate) fn scope(mode: NamespaceMode) -> Scope {
    match mode {
        NamespaceMode::Node => Scope::Node,
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target => Scope::Pod,
    }
}

/// What this node cannot do. Doing less than was asked for in silence would be worse.
fn check_supported(engine: &Engine, config: &PodConfig) -> Result<()> {
    match &engine.user_namespaces {
        Err(reason) if config.namespaces().user.is_some() => Err(PodsError::Unsupported {
            field: "config.linux.security_context.namespace_options.userns_options",
            what: format!("pods cannot have user namespaces on this node: {reason}"),
        }),
        _ => Ok(()),
    }
}

/// Takes back everything that an attempt may have made. Each step is tried whatever the others do; what fails is logged
/// and found again by the next start.
pub(crate) async fn undo(engine: &Engine, file: &PodFile) {
    let dir = engine.store.pod(&file.id);
    match find_monitor(&dir).await {
        Ok(Some(monitor)) => {
            if let Err(error) = monitor.stop_sandbox().await {
                warn!(pod = %file.id, %error, "cannot stop a pod that failed to start");
            }
            end_monitor(&file.id, &monitor).await;
        }
        Ok(None) => {}
        Err(error) => warn!(pod = %file.id, %error, "cannot reach the monitor of a pod that failed to start"),
    }
    let cgroup = engine.recorded_place(file);
    let steps = [
        ("remove its cgroup", kill_cgroup(engine, cgroup.clone()).await),
        ("take back its network", tear_down_network(engine, &file.id, &file.config).await),
        ("remove its directory", engine.discard(&dir)),
    ];
    for (step, result) in steps {
        if let Err(error) = result {
            warn!(pod = %file.id, error = chain(&error), "undoing a pod that failed to start: cannot {step}");
        }
    }
    engine.end_unit(&cgroup);
}

/// How long a monitor may take from its start to its record.
const MONITOR_START: Duration = Duration::from_secs(5);

/// The monitor of a pod that may have been started a moment ago, by us or by a daemon that was killed: then it has a
/// socket already, and its record is about to come.
async fn find_monitor(dir: &std::path::Path) -> std::result::Result<Option<Monitor>, MonitorError> {
    let deadline = tokio::time::Instant::now() + MONITOR_START;
    loop {
        match Monitor::connect(dir).await {
            Ok(monitor) => return Ok(Some(monitor)),
            Err(error) if !error.is_gone() => return Err(error),
            Err(_) => {}
        }
        let recorded = dir.join("monitor.json").exists();
        let address = dir.join("monitor.sock");
        // Nobody holds the socket any more: it will not come. There is no event for a process that writes a file, so what
        // remains is to look again.
        if recorded || std::os::unix::net::UnixStream::connect(&address).is_err() {
            return Ok(None);
        }
        if tokio::time::Instant::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends a monitor whose sandbox is gone; one that refuses is killed, since nothing would ever end it.
pub(crate) async fn end_monitor(pod: &PodSandboxId, monitor: &Monitor) {
    let error = match monitor.shutdown().await {
        // It may close the connection before its answer is read.
        Ok(()) | Err(MonitorError::Disconnected { .. } | MonitorError::Gone { .. }) => return,
        Err(error) => error,
    };
    warn!(%pod, %error, "a monitor does not end; it is killed");
    kill_monitor(pod, monitor);
}

/// Kills the monitor of a pod as its record names it: one that was never spoken to.
pub(crate) fn kill_recorded_monitor(engine: &Engine, pod: &PodSandboxId) {
    match husk_monitor::recorded_process(&engine.store.pod(pod)) {
        Ok(Some(process)) => kill_process(pod, process),
        Ok(None) => {}
        Err(error) => warn!(%pod, %error, "cannot tell which process monitors the pod"),
    }
}

/// Kills a monitor by its identity.
pub(crate) fn kill_monitor(pod: &PodSandboxId, monitor: &Monitor) {
    kill_process(pod, monitor.process());
}

fn kill_process(pod: &PodSandboxId, process: Process) {
    let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(Ok(pidfd)) =
        pid.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
    else {
        return;
    };
    // Checked after the pidfd was opened, so it is this process that the signal goes to.
    if husk_monitor::is_alive(process)
        && let Err(error) = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL)
    {
        warn!(%pod, %error, "cannot kill a monitor");
    }
}

/// Undoes the network; nothing to do is fine.
pub(crate) async fn tear_down_network(engine: &Engine, id: &PodSandboxId, config: &PodConfig) -> Result<()> {
    if config.namespaces().network == NamespaceMode::Node {
        return Ok(());
    }
    engine.network.tear_down(id, &engine.store.netns(id)).await.map_err(PodsError::NetworkTeardown)
}
