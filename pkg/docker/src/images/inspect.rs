//! `GET /images/{name}/json` and `GET /images/{name}/history`.

use std::collections::BTreeMap;

use husk_images::{Image, ImageConfig, ImageDetails};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{find::find, made_of, names::familiar};
use crate::{
    door::Parts,
    error::Result,
    http::{Answer, Call, Version, json},
    when,
};

/// An image, looked at.
pub(super) async fn inspect(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let image = find(door, name)?;
    let details = door.images.details(&image.id).await?;
    json(StatusCode::OK, &shown(&details, call.version))
}

fn shown(details: &ImageDetails, version: Version) -> Value {
    let image = &details.image;
    let platform = &image.config.platform;
    let names = |names: &[String]| names.iter().map(|name| familiar(name).to_owned()).collect::<Vec<_>>();
    let mut shown = json!({
        "Id": image.id.to_string(),
        "RepoTags": names(&image.repo_tags),
        "RepoDigests": names(&image.repo_digests),
        "Created": if image.config.created.is_empty() { when::NEVER } else { &image.config.created },
        "Config": config(&image.config, &details.config, version),
        "Architecture": platform.architecture,
        "Os": platform.os,
        "Size": image.size,
        "GraphDriver": { "Name": "overlayfs", "Data": null },
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "Metadata": { "LastTagTime": when::text(image.stored_at) },
    });
    if let Some(variant) = &platform.variant {
        shown["Variant"] = variant.as_str().into();
    }
    if let Some(manifest) = &details.manifest {
        shown["Descriptor"] = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest.to_string(),
            "size": manifest.size,
        });
    }
    let parent = image.parent.as_ref().map(ToString::to_string).unwrap_or_default();
    // What is empty is left out since 1.52.
    let is_old = version < Version::v1(52);
    for (key, text) in [
        ("Comment", &details.comment),
        ("Author", &details.author),
        ("Parent", &parent),
        ("DockerVersion", &details.docker_version),
    ] {
        if is_old || !text.is_empty() {
            shown[key] = text.as_str().into();
        }
    }
    if version < Version::v1(44) {
        shown["VirtualSize"] = image.size.into();
    }
    made_of::show(&mut shown, details.note.as_deref(), version);
    shown
}

/// How to run it: what husk understands of it as husk understands it, and what only builders and Docker know as the image has it.
fn config(config: &ImageConfig, raw: &Value, version: Version) -> Value {
    let is_old = version < Version::v1(52);
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value, is_empty: bool| {
        if is_old || !is_empty {
            shown.insert(key.to_owned(), value);
        }
    };
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let set = |keys: &[String]| match keys {
        [] => Value::Null,
        keys => json!(keys.iter().map(|key| (key.as_str(), json!({}))).collect::<BTreeMap<_, _>>()),
    };
    put("User", json!(config.user), config.user.is_empty());
    put("WorkingDir", json!(config.working_dir), config.working_dir.is_empty());
    put("Env", list(&config.env), config.env.is_empty());
    put("Cmd", list(&config.cmd), config.cmd.is_empty());
    put("Entrypoint", list(&config.entrypoint), config.entrypoint.is_empty());
    put("Volumes", set(&config.volumes), config.volumes.is_empty());
    let labels = if config.labels.is_empty() { Value::Null } else { json!(config.labels) };
    put("Labels", labels, config.labels.is_empty());
    let strings = |key: &str| {
        raw.get(key).filter(|value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string)))
    };
    put("OnBuild", strings("OnBuild").cloned().unwrap_or(Value::Null), strings("OnBuild").is_none());
    if !config.exposed_ports.is_empty() {
        shown.insert("ExposedPorts".to_owned(), set(&config.exposed_ports));
    }
    if let Some(signal) = &config.stop_signal {
        shown.insert("StopSignal".to_owned(), json!(signal));
    }
    if let Some(shell) = strings("Shell") {
        shown.insert("Shell".to_owned(), shell.clone());
    }
    if let Some(check) = raw.get("Healthcheck").filter(|check| check.is_object()) {
        shown.insert("Healthcheck".to_owned(), check.clone());
    }
    shown.into()
}

/// How an image came about, newest first.
pub(super) async fn history(door: &Parts, name: &str) -> Result<Answer> {
    let image = find(door, name)?;
    let details = door.images.details(&image.id).await?;
    json(StatusCode::OK, &steps(&image, &details))
}

fn steps(image: &Image, details: &ImageDetails) -> Vec<Value> {
    let steps = details.history.iter().rev().enumerate().map(|(place, step)| {
        let is_top = place == 0;
        let tags: Vec<&str> = image.repo_tags.iter().map(|tag| familiar(tag)).collect();
        json!({
            "Id": if is_top { image.id.to_string() } else { "<missing>".to_owned() },
            "Created": when::nanos(&step.created).unwrap_or(0).div_euclid(1_000_000_000),
            "CreatedBy": step.created_by,
            "Tags": if is_top && !tags.is_empty() { json!(tags) } else { Value::Null },
            "Size": step.size,
            "Comment": step.comment,
        })
    });
    steps.collect()
}
