//! Cgroups of pods that are gone, with whatever still runs in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use husk_cgroup::Hierarchy;
use husk_model::{PodSandboxId, chain, group_mark};

use super::{
    known::Known,
    search::{Leak, Search},
};
use crate::node::{Cgroups, cgroup_path};

/// A group without a mark is a leftover only if it is empty, and was for longer than anybody takes to fill a new one.
const OLD: Duration = Duration::from_secs(60);

/// A pod's group, and whether it may be killed.
type Groups = BTreeMap<String, (PodSandboxId, bool)>;

pub(super) async fn search(cgroups: &Cgroups, known: &Known, search: &mut Search) {
    let (hierarchy, pods) = (cgroups.hierarchy().clone(), known.records.pods());
    // With the systemd driver an empty scope goes by itself.
    let parent = (!cgroups.has_systemd_driver()).then(|| cgroups.parent().to_owned());
    let who = known.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut groups = parent.map(|parent| abandoned(&hierarchy, &parent)).unwrap_or_default();
        groups.extend(marked(&hierarchy, &pods, || who.pods()));
        groups
    });
    let looked = looked.await.unwrap_or_default();
    let known = known.pods();
    for (group, (_, kill)) in looked.into_iter().filter(|(_, (pod, _))| !known.contains(pod)) {
        let outcome = match search.wants(Leak::Cgroup, &group) {
            true => Some(take_away(cgroups, &group, kill).await),
            false => None,
        };
        search.note(Leak::Cgroup, group, outcome);
    }
}

async fn take_away(cgroups: &Cgroups, group: &str, kill: bool) -> Result<(), String> {
    if kill {
        cgroups.kill(group).await.map_err(|error| chain(&error))?;
        cgroups.end_unit(group);
        return Ok(());
    }
    let path = cgroup_path(group).map_err(|error| chain(&error))?;
    let hierarchy = cgroups.hierarchy().clone();
    let removed = tokio::task::spawn_blocking(move || match hierarchy.open(&path) {
        Ok(group) => group.remove_if_empty(),
        Err(husk_cgroup::Error::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    });
    match removed.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("it is in use again".to_owned()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the removal panicked".to_owned()),
    }
}

/// Groups that monitors of ours made, but for those that are named for pods that are `known`.
fn marked(hierarchy: &Hierarchy, pods: &Path, known: impl FnOnce() -> BTreeSet<PodSandboxId>) -> Groups {
    let Ok(namespace) = fs::read_link("/proc/self/ns/mnt") else { return Groups::new() };
    let namespace = namespace.to_string_lossy();
    let found = hierarchy.marked(named, known).into_iter().filter_map(|group| {
        let id: PodSandboxId = group.mark.rsplit('/').next()?.parse().ok()?;
        let ours = group.mark == group_mark(&namespace, &pods.join(id.as_str()));
        ours.then_some((group.group, (id, true)))
    });
    found.collect()
}

/// Empty groups below our parent that are named as pods' groups are: perhaps an older version's, which left no marks, or
/// another husk's. Whose ever it was, an empty group that stays is nobody's.
fn abandoned(hierarchy: &Hierarchy, parent: &str) -> Groups {
    let mut groups = Groups::new();
    for point in hierarchy.mount_points() {
        let dir = point.join(parent.trim_start_matches('/'));
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(id) = named(name) else { continue };
            if is_old(&entry.path()) {
                groups.insert(format!("{}/{name}", parent.trim_end_matches('/')), (id, false));
            }
        }
    }
    groups.retain(|group, _| {
        let opened = cgroup_path(group).ok().and_then(|path| hierarchy.open(&path).ok());
        opened.is_some_and(|group| group.is_populated().is_ok_and(|populated| !populated))
    });
    groups
}

/// The pod that a group is named for: `husk-<id>`, with systemd `husk-<id>.scope`.
fn named(group: &str) -> Option<PodSandboxId> {
    let id = group.strip_prefix("husk-")?;
    id.strip_suffix(".scope").unwrap_or(id).parse().ok()
}

fn is_old(dir: &Path) -> bool {
    let made = fs::symlink_metadata(dir).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > OLD))
}
