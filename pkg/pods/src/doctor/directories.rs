//! Directories of pods, containers and writable layers that belong to nobody.

use husk_model::{ContainerId, PodSandboxId, chain};
use husk_monitor::Monitor;

use super::{Leak, Search, known_containers, named_containers, named_pods};
use crate::{
    Engine, PodsError,
    pod::Pod,
    recovery::{directories, unreadable},
    run,
    stop::discard_container,
};

pub(super) async fn search(engine: &Engine, search: &mut Search) {
    containers(engine, search).await;
    pods(engine, search).await;
}

pub(super) fn writable_layers(engine: &Engine, search: &mut Search) {
    let there: Vec<ContainerId> = directories(&engine.store.layers()).unwrap_or_default();
    let known = known_containers(engine);
    for id in there.into_iter().filter(|id| !known.contains(id)) {
        let dir = engine.store.layer(&id);
        let object = dir.display().to_string();
        let outcome = search
            .wants(Leak::WritableLayer, &object)
            .then(|| engine.discard(&dir).map_err(|error| chain(&error)));
        search.note(Leak::WritableLayer, object, outcome);
    }
}

async fn containers(engine: &Engine, search: &mut Search) {
    for pod in engine.all_pods() {
        let dir = engine.store.pod(&pod.id).join("containers");
        let there: Vec<ContainerId> = directories(&dir).unwrap_or_default();
        let named = named_containers(engine);
        for id in there.into_iter().filter(|id| !named.contains(id)) {
            let object = engine.store.container(&pod.id, &id).display().to_string();
            let outcome = match search.wants(Leak::ContainerDirectory, &object) {
                true => Some(forget_container(engine, &pod, &id).await),
                false => None,
            };
            search.note(Leak::ContainerDirectory, object, outcome);
        }
    }
}

/// A container that lives is not for us to end, however it came to be unknown.
async fn forget_container(engine: &Engine, pod: &Pod, id: &ContainerId) -> Result<(), String> {
    if let Ok(monitor) = pod.monitor() {
        let snapshot = monitor.state().await.map_err(|error| chain(&error))?;
        if snapshot.containers.iter().any(|record| record.id == *id && record.exit.is_none()) {
            return Err("its monitor runs it; a restart of huskd takes it in".to_owned());
        }
        monitor.remove_container(id).await.map_err(|error| chain(&error))?;
    }
    discard_container(engine, pod, id).map_err(|error| chain(&error))
}

async fn pods(engine: &Engine, search: &mut Search) {
    let there: Vec<PodSandboxId> = directories(&engine.store.pods()).unwrap_or_default();
    let named = named_pods(engine);
    for id in there.into_iter().filter(|id| !named.contains(id)) {
        let object = engine.store.pod(&id).display().to_string();
        let outcome = match search.wants(Leak::PodDirectory, &object) {
            true => Some(undo_pod(engine, &id).await),
            false => None,
        };
        search.note(Leak::PodDirectory, object, outcome);
    }
}

/// As start-up undoes what was interrupted. A pod that lives, or that cannot be read, is left for start-up to take in.
async fn undo_pod(engine: &Engine, id: &PodSandboxId) -> Result<(), String> {
    let dir = engine.store.pod(id);
    let file = match engine.store.read_pod(id) {
        Ok(file) => {
            let this_boot = file.boot_id == engine.store.boot_id();
            if this_boot && file.complete && Monitor::connect(&dir).await.is_ok() {
                return Err("its monitor runs it; a restart of huskd takes it in".to_owned());
            }
            file
        }
        Err(PodsError::Files { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            unreadable(engine, id)
        }
        Err(error) => return Err(format!("{}; a restart of huskd takes it in", chain(&error))),
    };
    run::undo(engine, &file).await;
    match dir.exists() {
        true => Err("it is still there".to_owned()),
        false => Ok(()),
    }
}
