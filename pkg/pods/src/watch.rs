//! Following a pod's monitor: exits become state, a lost monitor becomes a dead pod.

use std::sync::Arc;

use husk_model::{ContainerState, SandboxRecord, UnixNanos};
use husk_monitor::{Event, Events, Monitor, Snapshot};
use husk_node::now;
use tracing::{info, warn};

use crate::{
    Engine, Lifecycle,
    life::Fact,
    pod::{Container, Phase, Pod},
    stop::{kill_cgroup, learn_exit, lost_exit},
};

/// Follows the monitor of a pod until it or the pod ends.
pub(crate) fn follow(engine: &Arc<Engine>, pod: &Arc<Pod>) {
    let Some(monitor) = pod.monitor.get().cloned() else { return };
    // Taken before the state is asked for, so that nothing falls between the two.
    let events = monitor.events();
    tokio::spawn(watch(Arc::clone(engine), Arc::clone(pod), monitor, events));
}

async fn watch(engine: Arc<Engine>, pod: Arc<Pod>, monitor: Monitor, mut events: Events) {
    catch_up(&engine, &pod, &monitor).await;
    while let Some(event) = events.next().await {
        match event {
            Event::ContainerStarted { id, at } => {
                if let Some(container) = pod.container(&id) {
                    learn_start(&engine, &container, at);
                }
            }
            Event::ContainerExited { id, exit } => {
                // Kept first and taken by whoever finds the container: its creation may be just ending.
                pod.keep_early_exit(id.clone(), exit);
                if let Some(container) = pod.container(&id) {
                    learn_early_exit(&engine, &container);
                }
            }
            Event::ContainerOom { id } => {
                info!(pod = %pod.id, container = %id, "the kernel killed a process for memory")
            }
            Event::SandboxExited { exit } => {
                if pod.is_ready() {
                    warn!(pod = %pod.id, code = exit.code, "the pause process ended; the pod is not ready any more");
                    engine.pod_ended(&pod, exit.finished_at);
                }
            }
            Event::Missed => catch_up(&engine, &pod, &monitor).await,
            Event::Disconnected => break,
        }
    }
    lost(&engine, &pod).await;
}

/// Takes in everything the monitor knows.
async fn catch_up(engine: &Engine, pod: &Pod, monitor: &Monitor) {
    match monitor.state().await {
        Ok(snapshot) => learn(engine, pod, snapshot),
        // The connection is gone: its end is the next event.
        Err(error) => info!(pod = %pod.id, %error, "cannot read the state of the pod"),
    }
}

/// Takes in a monitor's account, be it from memory or from its files.
pub(crate) fn learn(engine: &Engine, pod: &Pod, snapshot: Snapshot) {
    for record in snapshot.containers {
        let Some(container) = pod.container(&record.id) else { continue };
        if record.started_at != 0 {
            learn_start(engine, &container, record.started_at);
        }
        match record.exit {
            Some(exit) => learn_exit(engine, &container, exit),
            None => container.status.update(|status| {
                status.pid = Some(record.process.pid);
                status.user = Some(record.user);
            }),
        }
    }
    match snapshot.sandbox {
        Some(SandboxRecord { exit: Some(exit), .. }) => engine.pod_ended(pod, exit.finished_at),
        Some(SandboxRecord { stopped: true, .. }) => engine.pod_ended(pod, now()),
        _ => {}
    }
}

/// Takes in a start and tells those who follow, unless it is heard of after the exit: then it only fills in the time.
pub(crate) fn learn_start(engine: &Engine, container: &Container, at: UnixNanos) {
    engine.happen(&container.pod, || {
        let runs = container.learn(Fact::Started(at))
            && matches!(container.status.get().state, ContainerState::Running { .. });
        runs.then(|| Lifecycle::Started(container.pod.id.clone(), container.id.clone()))
    });
}

/// Takes in the exit of a container that came before the container was known.
pub(crate) fn learn_early_exit(engine: &Engine, container: &Container) {
    if let Some(exit) = container.pod.take_early_exit(&container.id) {
        learn_exit(engine, container, exit);
    }
}

/// The monitor is gone without having been asked to: without it nobody drains the containers' output or sees their exits, so
/// what still runs is killed and the pod is not ready.
async fn lost(engine: &Arc<Engine>, pod: &Arc<Pod>) {
    // A stop or removal in progress ends the monitor itself.
    if *pod.gate.read().await != Phase::Open {
        return;
    }
    warn!(pod = %pod.id, "the pod's monitor died; its containers are killed");
    abandon(engine, pod, "its monitor died, so its containers were killed").await;
}

/// Ends what a dead monitor left: recorded exits count, everything else is killed and has an unknown exit. What is found out
/// here is recorded in the monitor's stead, so that a later start tells the same.
pub(crate) async fn abandon(engine: &Engine, pod: &Pod, reason: &str) {
    pod.explain(reason);
    learn_records(engine, pod);
    if let Err(error) = kill_cgroup(engine, pod.cgroup_path.clone()).await {
        warn!(pod = %pod.id, %error, "cannot kill what the pod left; its removal tries again");
    }
    for container in pod.containers() {
        if container.status.get().state.is_alive() {
            learn_lost_exit(engine, &container);
        }
    }
    let ended = now();
    if let Err(error) = husk_monitor::record_sandbox_exit(&engine.store.pod(&pod.id), &lost_exit(ended)) {
        warn!(pod = %pod.id, %error, "cannot record the end of a pod");
    }
    engine.pod_ended(pod, ended);
}

/// Takes in what the monitor wrote down, for when it cannot be asked.
pub(crate) fn learn_records(engine: &Engine, pod: &Pod) {
    match husk_monitor::read_records(&engine.store.pod(&pod.id)) {
        Ok(snapshot) => learn(engine, pod, snapshot),
        Err(error) => warn!(pod = %pod.id, %error, "cannot read what the monitor recorded"),
    }
}

/// The end of a container that nobody saw: its monitor is dead, and so is what it left. An exit that the monitor wrote down
/// without having told it counts.
pub(crate) fn learn_lost_exit(engine: &Engine, container: &Container) {
    let dir = engine.store.pod(&container.pod.id);
    let exit = match husk_monitor::record_exit(&dir, &container.id, &lost_exit(now())) {
        Ok(recorded) => recorded,
        Err(error) => {
            warn!(container = %container.id, %error, "cannot record the end of a container");
            lost_exit(now())
        }
    };
    learn_exit(engine, container, exit);
}
