//! `POST /build/prune`, and what the build cache takes.

use std::{sync::Arc, time::Duration};

use husk_build::{CacheRecord, PruneWish};
use husk_model::UnixNanos;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    door::Parts,
    error::{Failure, Result},
    filters::Filters,
    http::{Answer, Call, json},
    when::{duration, text},
};

/// What prune is narrowed down by.
const KEYS: [&str; 9] =
    ["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"];

/// All of the cache; nothing, and no builder started, where there was never a build.
pub(crate) async fn usage(door: &Parts) -> Result<Vec<CacheRecord>> {
    if door.builder.is_used() { Ok(door.builder.cache().await?) } else { Ok(Vec::new()) }
}

/// A piece of the cache, in Docker's spelling.
pub(crate) fn shown(record: &CacheRecord) -> Value {
    let nanos = |(seconds, nanos): (i64, i32)| -> UnixNanos {
        seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))
    };
    let time = |time: Option<(i64, i32)>| time.map(|time| text(nanos(time)));
    json!({
        "ID": record.id,
        "Parents": record.parents,
        "Type": record.kind,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size,
        "CreatedAt": time(record.created).unwrap_or_default(),
        "LastUsedAt": time(record.last_used),
        "UsageCount": record.usage_count,
    })
}

pub(super) async fn prune(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    let wish = wish(call)?;
    let gone = if door.builder.is_used() { door.builder.prune(wish).await? } else { Vec::new() };
    let reclaimed: u64 = gone.iter().map(|record| record.size).sum();
    let ids: Vec<&str> = gone.iter().map(|record| record.id.as_str()).collect();
    json(StatusCode::OK, &json!({ "CachesDeleted": ids, "SpaceReclaimed": reclaimed }))
}

fn wish(call: &Call) -> Result<PruneWish> {
    let query = &call.query;
    let bytes = |key: &str| Ok::<_, Failure>(query.number::<u64>(key)?.unwrap_or(0));
    let mut wish = PruneWish {
        all: query.flag("all"),
        // Until 1.47 the first was called so.
        reserved: bytes("reserved-space")?.max(bytes("keep-storage")?),
        most: bytes("max-used-space")?,
        free: bytes("min-free-space")?,
        ..PruneWish::default()
    };
    let filters = Filters::of(query, &KEYS)?;
    for key in KEYS {
        for value in filters.values(key) {
            match key {
                "until" | "unused-for" => wish.unused_for = unused_for(value)?,
                "inuse" | "shared" | "private" => wish.filters.push(key.to_owned()),
                _ => wish.filters.push(format!("{key}=={value}")),
            }
        }
    }
    Ok(wish)
}

/// A duration as Go writes it: `24h`, `1h30m`, `90s`.
fn unused_for(value: &str) -> Result<Duration> {
    let shown: String = value.chars().take(80).collect();
    duration(value).ok_or_else(|| Failure::bad(format!("until: {shown:?} is no duration such as 24h")))
}
