//! Stopping and removing containers and pods. Every function may be repeated and goes on where it stopped.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use husk_model::{Classify, ContainerId, Exit, ExitReason, Kind, UnixNanos, chain};
use husk_monitor::MonitorError;
use husk_node::now;
use tracing::warn;

use crate::{
    Engine, Lifecycle, PodsError, Result,
    engine::cgroup_path,
    hang::{turn_of, unless_hung},
    life::Fact,
    plugins,
    pod::{Container, Phase, Pod},
    run::tear_down_network,
    watch::{abandon, learn_lost_exit},
};

/// Ends a container; returns when EXITED is visible.
pub(crate) async fn stop_container(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    grace: Duration,
) -> Result<()> {
    if container.status.get().state.is_alive() {
        end_container(engine, container, grace).await?;
    }
    plugins::tell_end(engine, container).await;
    Ok(())
}

async fn end_container(engine: &Arc<Engine>, container: &Arc<Container>, grace: Duration) -> Result<()> {
    if let Ok(monitor) = container.pod.monitor() {
        match monitor.stop_container(&container.id, None, grace).await {
            Ok(exit) => {
                learn_exit(engine, container, exit);
                return Ok(());
            }
            // A removal was faster.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(MonitorError::Disconnected { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    check_not_silent(&container.pod)?;
    kill_cgroup(engine, container.status.get().cgroup_path.clone()).await?;
    learn_lost_exit(engine, container);
    Ok(())
}

/// Fails when the monitor lives but does not answer: what it holds is ended behind its back with the whole pod only.
fn check_not_silent(pod: &Pod) -> Result<()> {
    if pod.is_silent() { pod.monitor().map(drop) } else { Ok(()) }
}

/// Takes in an exit and tells those who follow.
pub(crate) fn learn_exit(engine: &Engine, container: &Container, exit: Exit) {
    let mut news = false;
    engine.happen(&container.pod, || {
        news = container.learn(Fact::Exited(exit));
        news.then(|| Lifecycle::Stopped(container.pod.id.clone(), container.id.clone()))
    });
    if news {
        plugins::ended(engine, container);
    }
}

/// The exit of a container whose monitor died: nobody saw it.
pub(crate) fn lost_exit(at: UnixNanos) -> Exit {
    Exit {
        code: 255,
        finished_at: at,
        reason: ExitReason::Unknown,
        message: "the pod's monitor died, so the exit of the container was not seen".to_owned(),
    }
}

/// Kills what is left in a cgroup nobody monitors any more, and removes it. One that does not exist is fine.
pub(crate) async fn kill_cgroup(engine: &Engine, path: String) -> Result<()> {
    let path = cgroup_path(&path)?;
    let hierarchy = engine.hierarchy.clone();
    // Waits for the processes to be gone.
    let killed = tokio::task::spawn_blocking(move || {
        let cgroup = match hierarchy.open(&path) {
            Ok(cgroup) => cgroup,
            Err(husk_cgroup::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        cgroup.kill()?;
        cgroup.remove()
    });
    killed.await.map_err(|_| PodsError::Lost)?.map_err(PodsError::Cgroup)
}

/// Removes a container, killing it if it runs.
pub(crate) async fn remove_container(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let _turn = container.removal.lock().await;
    if container.pod.container(&container.id).is_none() {
        return Ok(());
    }
    check_not_silent(&container.pod)?;
    let asked = match container.pod.monitor() {
        Ok(monitor) => monitor.remove_container(&container.id).await,
        Err(_) => Err(MonitorError::Disconnected { call: "remove container" }),
    };
    match asked {
        Ok(()) => {}
        Err(MonitorError::Disconnected { .. }) => {
            kill_cgroup(engine, container.status.get().cgroup_path.clone()).await?;
        }
        Err(error) => return Err(error.into()),
    }
    if container.status.get().state.is_alive() {
        // Killed by the removal: those who follow see the end before the deletion.
        let exit = Exit { code: 137, finished_at: now(), reason: ExitReason::Error, message: String::new() };
        learn_exit(engine, container, exit);
    }
    plugins::tell_end(engine, container).await;
    let facts = plugins::container_facts(engine, container);
    discard_container(engine, &container.pod, &container.id)?;
    engine.stats.forget(container.id.as_str());
    let _turn = plugins::container_goes(engine, &container.pod, &facts).await;
    engine.happen(&container.pod, || {
        engine.forget_container(container);
        Some(Lifecycle::Deleted(container.pod.id.clone(), container.id.clone()))
    });
    Ok(())
}

/// Takes away the files of a container. Its record goes last: by it start-up completes a removal that was interrupted.
pub(crate) fn discard_container(engine: &Engine, pod: &Pod, id: &ContainerId) -> Result<()> {
    engine.discard(&engine.store.layer(id))?;
    engine.discard(&engine.store.container(&pod.id, id))
}

/// Stops a pod: containers, network, pause. The containers stay, as EXITED.
pub(crate) async fn stop_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    let mut phase = turn_of(pod, pod.gate.write()).await;
    if *phase != Phase::Open {
        return Ok(());
    }
    stop_open_pod(engine, pod).await?;
    *phase = Phase::Stopped;
    Ok(())
}

async fn stop_open_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    if pod.is_silent() {
        kill_recorded_monitor(engine, pod);
        abandon(engine, pod, "its monitor did not answer and was killed").await;
    }
    // No container is created from here on; the end is announced when all is over.
    pod.mark_not_ready();
    // Containers and network do not need each other.
    let containers = unless_hung(engine, pod, async {
        let mut stops = tokio::task::JoinSet::new();
        for container in pod.containers() {
            let engine = Arc::clone(engine);
            stops.spawn(async move { stop_container(&engine, &container, Duration::ZERO).await });
        }
        stops.join_all().await.into_iter().collect()
    });
    let config = Arc::clone(&pod.status.get().config);
    let network = tear_down_network(engine, &pod.id, &config);
    let (stopped, network) = if engine.plugins().active() {
        // A plugin may take back something from the pod's network namespace.
        let stopped = containers.await;
        if stopped.is_ok() {
            plugins::pod_stops(engine, pod).await;
        }
        (stopped, network.await)
    } else {
        tokio::join!(containers, network)
    };
    stopped?;
    unless_hung(engine, pod, stop_sandbox(engine, pod)).await?;
    plugins::pod_stops(engine, pod).await;
    engine.end_unit(&pod.cgroup_path);
    network?;
    let file = {
        let mut file = pod.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.stopped = true;
        file.ips.clear();
        file.clone()
    };
    match engine.store.write_pod(&file) {
        // On a full disk pods must go more than ever. A start that finds the old record learns the end from the monitor.
        Err(error) if error.kind() == Kind::ResourceExhausted => {
            warn!(pod = %pod.id, error = &error as &dyn std::error::Error, "the stop of a pod is not recorded");
        }
        written => written?,
    }
    pod.status.update(|status| status.ips.clear());
    engine.pod_ended(pod, now());
    Ok(())
}

async fn stop_sandbox(engine: &Engine, pod: &Pod) -> Result<()> {
    let asked = match pod.monitor() {
        Ok(monitor) => monitor.stop_sandbox().await,
        Err(_) => Err(MonitorError::Disconnected { call: "stop sandbox" }),
    };
    match asked {
        Err(MonitorError::Disconnected { .. }) => kill_cgroup(engine, pod.cgroup_path.clone()).await,
        answered => answered.map_err(PodsError::Monitor),
    }
}

async fn remove_containers(engine: &Arc<Engine>, pod: &Pod) -> Result<()> {
    for container in pod.containers() {
        remove_container(engine, &container).await?;
    }
    Ok(())
}

/// Kills the monitor of a pod as its record names it: one that was never spoken to.
fn kill_recorded_monitor(engine: &Engine, pod: &Pod) {
    if let Err(error) = husk_monitor::kill_recorded(&engine.store.pod(&pod.id)) {
        warn!(pod = %pod.id, error = chain(&error), "cannot kill the monitor of a pod");
    }
}

/// Removes a pod and everything of it.
pub(crate) async fn remove_pod(engine: &Arc<Engine>, pod: &Arc<Pod>) -> Result<()> {
    let mut phase = turn_of(pod, pod.gate.write()).await;
    if *phase == Phase::Removed {
        return Ok(());
    }
    if *phase == Phase::Open {
        stop_open_pod(engine, pod).await?;
        *phase = Phase::Stopped;
    }
    unless_hung(engine, pod, remove_containers(engine, pod)).await?;
    // Those whose removal a hung monitor held up.
    remove_containers(engine, pod).await?;
    match pod.monitor() {
        Ok(monitor) => {
            if let Err(error) = monitor.end().await {
                warn!(pod = %pod.id, error = chain(&error), "the pod's monitor did not end");
            }
        }
        // It may live all the same, silent, and nobody else would ever end it.
        Err(_) => kill_recorded_monitor(engine, pod),
    }
    engine.discard(&engine.store.pod(&pod.id))?;
    *phase = Phase::Removed;
    let _turn = plugins::pod_goes(engine, pod).await;
    engine.happen(pod, || {
        engine.forget_pod(pod);
        Some(Lifecycle::PodDeleted(pod.id.clone()))
    });
    Ok(())
}
