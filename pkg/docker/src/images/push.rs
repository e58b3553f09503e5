//! `POST /images/{name}/push`, with its progress.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use husk_images::{DiffId, PushProgress, PushRequest, PushState, Pushed, Reference, Selector};
use serde_json::json;

use super::{auth::auth, find::find, layers, names::familiar};
use crate::{
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    http::{Answer, Call},
    progress::{Detail, Progress, progress},
};

pub(super) async fn push(door: &Arc<Parts>, call: &Call, name: &str) -> Result<Answer> {
    let tag = call.query.get("tag");
    if let Some(tag) = tag {
        find(door, &format!("{name}:{tag}"))?;
    }
    // Without a tag it is all of the repository's, which may be of several images.
    let tags: Vec<String> = door.images.list().iter().flat_map(|image| image.repo_tags.clone()).collect();
    let names = names(name, tag, &tags)?;
    let auth = auth(call)?;
    let (progress, answer) = progress();
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let closed = progress.clone();
        let work = async {
            for name in names {
                let request = PushRequest { reference: name, auth: auth.clone() };
                if let Err(failure) = one(&door, request, &progress).await {
                    return progress.failed(&failure).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            // As dockerd: a push ends with its client. What was uploaded need not be sent again.
            () = closed.closed() => {}
        }
    });
    Ok(answer)
}

/// The names to push: the one with the tag, or all that the image has in this repository.
fn names(name: &str, tag: Option<&str>, tags: &[String]) -> Result<Vec<String>> {
    if let Some(tag) = tag {
        return Ok(vec![format!("{name}:{tag}")]);
    }
    let reference = Reference::parse(name)?;
    let full = reference.to_string();
    let is_named = matches!(reference.selector(), Selector::Tag(_))
        && name.ends_with(&format!(":{}", reference.selected()));
    if is_named {
        return Ok(vec![full]);
    }
    let of_repository = |tag: &&String| Reference::parse(tag).is_ok_and(|tag| tag.name() == reference.name());
    let names: Vec<String> = tags.iter().filter(of_repository).cloned().collect();
    if names.is_empty() {
        return Err(Failure::not_found(format!("An image does not exist locally with the tag: {name}")));
    }
    Ok(names)
}

async fn one(door: &Parts, request: PushRequest, progress: &Progress) -> Result<()> {
    let reference = Reference::parse(&request.reference)?;
    let tag = reference.selected().to_owned();
    progress.line(format!("The push refers to repository [{}]", reference.name())).await;
    let ends = Arc::new(Ends::default());
    let (news, seen) = (progress.clone(), Arc::clone(&ends));
    let report = move |now: PushProgress| {
        let short = short(&now.layer);
        let detail = Detail { current: now.done, total: now.total };
        match now.state {
            PushState::Preparing => news.news(&short, "Preparing", detail),
            PushState::Pushing => news.news(&short, "Pushing", detail),
            PushState::Exists => seen.note(now.layer, "Layer already exists".to_owned()),
            PushState::Mounted(from) => seen.note(now.layer, format!("Mounted from {from}")),
            PushState::Pushed => seen.note(now.layer, "Pushed".to_owned()),
        }
    };
    let pushed = door.images.push_image(request, report).await;
    // These must not be left out for a slow client, so they are told when there is time to wait for it.
    for (layer, end) in ends.all() {
        progress.of(&short(&layer), &end).await;
    }
    let Pushed { digest, size, .. } = pushed?;
    progress.line(format!("{tag}: digest: {digest} size: {size}")).await;
    progress.aux(json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size })).await;
    let full = reference.to_string();
    let shown = familiar(&full);
    door.events.publish(
        Subject::Image,
        "push",
        shown,
        BTreeMap::from([("name".to_owned(), shown.to_owned())]),
    );
    Ok(())
}

fn short(layer: &DiffId) -> String {
    layers::short(&layer.to_string())
}

/// What has become of each layer.
#[derive(Default)]
struct Ends(Mutex<HashMap<DiffId, String>>);

impl Ends {
    fn note(&self, layer: DiffId, end: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(layer, end);
    }

    fn all(&self) -> Vec<(DiffId, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_of_one_tag_or_of_all_in_the_repository() {
        let tags =
            ["docker.io/user/app:1".to_owned(), "docker.io/user/app:2".to_owned(), "a.b/app:1".to_owned()];
        assert_eq!(names("user/app", Some("1"), &tags).unwrap(), ["user/app:1"]);
        assert_eq!(names("user/app:2", None, &tags).unwrap(), ["docker.io/user/app:2"]);
        assert_eq!(names("user/app", None, &tags).unwrap(), tags[..2]);
        assert_eq!(names("localhost:5000/x", None, &tags).unwrap_err().status(), 404);
    }
}
