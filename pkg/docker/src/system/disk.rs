//! `GET /system/df`: what images, containers and volumes take.

use std::sync::Arc;

use husk_images::Image;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    api::volume::VolumeUsage,
    builds,
    door::Parts,
    error::{Failure, Result},
    facilities::Containers,
    http::{Answer, Call, Version, json},
    images::summary,
    volumes::{shown, size},
};

/// What of it is asked for.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// One kind of object.
struct Part {
    active: usize,
    total: usize,
    bytes: u64,
    reclaimable: u64,
    items: Vec<Value>,
}

impl Part {
    fn shown(&self, verbose: bool) -> Value {
        let mut part = json!({
            "ActiveCount": self.active,
            "TotalCount": self.total,
            "TotalSize": self.bytes,
            "Reclaimable": self.reclaimable,
        });
        if verbose {
            part["Items"] = self.items.clone().into();
        }
        part
    }
}

pub(super) async fn disk(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    let kinds: Vec<&str> = call.query.all("type").collect();
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        let unknown: String = unknown.chars().take(80).collect();
        return Err(Failure::bad(format!("unknown object type: {unknown}")));
    }
    let wants = |kind| kinds.is_empty() || kinds.contains(&kind);
    let verbose = call.query.flag("verbose");
    // 1.52 has both forms, unless it is asked for the new one alone.
    let (new, legacy) = (call.version >= Version::v1(52), call.version <= Version::v1(52) && !verbose);
    let mut body = json!({});
    let mut add = |name: &str, old: &str, part: Part| {
        if new {
            body[name] = part.shown(verbose);
        }
        if legacy {
            body[old] = part.items.into();
        }
    };
    if wants("image") {
        add("ImageUsage", "Images", images(door)?);
    }
    if wants("container") {
        add("ContainerUsage", "Containers", containers(door).await?);
    }
    if wants("volume") {
        add("VolumeUsage", "Volumes", volumes(door).await?);
    }
    if wants("build-cache") {
        add("BuildCacheUsage", "BuildCache", build_cache(door).await?);
    }
    if legacy && wants("image") {
        body["LayersSize"] = door.images.usage().used_bytes.into();
    }
    json(StatusCode::OK, &body)
}

fn images(door: &Parts) -> Result<Part> {
    let list = door.images.list();
    let users = |image: &Image| door.containers.of_image(&image.id).len();
    let mut part = Part {
        active: 0,
        total: list.len(),
        bytes: door.images.usage().used_bytes,
        reclaimable: 0,
        items: Vec::new(),
    };
    for image in &list {
        let users = users(image);
        if users > 0 {
            part.active += 1;
        } else {
            part.reclaimable += image.size;
        }
        part.items.push(value(&summary(image, users as i64, 0))?);
    }
    // Layers that several images have were counted with each.
    part.reclaimable = part.reclaimable.min(part.bytes);
    Ok(part)
}

async fn build_cache(door: &Parts) -> Result<Part> {
    let records = builds::usage(door).await?;
    let mut part = Part { active: 0, total: records.len(), bytes: 0, reclaimable: 0, items: Vec::new() };
    for record in &records {
        part.bytes += record.size;
        match record.in_use {
            true => part.active += 1,
            false => part.reclaimable += record.size,
        }
        part.items.push(builds::shown(record));
    }
    Ok(part)
}

async fn containers(door: &Parts) -> Result<Part> {
    let items = door.containers.disk().await?;
    let counts = door.containers.counts();
    let written = |item: &Value| item["SizeRw"].as_u64().unwrap_or(0);
    let is_active =
        |item: &&Value| matches!(item["State"].as_str(), Some("running" | "paused" | "restarting"));
    let bytes = items.iter().map(written).sum();
    let busy: u64 = items.iter().filter(is_active).map(written).sum();
    let active = (counts.running + counts.paused) as usize;
    Ok(Part { active, total: items.len(), bytes, reclaimable: bytes - busy, items })
}

async fn volumes(door: &Parts) -> Result<Part> {
    let mut part = Part { active: 0, total: 0, bytes: 0, reclaimable: 0, items: Vec::new() };
    for volume in door.volumes.list() {
        let users = door.containers.of_volume(&volume.name).len();
        let bytes = size(&volume).await;
        part.total += 1;
        part.bytes += bytes.unwrap_or(0);
        if users > 0 {
            part.active += 1;
        } else {
            part.reclaimable += bytes.unwrap_or(0);
        }
        let usage = VolumeUsage {
            ref_count: users as i64,
            size: bytes.map_or(-1, |bytes| bytes.try_into().unwrap_or(i64::MAX)),
        };
        part.items.push(value(&shown(&volume, Some(usage)))?);
    }
    Ok(part)
}

fn value(item: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(item).map_err(|error| Failure::internal(format!("encode the answer: {error}")))
}
