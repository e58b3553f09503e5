//! What registries are asked: `GET /images/search` and `GET /distribution/{name}/json`.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::auth::auth;
use crate::{
    door::Parts,
    error::{Failure, Result},
    filters::Filters,
    http::{Answer, Call, json},
};

/// Results without a limit of the client's, as dockerd.
const USUAL: u32 = 25;
/// Most results of one search.
const MOST: u32 = 100;

pub(super) async fn search(door: &Parts, call: &Call) -> Result<Answer> {
    let term = call.query.need("term")?;
    let filters = Filters::of(&call.query, &["is-automated", "is-official", "stars"])?;
    let limit = call.query.number::<u32>("limit")?.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Failure::bad(format!("limit {limit} is outside the range of [1, {MOST}]")));
    }
    let (official, automated) = (filters.truth("is-official")?, filters.truth("is-automated")?);
    let stars = match filters.single("stars")? {
        None => 0,
        Some(text) => {
            text.parse::<i64>().map_err(|_| Failure::bad("invalid filter 'stars': a number is expected"))?
        }
    };
    let found = door.images.search(term, limit, auth(call)?).await?;
    let wanted = found.into_iter().filter(|found| {
        official.is_none_or(|wanted| found.is_official == wanted)
            && automated.is_none_or(|wanted| found.is_automated == wanted)
            && found.stars >= stars
    });
    let shown: Vec<Value> = wanted
        .map(|found| {
            json!({
                "name": found.name,
                "description": found.description,
                "star_count": found.stars,
                "is_official": found.is_official,
                "is_automated": found.is_automated,
            })
        })
        .collect();
    json(StatusCode::OK, &shown)
}

/// What a name means at its registry.
pub(super) async fn distribution(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let remote = door.images.inspect_remote(name, auth(call)?).await?;
    let descriptor = remote.descriptor;
    json(
        StatusCode::OK,
        &json!({
            "Descriptor": {
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest.to_string(),
                "size": descriptor.size,
            },
            "Platforms": remote.platforms,
        }),
    )
}
