//! Requests below `/volumes`.

use std::{collections::BTreeMap, sync::Arc};

use hyper::{Method, StatusCode};

use super::{record::Volume, store::Wanted};
use crate::{
    api::volume::{self, VolumeCreate, VolumeList, VolumeUsage, VolumesPruned},
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    facilities::Containers,
    filters::Filters,
    http::{Answer, Call, Version, empty, json},
    threads,
};

/// Answers a request; `path` has its decoded segments, the first being `volumes`.
pub(crate) async fn route(door: &Arc<Parts>, call: Call, path: &[&str]) -> Result<Answer> {
    match (&call.method, &path[1..]) {
        (&Method::GET, []) => list(door, &call),
        (&Method::POST, ["create"]) => create(door, call).await,
        (&Method::POST, ["prune"]) => prune(door, &call).await,
        (&Method::GET, [name]) => json(StatusCode::OK, &shown(&*door.volumes.get(name)?, None)),
        (&Method::DELETE, [name]) => remove(door, &call, name),
        _ => Err(Failure::no_page()),
    }
}

/// A volume in Docker's spelling.
pub(crate) fn shown(volume: &Volume, usage: Option<VolumeUsage>) -> volume::Volume {
    let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    volume::Volume {
        created_at: crate::when::text(volume.created),
        driver: "local",
        labels: some(&volume.labels),
        mountpoint: volume.data().display().to_string(),
        name: volume.name.clone(),
        options: some(&volume.options),
        scope: "local",
        usage_data: usage,
    }
}

fn list(door: &Parts, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.truth("dangling")?;
    let mut volumes = Vec::new();
    for volume in door.volumes.list() {
        let is_wanted = filters.suits("name", &volume.name)
            && filters.is("driver", "local")
            && filters.labels_suit(&volume.labels)
            && dangling.is_none_or(|wanted| door.containers.of_volume(&volume.name).is_empty() == wanted);
        if is_wanted {
            volumes.push(shown(&volume, None));
        }
    }
    json(StatusCode::OK, &VolumeList { volumes, warnings: Vec::new() })
}

async fn create(door: &Parts, mut call: Call) -> Result<Answer> {
    let VolumeCreate { name, driver, driver_opts, labels } = call.json_if_any().await?.unwrap_or_default();
    let wanted = Wanted { name, made_up: false, driver, options: driver_opts, labels };
    let (held, made) = door.volumes.ensure(wanted)?;
    let volume = held.volume();
    if made {
        publish(door, "create", volume);
    }
    json(StatusCode::CREATED, &shown(volume, None))
}

fn remove(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let removed = door.volumes.remove(name, |name| users(door, name));
    match removed {
        Ok(volume) => publish(door, "destroy", &volume),
        Err(failure) if failure.status() == StatusCode::NOT_FOUND && call.query.flag("force") => {}
        Err(failure) => return Err(failure),
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Removes what no container has: without `all`, only those whose name was made up (API 1.42).
async fn prune(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["label", "label!", "all"])?;
    let all = filters.truth("all")?.unwrap_or(call.version < Version::v1(42));
    let mut pruned = VolumesPruned { volumes_deleted: Vec::new(), space_reclaimed: 0 };
    for volume in door.volumes.list() {
        if !(all || volume.anonymous)
            || !filters.labels_suit(&volume.labels)
            || !door.containers.of_volume(&volume.name).is_empty()
        {
            continue;
        }
        let bytes = size(&volume).await;
        // Somebody may have taken it meanwhile.
        if door.volumes.remove(&volume.name, |name| users(door, name)).is_ok() {
            pruned.space_reclaimed += bytes.unwrap_or(0);
            publish(door, "destroy", &volume);
            pruned.volumes_deleted.push(volume.name.clone());
        }
    }
    let reclaimed = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
    door.events.publish(Subject::Volume, "prune", "", reclaimed);
    json(StatusCode::OK, &pruned)
}

/// Bytes of a volume's own files; `None` when they are somebody else's or cannot be counted.
pub(crate) async fn size(volume: &Arc<Volume>) -> Option<u64> {
    if !volume.is_own() {
        return None;
    }
    let data = volume.data();
    let measured = threads::walk(move |is_wanted| husk_stats::disk_usage(&data, is_wanted)).await.ok()?;
    Some(measured.ok()??.bytes)
}

fn users(door: &Parts, name: &str) -> Vec<String> {
    door.containers.of_volume(name).into_iter().map(|user| user.id).collect()
}

fn publish(door: &Parts, action: &str, volume: &Volume) {
    let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    door.events.publish(Subject::Volume, action, &volume.name, attributes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::required::assert_whole, volumes::Volumes};

    #[test]
    fn a_volume_is_shown_with_every_field_that_clients_count_on() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Arc::new(Volumes::open(dir.path().join("volumes")).unwrap());
        let (held, _) = volumes.ensure(Wanted { name: "data".to_owned(), ..Wanted::default() }).unwrap();
        let shown = serde_json::to_value(shown(held.volume(), None)).unwrap();
        assert_whole("Volume", &shown);
        assert!(shown["Mountpoint"].as_str().unwrap().ends_with("/volumes/data/_data"));
        assert_eq!(shown.get("UsageData"), None);
    }
}
