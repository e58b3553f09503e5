//! Start-up: finding the pods of a former daemon again.
//!
//! For each directory below `<state>/pods`:
//!
//! | found | done |
//! | --- | --- |
//! | record of another boot | everything of it is garbage: discarded, network taken back |
//! | incomplete record | the attempt is undone |
//! | complete record, monitor alive | reconnected; its account of containers and exits counts |
//! | complete record, monitor dead | recorded exits count, the rest is killed; the pod is not ready |
//! | complete record, monitor silent | its records count until it answers; nothing is killed |
//! | record that cannot be read | reported as not ready with the reason; it can be removed |
//! | record of a newer huskd | refused: the start ends before anything is touched |
//!
//! The same holds for containers inside a pod, which are reported as UNKNOWN. Then the node is freed of what
//! belongs to nobody (`doctor`). Every pod is known before anybody can ask, but what hangs (a monitor that was
//! stopped, a CNI plugin) holds the start up for [`PATIENCE`] at most and goes on behind it.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use husk_model::{
    ContainerConfig, ContainerId, ContainerMetadata, ContainerState, ContainerStatus, Digest, ImageId,
    PodConfig, PodMetadata, PodSandboxId, PodState, Resources, SecurityContext, Signal, chain,
};
use husk_monitor::Monitor;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::{
    Engine, PodsError, Result, create, doctor,
    pod::{Container, Phase, Pod, Snapshot},
    run, selinux,
    stop::discard_container,
    store::PodFile,
    watch,
};

/// How long a start waits for monitors and for the undoing of what was half done.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to reach a monitor that does not answer.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn recover(engine: &Arc<Engine>) -> Result<()> {
    let ids = directories::<PodSandboxId>(&engine.store.pods())?;
    for id in &ids {
        engine.store.refuse_newer(id)?;
    }
    let mut tasks = JoinSet::new();
    for id in ids {
        let engine = Arc::clone(engine);
        match find(&engine, &id) {
            Found::Garbage(file) => {
                // Until then it is not for the doctor to judge.
                engine.undoing().insert(id.clone());
                tasks.spawn(async move {
                    run::undo(&engine, &file).await;
                    engine.undoing().remove(&id);
                });
            }
            Found::Pod(pod, half_made) => {
                tasks.spawn(async move { reconnect(&engine, &pod, half_made).await });
            }
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        // What is on record is told until they do.
        engine
            .all_pods()
            .iter()
            .filter(|pod| pod.is_silent())
            .for_each(|pod| watch::learn_records(engine, pod));
        warn!(
            left = tasks.len(),
            "some pods of a former daemon do not answer yet; the start does not wait for them"
        );
        tasks.detach_all();
    }
    doctor::examine_at_start(engine).await;
    Ok(())
}

/// What a pod's directory turned out to be.
enum Found {
    /// To be undone.
    Garbage(Box<PodFile>),
    /// To be reconnected to its monitor, with containers whose creation was interrupted.
    Pod(Arc<Pod>, Vec<ContainerId>),
}

