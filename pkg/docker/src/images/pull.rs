//! `POST /images/create?fromImage=`: a pull, with its progress.
//!
//! The answer begins when the manifest is here: until then what goes wrong has a status of its own, which clients decide by (404
//! for a name that the registry does not know); after it, the stream says what went wrong.

use std::{collections::BTreeMap, sync::Arc};

use husk_images::{LayerProgress, Platform, PullRequest, Reference, Selector};
use tokio::sync::{oneshot, watch};

use super::{auth::auth, layers::Layers, names::familiar};
use crate::{
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    http::{Answer, Call},
    progress::{Progress, progress},
};

pub(super) async fn pull(door: &Arc<Parts>, call: &Call) -> Result<Answer> {
    let name =
        name(call.query.get("fromImage").unwrap_or_default(), call.query.get("tag").unwrap_or_default());
    let reference = Reference::parse(&name)?;
    check_platform(call.query.get("platform"))?;
    let request = PullRequest { reference: name, auth: auth(call)?, platform: None };
    let (progress, answer) = progress();
    let (decide, decided) = oneshot::channel();
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let closed = progress.clone();
        tokio::select! {
            () = run(&door, request, &reference, progress, decide) => {}
            // As dockerd: a pull ends with its client. Others who wait for the same one go on.
            () = closed.closed() => {}
        }
    });
    match decided.await {
        Ok(Some(failure)) => Err(failure),
        // An error is a panic of the pull; the stream ends without a word, then.
        Ok(None) | Err(_) => Ok(answer),
    }
}

async fn run(
    door: &Parts,
    request: PullRequest,
    reference: &Reference,
    progress: Progress,
    decide: oneshot::Sender<Option<Failure>>,
) {
    let before = door.images.resolve(&request.reference).map(|image| image.id.clone());
    let full = reference.to_string();
    let repository = full.strip_suffix(&format!(":{}", reference.selected())).unwrap_or(&full);
    let decide = std::sync::Mutex::new(Some(decide));
    let begin = |failure: Option<Failure>| {
        let decide = decide.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // A client that went away is told by nobody.
        decide.is_some_and(|decide| decide.send(failure).is_ok())
    };
    // The pull does not wait for a slow client, which is told less often.
    let (look, mut looks) = watch::channel(Vec::new());
    let pulling = async {
        let report = |now: Vec<LayerProgress>| {
            if !now.is_empty() {
                begin(None);
                look.send_replace(now);
            }
        };
        let pulled = door.images.pull_reporting_layers(request, report).await;
        drop(look);
        pulled
    };
    let telling = async {
        let mut told = None;
        while looks.changed().await.is_ok() {
            let now = looks.borrow_and_update().clone();
            if told.is_none() {
                let opening = format!("Pulling from {}", familiar(repository));
                progress.of(reference.selected(), &opening).await;
            }
            told.get_or_insert_with(Layers::default).tell(&now, &progress).await;
        }
    };
    let (pulled, ()) = tokio::join!(pulling, telling);
    match pulled {
        Ok(id) => {
            begin(None);
            let digest =
                door.images.resolve(&full).and_then(|image| digest_of(&image.repo_digests, reference));
            if let Some(digest) = digest {
                progress.line(format!("Digest: {digest}")).await;
            }
            let what = match before {
                Some(before) if before == id => "Image is up to date",
                _ => "Downloaded newer image",
            };
            let shown = familiar(&full);
            progress.line(format!("Status: {what} for {shown}")).await;
            let attributes = BTreeMap::from([("name".to_owned(), shown.to_owned())]);
            door.events.publish(Subject::Image, "pull", shown, attributes);
        }
        Err(error) => {
            let failure = Failure::from(error);
            let decide = decide.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            match decide {
                Some(decide) => drop(decide.send(Some(failure))),
                None => progress.failed(&failure).await,
            }
        }
    }
}

/// The digest that the registry has for this name.
fn digest_of(digests: &[String], reference: &Reference) -> Option<String> {
    let beginning = format!("{}@", reference.name());
    digests.iter().find_map(|digest| digest.strip_prefix(&beginning).map(str::to_owned))
}

/// One name of a name and a tag, which may also be a digest, or in the name already.
fn name(image: &str, tag: &str) -> String {
    match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => match Reference::parse(image) {
            // The name has said what it wants more exactly.
            Ok(reference) if matches!(reference.selector(), Selector::Digest(_)) => image.to_owned(),
            _ => format!("{image}:{tag}"),
        },
    }
}

/// Images are kept for this node's platform.
fn check_platform(wanted: Option<&str>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let mut parts = wanted.split('/');
    let platform = Platform {
        os: parts.next().unwrap_or_default().to_owned(),
        architecture: parts.next().unwrap_or_default().to_owned(),
        variant: parts.next().map(str::to_owned),
        os_features: Vec::new(),
    };
    if Platform::host().suits(&platform) {
        return Ok(());
    }
    let wanted: String = wanted.chars().take(80).collect();
    Err(Failure::missing(format!("husk pulls images for this node alone, which is no {wanted:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_tag_a_digest_or_said_already() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, tag, expected) in [
            ("busybox", "", "busybox".to_owned()),
            ("busybox", "1.36", "busybox:1.36".to_owned()),
            ("busybox", &digest, format!("busybox@{digest}")),
            (&format!("busybox@{digest}"), "latest", format!("busybox@{digest}")),
            ("localhost:5000/a", "b", "localhost:5000/a:b".to_owned()),
        ] {
            assert_eq!(name(image, tag), expected);
        }
    }

    #[test]
    fn only_this_nodes_platform_is_pulled() {
        let own = Platform::host();
        check_platform(None).unwrap();
        check_platform(Some(&format!("linux/{}", own.architecture))).unwrap();
        assert_eq!(check_platform(Some("linux/s390x")).unwrap_err().status(), 501);
        assert_eq!(check_platform(Some("windows/amd64")).unwrap_err().status(), 501);
    }
}
