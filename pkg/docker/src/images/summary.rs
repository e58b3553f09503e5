//! An image in a list.

use husk_images::Image;

use super::names::familiar;
use crate::{api::image::ImageSummary, when};

/// An image in Docker's spelling; `containers` is how many were made from it.
pub(crate) fn summary(image: &Image, containers: i64, shared_size: i64) -> ImageSummary {
    let config = &image.config;
    let names = |names: &[String]| names.iter().map(|name| familiar(name).to_owned()).collect();
    ImageSummary {
        containers,
        created: when::nanos(&config.created).unwrap_or(0).div_euclid(1_000_000_000),
        id: image.id.to_string(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: names(&image.repo_digests),
        repo_tags: names(&image.repo_tags),
        shared_size,
        size: image.size.try_into().unwrap_or(i64::MAX),
    }
}