/// Names below `dir` that are ids. Whatever else lies there is not ours to touch.
pub(crate) fn directories<Id: std::str::FromStr>(dir: &std::path::Path) -> Result<Vec<Id>> {
    let entries = fs::read_dir(dir).map_err(PodsError::files("read", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn find(engine: &Arc<Engine>, id: &PodSandboxId) -> Found {
    let file = match engine.store.read_pod(id) {
        Ok(file) => file,
        // Killed between making the directory and writing the record: nothing else was made.
        Err(error) if is_missing(&error) => return Found::Garbage(Box::new(unreadable(engine, id))),
        Err(error) => {
            warn!(pod = %id, error = &error as &dyn std::error::Error, "cannot load a pod; it is reported as not ready and can be removed");
            let message = format!("its record cannot be read: {}", chain(&error));
            let (pod, half_made) = add(engine, unreadable(engine, id), message);
            return Found::Pod(pod, half_made);
        }
    };
    if file.boot_id != engine.store.boot_id() || !file.complete {
        info!(pod = %id, complete = file.complete, "removing what a former boot or an interrupted start left");
        return Found::Garbage(Box::new(file));
    }
    let (pod, half_made) = add(engine, file, String::new());
    Found::Pod(pod, half_made)
}

/// Connects to the monitor of a pod, however long that takes: one that is silent may only be slow, and killing its pod is
/// for whoever stops the pod.
async fn reconnect(engine: &Arc<Engine>, pod: &Arc<Pod>, half_made: Vec<ContainerId>) {
    let mut silent = false;
    let monitor = loop {
        match Monitor::connect(&engine.store.pod(&pod.id)).await {
            Ok(monitor) => break Some(monitor),
            Err(error) if error.is_gone() && pod.is_ready() => {
                warn!(pod = %pod.id, %error, "a pod lost its monitor while the daemon was down");
                watch::abandon(engine, pod, &error.to_string()).await;
                break None;
            }
            Err(error) if error.is_gone() => {
                watch::learn_records(engine, pod);
                break None;
            }
            Err(error) if !silent => {
                warn!(pod = %pod.id, %error, "the monitor of a pod does not answer; it is tried again");
                silent = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
        if *pod.gate.read().await == Phase::Removed {
            return;
        }
    };
    for id in half_made {
        undo_container(engine, pod, monitor.as_ref(), &id).await;
    }
    if let Some(monitor) = monitor {
        take_over(engine, pod, monitor).await;
    }
}

async fn take_over(engine: &Arc<Engine>, pod: &Arc<Pod>, monitor: Monitor) {
    // The account of the monitor is taken in before anybody can ask.
    if let Ok(snapshot) = monitor.state().await {
        complete_removals(engine, pod, &snapshot);
        let pid = snapshot.sandbox.as_ref().map(|sandbox| sandbox.process.pid);
        pod.status.update(|status| status.pid = pid);
        watch::learn(engine, pod, snapshot);
    }
    // The only place that sets it, once.
    let _ = pod.monitor.set(monitor);
    watch::follow(engine, pod);
}

/// A container with a complete record that its monitor does not know was being removed when the daemon was killed.
fn complete_removals(engine: &Engine, pod: &Pod, snapshot: &husk_monitor::Snapshot) {
    for container in pod.containers() {
        let known = snapshot.containers.iter().any(|record| record.id == container.id);
        if known || container.status.get().state != ContainerState::Created {
            continue;
        }
        info!(container = %container.id, "completing the interrupted removal of a container");
        match discard_container(engine, pod, &container.id) {
            Ok(()) => engine.forget_container(&container),
            Err(error) => {
                warn!(container = %container.id, %error, "cannot complete the removal of a container")
            }
        }
    }
}

fn is_missing(error: &PodsError) -> bool {
    matches!(error, PodsError::Files { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// Puts a pod and its containers into the registry. Returns also the containers whose creation was interrupted.
fn add(engine: &Arc<Engine>, file: PodFile, message: String) -> (Arc<Pod>, Vec<ContainerId>) {
    let ready = message.is_empty() && !file.stopped;
    let state = if ready { PodState::Ready } else { PodState::NotReady };
    let pod = Arc::new(Pod {
        id: file.id.clone(),
        status: Snapshot::new(run::status(&file, state, None, message)),
        cgroup_path: recorded_cgroup(engine, &file.id).unwrap_or_else(|| engine.recorded_place(&file)),
        gate: tokio::sync::RwLock::new(if file.stopped { Phase::Stopped } else { Phase::Open }),
        monitor: Default::default(),
        containers: Default::default(),
        early_exits: Default::default(),
        selinux_level: selinux::recovered(engine, &file),
        ended_at: Default::default(),
        told_stop: Default::default(),
        file: Mutex::new(file),
    });
    let config = Arc::clone(&pod.status.get().config);
    engine.pod_names.restore(config.metadata.clone(), &config, &pod.id);
    engine.add_pod(Arc::clone(&pod));
    let containers = engine.store.pod(&pod.id).join("containers");
    let ids = directories::<ContainerId>(&containers).unwrap_or_default();
    let half_made = ids.into_iter().filter(|id| !add_container(engine, &pod, id.clone())).collect();
    (pod, half_made)
}

/// The pod's cgroup as its containers' records have it: the pod's own record may be one that cannot be read.
fn recorded_cgroup(engine: &Engine, id: &PodSandboxId) -> Option<String> {
    let records = husk_monitor::read_records(&engine.store.pod(id)).ok()?;
    let (pod, _) = records.containers.first()?.cgroup_path.rsplit_once('/')?;
    Some(pod.to_owned())
}

/// False when its creation was interrupted.
fn add_container(engine: &Arc<Engine>, pod: &Arc<Pod>, id: ContainerId) -> bool {
    let (file, status) = match engine.store.read_container(&pod.id, &id) {
        Ok(file) if !file.complete => return false,
        Err(error) if is_missing(&error) => return false,
        Ok(file) => {
            let status = create::status(pod, &file, ContainerState::Created);
            (Some(file), status)
        }
        Err(error) => {
            warn!(container = %id, %error, "cannot load a container; it is reported as UNKNOWN and can be removed");
            (None, unknown(pod, &id, chain(&error)))
        }
    };
    let images = file.iter().flat_map(|file| std::iter::once(&file.image_id).chain(&file.image_volumes));
    let lease = |image| match engine.images.lease(image) {
        Ok(lease) => Some(lease),
        Err(error) => {
            warn!(container = %id, %image, %error, "an image of a container is not in the store any more");
            None
        }
    };
    let leases = images.filter_map(lease).collect();
    let container = Arc::new(Container {
        upper: engine.store.layer(&id).join("upper"),
        pod: Arc::clone(pod),
        status: Snapshot::new(status),
        file: Mutex::new(file),
        _leases: leases,
        removal: tokio::sync::Mutex::new(()),
        told_end: Default::default(),
        id,
    });
    let config = Arc::clone(&container.status.get().config);
    engine.container_names.restore(container.name(), &config, &container.id);
    engine.add_container(container);
    true
}

/// The attempt to create it was interrupted: the monitor is told to forget it, its files go.
async fn undo_container(engine: &Engine, pod: &Pod, monitor: Option<&Monitor>, id: &ContainerId) {
    info!(container = %id, "undoing the interrupted creation of a container");
    if let Some(monitor) = monitor
        && let Err(error) = monitor.remove_container(id).await
    {
        warn!(container = %id, %error, "cannot take back a half-created container");
    }
    if let Err(error) = discard_container(engine, pod, id) {
        warn!(container = %id, %error, "cannot remove the files of a half-created container");
    }
}

/// Stands in for a pod file that cannot be read: enough to report and remove the pod.
pub(crate) fn unreadable(engine: &Engine, id: &PodSandboxId) -> PodFile {
    let config = PodConfig {
        metadata: PodMetadata {
            name: "unreadable".to_owned(),
            uid: id.to_string(),
            namespace: "husk-unreadable".to_owned(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: String::new(),
        dns: None,
        host_ports: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: String::new(),
        sysctls: BTreeMap::new(),
        security: SecurityContext::default(),
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
    };
    // Clients refuse a creation time of 0.
    let mut file = engine.store.new_pod(id, &Arc::new(config), 1);
    file.complete = true;
    file.cgroup_path = engine.place(id, &file.config).map(|place| place.cgroup).unwrap_or_default();
    file
}

fn unknown(pod: &Pod, id: &ContainerId, reason: String) -> ContainerStatus {
    let config = ContainerConfig {
        metadata: ContainerMetadata { name: format!("unreadable-{}", &id.as_str()[..12]), attempt: 0 },
        image: "unknown".to_owned(),
        user_specified_image: "unknown".to_owned(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: String::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: SecurityContext::default(),
        stop_signal: None,
    };
    ContainerStatus {
        id: id.clone(),
        pod_id: pod.id.clone(),
        config: Arc::new(config),
        image_id: ImageId::new(Digest::from_sha256(&[0; 32])),
        image_ref: "unknown".to_owned(),
        image_name: "unknown".to_owned(),
        state: ContainerState::Unknown { reason },
        created_at: 1,
        log_path: String::new(),
        user: None,
        resources: Resources::default(),
        stop_signal: Signal::TERM,
        pid: None,
        cgroup_path: format!("{}/{id}", pod.cgroup_path),
        image_volumes: BTreeMap::new(),
        info: BTreeMap::new(),
    }
}
