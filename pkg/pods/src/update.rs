//! UpdateContainerResources and UpdatePodSandboxResources.

use std::sync::{Arc, PoisonError};

use husk_model::Resources;
use husk_nri::{Event, Limits};
use husk_spec::linux_resources;
use tracing::warn;

use crate::{
    Engine, PodsError, Result, life, plugins,
    pod::{Container, Pod},
};

/// The limits after a change: what it sets replaces, what it leaves out stays.
pub(crate) fn merge(old: &Resources, change: &Resources) -> Resources {
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = old.unified.clone();
    unified.extend(change.unified.clone());
    Resources {
        cpu_period: change.cpu_period.or(old.cpu_period),
        cpu_quota: change.cpu_quota.or(old.cpu_quota),
        cpu_shares: change.cpu_shares.or(old.cpu_shares),
        memory_limit: change.memory_limit.or(old.memory_limit),
        memory_swap_limit: change.memory_swap_limit.or(if change.memory_limit.is_some() {
            None
        } else {
            old.memory_swap_limit
        }),
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: text(&change.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &old.cpuset_mems),
        hugepages: if change.hugepages.is_empty() { old.hugepages.clone() } else { change.hugepages.clone() },
        unified,
    }
}

pub(crate) async fn update(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    change: Resources,
) -> Result<()> {
    let turn = engine.plugins().enter().await;
    let limits = plugins::adjust_limits(engine, container, change).await?;
    apply(engine, container, &limits).await?;
    drop(turn);
    plugins::tell_of(engine, Event::PostUpdateContainer, container).await;
    Ok(())
}

/// Changes the limits of a container without asking anybody.
pub(crate) async fn apply(engine: &Arc<Engine>, container: &Arc<Container>, change: &Limits) -> Result<()> {
    let status = container.status.get();
    if !status.state.is_alive() {
        return Err(PodsError::ContainerState {
            id: container.id.clone(),
            state: life::name(&status.state),
            operation: "updating its resources",
            wanted: "created or running",
        });
    }
    let merged = merge(&status.resources, &change.common);
    let mut limits = linux_resources(&merged)?;
    change.overlay_rest(&mut limits);
    if let Some(memory) = limits.memory_mut() {
        // A limit below what is in use is refused, not enforced by killing.
        memory.set_check_before_update(Some(true));
    }
    let json = serde_json::to_vec(&limits)
        .map_err(|error| PodsError::Update { id: container.id.clone(), reason: error.to_string() })?;
    for limit in container.pod.monitor()?.update_resources(Some(&container.id), json).await? {
        warn!(container = %container.id, limit, "the node cannot set a limit");
    }
    container.status.update(|status| status.resources = merged.clone());
    let file = {
        let mut slot = container.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = slot.as_mut() {
            file.resources = merged;
        }
        slot.clone()
    };
    match file {
        Some(mut file) => {
            file.complete = true;
            engine.store.write_container(&container.pod.id, &file)
        }
        None => Ok(()),
    }
}

/// Notes the resources of a pod. No limit is written: the kubelet has set those of the pod's cgroup before it makes this
/// call, husk's own group inside of it has none (a second limit there could only contradict the first), and with one child
/// in the pod's cgroup its weight decides nothing.
pub(crate) async fn update_pod(
    engine: &Engine,
    pod: &Pod,
    overhead: Option<Resources>,
    resources: Option<Resources>,
) -> Result<()> {
    let turn = plugins::admit_pod_limits(engine, pod, overhead.as_ref(), resources.as_ref()).await?;
    let file = {
        let mut file = pod.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = (*file.config).clone();
        config.overhead = overhead.or(config.overhead);
        config.resources = resources.or(config.resources);
        file.config = Arc::new(config);
        file.clone()
    };
    pod.status.update(|status| status.config = Arc::clone(&file.config));
    engine.store.write_pod(&file)?;
    drop(turn);
    plugins::pod_changed(engine, pod).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let old = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(64),
            memory_swap_limit: Some(64),
            ..Default::default()
        };
        let change = Resources { memory_limit: Some(96), ..Default::default() };
        let merged = merge(&old, &change);
        assert_eq!((merged.cpu_shares, merged.memory_limit), (Some(512), Some(96)));
        assert_eq!(
            merged.memory_swap_limit, None,
            "a swap limit below the new memory limit would be refused by the kernel"
        );
    }
}
