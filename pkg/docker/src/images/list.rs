//! `GET /images/json`.

use hyper::StatusCode;

use super::summary::summary;
use crate::{
    door::Parts,
    error::Result,
    facilities::Containers,
    filters::Filters,
    http::{Answer, Call, json},
};

const KNOWN: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

pub(super) fn list(door: &Parts, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &KNOWN)?;
    let dangling = filters.truth("dangling")?;
    let mut shown = Vec::new();
    for image in door.images.list() {
        let is_wanted = filters.labels_suit(&image.config.labels)
            && dangling.is_none_or(|wanted| image.repo_tags.is_empty() == wanted);
        if is_wanted {
            shown.push(summary(&image, door.containers.of_image(&image.id).len() as i64, -1));
        }
    }
    shown.sort_by_key(|image| std::cmp::Reverse(image.created));
    json(StatusCode::OK, &shown)
}
