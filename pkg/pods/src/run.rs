//! RunPodSandbox: the steps that make a sandbox, and their undoing.
//!
//! ```text
//! claim the name → pod.json (incomplete) → network  ∥  monitor → files → pause → pod.json (complete) → READY
//! ```
//! The network and the monitor do not need each other, so they are made at the same time. A failure undoes what was made,
//! in reverse; a kill in between leaves an incomplete pod.json, for which start-up does the same.

use std::{fs, sync::Arc};

use husk_model::{NamespaceMode, PodConfig, PodSandboxId, PodState, PodStatus};
use husk_monitor::{Monitor, proto};
use husk_network::{Network, PodNetworkRequest};
use tracing::warn;

use crate::{
    Engine, Lifecycle, PodsError, Result,
    claims::Claim,
    engine::{now, shown},
    files,
    pod::{Phase, Pod, Snapshot},
    store::PodFile,
    watch,
};

/// Pause goes last when the kernel looks for memory: it is tiny, and its end is the pod's end.
const PAUSE_OOM_SCORE: i32 = -998;

pub(crate) async fn run(engine: &Arc<Engine>, config: PodConfig) -> Result<PodSandboxId> {
    let config = Arc::new(config);
    let id = PodSandboxId::generate();
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
        let outcome = build(&engine, &id, &config).await;
        attempt.settle(outcome.map(|()| id));
    });
    wait.outcome().await
}

async fn build(engine: &Arc<Engine>, id: &PodSandboxId, config: &Arc<PodConfig>) -> Result<()> {
    let mut file = engine.store.new_pod(id, config, now());
    let dir = engine.store.pod(id);
    fs::create_dir_all(dir.join("containers")).map_err(PodsError::files("create", &dir))?;
    let result = build_recorded(engine, &mut file).await;
    match result {
        Ok(pod) => {
            engine.add_pod(Arc::clone(&pod));
            watch::follow(engine, &pod);
            engine.announce(Lifecycle::PodReady(id.clone()));
            Ok(())
        }
        Err(error) => {
            undo(engine, &file).await;
            Err(error)
        }
    }
}

async fn build_recorded(engine: &Arc<Engine>, file: &mut PodFile) -> Result<Arc<Pod>> {
    engine.store.write_pod(file)?;
    let dir = engine.store.pod(&file.id);
    if !file.config.log_directory.is_empty() {
        fs::create_dir_all(&file.config.log_directory)
            .map_err(PodsError::files("create the log directory", &file.config.log_directory))?;
    }
    let (network, monitor) =
        tokio::join!(set_up_network(engine, file), Monitor::spawn(&engine.config.monitor, &dir));
    // Both have run to their end, so that the undoing finds all there is.
    let (ips, monitor) = (network?, monitor?);
    files::write(&dir, &file.config, &ips)?;
    let cgroup_path = engine.pod_cgroup(&file.id, &file.config);
    let process = monitor.run_sandbox(sandbox_request(engine, file, &cgroup_path)).await?;
    file.ips = ips;
    file.complete = true;
    engine.store.write_pod(file)?;
    Ok(Arc::new(Pod {
        id: file.id.clone(),
        status: Snapshot::new(status(file, PodState::Ready, Some(process.pid), String::new())),
        file: std::sync::Mutex::new(file.clone()),
        monitor: Some(monitor),
        gate: tokio::sync::RwLock::new(Phase::Open),
        containers: Default::default(),
        cgroup_path,
    }))
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

/// The network's request for a pod.
pub(crate) fn network_request(engine: &Engine, id: &PodSandboxId, config: &PodConfig) -> PodNetworkRequest {
    PodNetworkRequest::new(id.clone(), engine.store.netns(id), config)
}

async fn set_up_network(engine: &Engine, file: &PodFile) -> Result<Vec<std::net::IpAddr>> {
    if file.config.namespaces().network == NamespaceMode::Node {
        return Ok(Vec::new());
    }
    let request = network_request(engine, &file.id, &file.config);
    engine.network.create_netns(&request.netns).await.map_err(PodsError::Network)?;
    let network = engine.network.setup(&request).await.map_err(PodsError::Network)?;
    Ok(network.ips)
}

fn sandbox_request(engine: &Engine, file: &PodFile, cgroup_path: &str) -> proto::RunSandbox {
    let config = &file.config;
    let namespaces = config.namespaces();
    let own_network = namespaces.network != NamespaceMode::Node;
    let mut sysctls = config.sysctls.clone();
    if own_network {
        if engine.config.unprivileged_ports {
            sysctls.entry("net.ipv4.ip_unprivileged_port_start".into()).or_insert_with(|| "0".into());
        }
        if engine.config.unprivileged_icmp && namespaces.user.is_none() {
            sysctls.entry("net.ipv4.ping_group_range".into()).or_insert_with(|| "0 2147483647".into());
        }
    }
    proto::RunSandbox {
        hostname: if own_network { config.hostname.clone() } else { String::new() },
        sysctls: sysctls.into_iter().map(|(name, value)| proto::Sysctl { name, value }).collect(),
        netns_path: if own_network {
            engine.store.netns(&file.id).display().to_string()
        } else {
            String::new()
        },
        own_pid: namespaces.pid != NamespaceMode::Node,
        own_ipc: namespaces.ipc != NamespaceMode::Node,
        own_uts: own_network,
        cgroup_path: cgroup_path.to_owned(),
        oom_score_adj: Some(PAUSE_OOM_SCORE),
        log_directory: config.log_directory.clone(),
        ..Default::default()
    }
}

/// Takes back everything that an attempt may have made. Each step is tried whatever the others do; what fails is logged
/// and found again by the next start.
pub(crate) async fn undo(engine: &Engine, file: &PodFile) {
    let dir = engine.store.pod(&file.id);
    match Monitor::connect(&dir).await {
        Ok(monitor) => {
            for (step, result) in
                [("stop", monitor.stop_sandbox().await), ("shut down", monitor.shutdown().await)]
            {
                if let Err(error) = result {
                    warn!(pod = %file.id, %error, "cannot {step} the monitor of a pod that failed to start");
                }
            }
        }
        Err(error) if error.is_gone() => {}
        Err(error) => warn!(pod = %file.id, %error, "cannot reach the monitor of a pod that failed to start"),
    }
    if let Err(error) = tear_down_network(engine, &file.id, &file.config).await {
        warn!(pod = %file.id, error = &error as &dyn std::error::Error, "cannot take back the network of a pod that failed to start");
    }
    if let Err(error) = engine.store.discard(&dir) {
        warn!(pod = %file.id, %error, "cannot remove the directory of a pod that failed to start");
    }
    engine.take_out_trash();
}

/// Undoes the network; nothing to do is fine.
pub(crate) async fn tear_down_network(engine: &Engine, id: &PodSandboxId, config: &PodConfig) -> Result<()> {
    if config.namespaces().network == NamespaceMode::Node {
        return Ok(());
    }
    let network: &Network = &engine.network;
    let request = network_request(engine, id, config);
    network.teardown(&request).await.map_err(PodsError::Network)?;
    network.remove_netns(&request.netns).await.map_err(PodsError::Network)
}
