//! `DELETE /images/{name}` and `POST /images/prune`.
//!
//! A name takes a name; the last one takes the image, and so does an id. An image that a container was made from stays unless it is
//! forced, and one whose container runs stays anyway (as dockerd's `daemon/images/image_delete.go` decides it). The layers of an image that
//! pods use stay until they are gone, whatever is removed here.

use std::collections::BTreeMap;

use husk_images::{Image, ImageError, Reference, Removed};
use hyper::StatusCode;

use super::{find::find, names::familiar};
use crate::{
    api::image::{ImageDeleted, ImagesPruned},
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    facilities::{Containers, User},
    filters::Filters,
    http::{Answer, Call, json},
    when,
};

pub(super) async fn remove(door: &Parts, call: &Call, name: &str) -> Result<Answer> {
    let image = find(door, name)?;
    let force = call.query.flag("force");
    let users = door.containers.of_image(&image.id);
    let removed = if is_id_of(name, &image) {
        let short = short(&image);
        if let Some(user) = users.iter().find(|user| user.running) {
            return Err(conflict(
                &short,
                "cannot be forced",
                format!("image is being used by running container {}", user.short()),
            ));
        }
        if let Some(user) = users.first().filter(|_| !force) {
            return Err(conflict(
                &short,
                "must be forced",
                format!("image is being used by stopped container {}", user.short()),
            ));
        }
        refuse_pods(door, &image, force)?;
        door.images.remove_image(&image.id, force).await.map_err(|error| match error {
            ImageError::Named { .. } => {
                conflict(&short, "must be forced", "image is referenced in multiple repositories".to_owned())
            }
            error => error.into(),
        })?
    } else {
        let is_last = image.repo_tags.len() + usize::from(image.repo_tags.is_empty()) <= 1;
        if is_last && !force {
            if let Some(user) = users.first() {
                return Err(Failure::conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                    user.short(),
                    short(&image)
                )));
            }
            refuse_pods(door, &image, force)?;
        }
        // Forced, the name goes and the image stays with those who use it.
        let keep = !users.is_empty();
        door.images.untag(name, keep).await?
    };
    json(StatusCode::OK, &told(door, &removed))
}

/// Whether a name was given that is an id or the beginning of one, and no name of the image.
fn is_id_of(name: &str, image: &Image) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let own = image.id.to_string();
    let own = own.strip_prefix("sha256:").unwrap_or(&own);
    let is_name = Reference::parse(name).is_ok_and(|reference| {
        let full = reference.to_string();
        image.repo_tags.contains(&full) || image.repo_digests.contains(&full)
    });
    own.starts_with(hex) && !is_name
}

/// Pods of the CRI have no containers here, and their kubelet decides on its images.
fn refuse_pods(door: &Parts, image: &Image, force: bool) -> Result<()> {
    if force || !door.images.is_used(&image.id) {
        return Ok(());
    }
    Err(conflict(&short(image), "must be forced", "image is being used by a pod".to_owned()))
}

fn conflict(image: &str, how: &str, why: String) -> Failure {
    Failure::conflict(format!("conflict: unable to delete {image} ({how}) - {why}"))
}

fn short(image: &Image) -> String {
    image.id.to_string().trim_start_matches("sha256:").chars().take(12).collect()
}

impl User {
    fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What went, in Docker's spelling; the news of it go out.
fn told(door: &Parts, removed: &Removed) -> Vec<ImageDeleted> {
    let id = removed.id.to_string();
    let publish = |action: &str, name: &str| {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        door.events.publish(Subject::Image, action, id.as_str(), attributes);
    };
    let mut told = Vec::new();
    for name in &removed.untagged {
        let name = familiar(name);
        publish("untag", name);
        told.push(ImageDeleted::Untagged(name.to_owned()));
    }
    if removed.deleted {
        publish("delete", &id);
        told.push(ImageDeleted::Deleted(id.clone()));
    }
    told
}

/// Removes what nobody uses: images without a name, with `dangling=false` all. Pinned ones stay: they are the node's.
pub(super) async fn prune(door: &Parts, call: &Call) -> Result<Answer> {
    let filters = Filters::of(&call.query, &["dangling", "label", "label!", "until"])?;
    let only_dangling = filters.truth("dangling")?.unwrap_or(true);
    let until = match filters.single("until")? {
        None => i64::MAX,
        Some(text) => when::moment(text, husk_node::now())
            .ok_or_else(|| Failure::bad("invalid filter 'until': a time or a duration is expected"))?,
    };
    let (mut deleted, before) = (Vec::new(), door.images.usage().used_bytes);
    for image in door.images.list() {
        let is_kept = only_dangling && !image.repo_tags.is_empty()
            || when::nanos(&image.config.created).unwrap_or(0) >= until
            || !filters.labels_suit(&image.config.labels)
            || door.images.is_pinned(&image)
            || door.images.is_used(&image.id)
            || !door.containers.of_image(&image.id).is_empty();
        if is_kept {
            continue;
        }
        // It may have got a user meanwhile, whose layers stay.
        if let Ok(removed) = door.images.remove_image(&image.id, true).await {
            deleted.extend(told(door, &removed));
        }
    }
    let space_reclaimed = before.saturating_sub(door.images.usage().used_bytes);
    let reclaimed = BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]);
    door.events.publish(Subject::Image, "prune", "", reclaimed);
    let images_deleted = (!deleted.is_empty()).then_some(deleted);
    json(StatusCode::OK, &ImagesPruned { images_deleted, space_reclaimed })
}
