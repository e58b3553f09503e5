//! Stopping and removing containers and pods. Every function may be repeated and goes on where it stopped.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use husk_cgroup::CgroupPath;
use husk_model::{ContainerState, Exit, ExitReason};
use tracing::warn;

use crate::{
    Engine, Lifecycle, PodsError, Result,
    engine::now,
    life::Fact,
    pod::{Container, Phase, Pod},
    run::tear_down_network,
};

/// Ends a container; returns when EXITED is visible.
pub(crate) async fn stop_container(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    grace: Duration,
) -> Result<()> {
    if matches!(container.status.get().state, ContainerState::Exited { .. } | ContainerState::Unknown { .. })
    {
        return Ok(());
    }
    match container.pod.monitor() {
        Ok(monitor) => {
            let exit = monitor.stop_container(&container.id, None, grace).await?;
            learn_exit(engine, container, exit);
        }
        Err(_) => {
            kill_cgroup(engine, &container.status.get().cgroup_path)?;
            learn_exit(engine, container, lost_exit());
        }
    }
    Ok(())
}

/// Takes in an exit and tells those who follow.
pub(crate) fn learn_exit(engine: &Engine, container: &Container, exit: Exit) {
    if container.learn(Fact::Exited(exit)) {
        engine.announce(Lifecycle::Stopped(container.pod.id.clone(), container.id.clone()));
    }
}

/// The exit of a container whose monitor died: nobody saw it.
pub(crate) fn lost_exit() -> Exit {
    Exit {
        code: 255,
        finished_at: now(),
        reason: ExitReason::Unknown,
        message: "the pod's monitor died, so the exit of the container was not seen".to_owned(),
    }
}

/// Kills what is left in a cgroup nobody monitors any more, and removes it.
pub(crate) fn kill_cgroup(engine: &Engine, path: &str) -> Result<()> {
    let path = path
        .parse::<CgroupPath>()
        .map_err(|error| PodsError::CgroupPath { path: path.to_owned(), reason: error.to_string() })?;
    if !engine.hierarchy.exists(&path) {
        return Ok(());
    }
    let cgroup = engine.hierarchy.open(&path).map_err(PodsError::Cgroup)?;
    cgroup.kill().map_err(PodsError::Cgroup)?;
    cgroup.remove().map_err(PodsError::Cgroup)
}

/// Removes a container, killing it if it runs.
pub(crate) async fn remove_container(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let _turn = container.removal.lock().await;
    if container.pod.container(&container.id).is_none() {
        return Ok(());
    }
    let unknown = matches!(container.status.get().state, ContainerState::Unknown { .. });
    match container.pod.monitor() {
        Ok(monitor) => monitor.remove_container(&container.id).await?,
        Err(_) => kill_cgroup(engine, &container.status.get().cgroup_path)?,
    }
    if !unknown && !matches!(container.status.get().state, ContainerState::Exited { .. }) {
        // Killed by the removal: those who follow see the end before the deletion.
        learn_exit(
            engine,
            container,
            Exit { code: 137, finished_at: now(), reason: ExitReason::Error, message: String::new() },
        );
    }
    engine.store.discard(&engine.store.container(&container.pod.id, &container.id))?;
    engine.store.discard(&engine.store.layer(&container.id))?;
    engine.stats.forget(&container.id);
    engine.forget_container(container);
    engine.announce(Lifecycle::Deleted(container.pod.id.clone(), container.id.clone()));
    engine.take_out_trash();
    Ok(())
}

/// Stops a pod: containers, network, pause. The containers stay, as EXITED.
pub(crate) async fn stop_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    let mut phase = pod.gate.write().await;
    if *phase != Phase::Open {
        return Ok(());
    }
    stop_open_pod(engine, pod).await?;
    *phase = Phase::Stopped;
    Ok(())
}

async fn stop_open_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    let was_ready = pod.is_ready();
    pod.mark_not_ready();
    // Containers and network do not need each other.
    let containers = async {
        let mut stops = tokio::task::JoinSet::new();
        for container in pod.containers() {
            let engine = Arc::clone(engine);
            stops.spawn(async move { stop_container(&engine, &container, Duration::ZERO).await });
        }
        stops.join_all().await.into_iter().collect::<Result<Vec<()>>>()
    };
    let config = Arc::clone(&pod.status.get().config);
    let (stopped, network) = tokio::join!(containers, tear_down_network(engine, &pod.id, &config));
    stopped?;
    network?;
    match pod.monitor() {
        Ok(monitor) => monitor.stop_sandbox().await?,
        Err(_) => kill_cgroup(engine, &pod.cgroup_path)?,
    }
    let file = {
        let mut file = pod.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.stopped = true;
        file.ips.clear();
        file.clone()
    };
    engine.store.write_pod(&file)?;
    pod.status.update(|status| status.ips.clear());
    if was_ready {
        engine.announce(Lifecycle::PodNotReady(pod.id.clone()));
    }
    Ok(())
}

/// Removes a pod and everything of it.
pub(crate) async fn remove_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    let mut phase = pod.gate.write().await;
    if *phase == Phase::Removed {
        return Ok(());
    }
    if *phase == Phase::Open {
        stop_open_pod(engine, pod).await?;
        *phase = Phase::Stopped;
    }
    for container in pod.containers() {
        remove_container(engine, &container).await?;
    }
    if let Ok(monitor) = pod.monitor()
        && let Err(error) = monitor.shutdown().await
    {
        warn!(pod = %pod.id, %error, "cannot end the monitor of a removed pod");
    }
    engine.store.discard(&engine.store.pod(&pod.id))?;
    *phase = Phase::Removed;
    engine.forget_pod(pod);
    engine.announce(Lifecycle::PodDeleted(pod.id.clone()));
    engine.take_out_trash();
    Ok(())
}
