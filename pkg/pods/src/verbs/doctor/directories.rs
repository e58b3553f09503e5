//! Directories of pods, containers and writable layers that belong to nobody.

use husk_life::PodRecordLife;
use husk_model::{ContainerId, PodSandboxId, chain};
use husk_monitor::Monitor;

use super::{
    known::Known,
    search::{Leak, Search},
};
use crate::{
    error::PodsError,
    records::ids_in,
    registry::Pod,
    verbs::{recover::unreadable, undo::Undo},
};

pub(super) async fn search(undo: &Undo, known: &Known, search: &mut Search) {
    containers(known, search).await;
    pods(undo, known, search).await;
}

pub(super) fn writable_layers(known: &Known, search: &mut Search) {
    let records = &known.records;
    let there: Vec<ContainerId> = ids_in(&records.layers()).unwrap_or_default();
    let known = known.containers();
    for id in there.into_iter().filter(|id| !known.contains(id)) {
        let dir = records.layer(&id);
        let object = dir.display().to_string();
        let outcome = search
            .wants(Leak::WritableLayer, &object)
            .then(|| records.discard(&dir).map_err(|error| chain(&error)));
        search.note(Leak::WritableLayer, object, outcome);
    }
}

async fn containers(known: &Known, search: &mut Search) {
    for pod in known.registry.pods() {
        let dir = known.records.pod(pod.id()).join("containers");
        let there: Vec<ContainerId> = ids_in(&dir).unwrap_or_default();
        let named = known.registry.known_containers();
        for id in there.into_iter().filter(|id| !named.contains(id)) {
            let object = known.records.container(pod.id(), &id).display().to_string();
            let outcome = match search.wants(Leak::ContainerDirectory, &object) {
                true => Some(forget_container(known, &pod, &id).await),
                false => None,
            };
            search.note(Leak::ContainerDirectory, object, outcome);
        }
    }
}

/// A container that lives is not for us to end, however it came to be unknown.
async fn forget_container(known: &Known, pod: &Pod, id: &ContainerId) -> Result<(), String> {
    if let Ok(monitor) = pod.monitor() {
        let snapshot = monitor.state().await.map_err(|error| chain(&error))?;
        if snapshot.containers.iter().any(|record| record.id == *id && record.exit.is_none()) {
            return Err("its monitor runs it; a restart of huskd takes it in".to_owned());
        }
        monitor.remove_container(id).await.map_err(|error| chain(&error))?;
    }
    known.records.discard_container(pod.id(), id).map_err(|error| chain(&error))
}

async fn pods(undo: &Undo, known: &Known, search: &mut Search) {
    let there: Vec<PodSandboxId> = ids_in(&known.records.pods()).unwrap_or_default();
    let named = known.registry.known_pods();
    for id in there.into_iter().filter(|id| !named.contains(id)) {
        let object = known.records.pod(&id).display().to_string();
        let outcome = match search.wants(Leak::PodDirectory, &object) {
            true => Some(undo_pod(undo, &id).await),
            false => None,
        };
        search.note(Leak::PodDirectory, object, outcome);
    }
}

/// As start-up undoes what was interrupted. A pod that lives, or that cannot be read, is left for start-up to take in.
async fn undo_pod(undo: &Undo, id: &PodSandboxId) -> Result<(), String> {
    let dir = undo.records.pod(id);
    let file = match undo.records.read_pod(id) {
        Ok(file) => {
            let this_boot = file.boot_id == undo.records.boot_id();
            if this_boot && file.life() != PodRecordLife::Making && Monitor::connect(&dir).await.is_ok() {
                return Err("its monitor runs it; a restart of huskd takes it in".to_owned());
            }
            file
        }
        Err(PodsError::Files { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            unreadable(undo, id)
        }
        Err(error) => return Err(format!("{}; a restart of huskd takes it in", chain(&error))),
    };
    undo.pod(&file).await;
    match dir.exists() {
        true => Err("it is still there".to_owned()),
        false => Ok(()),
    }
}
