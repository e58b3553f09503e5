//! `GET /images/get`, `POST /images/load`: images as archives, which come and go as streams.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use husk_images::{Loaded, Reference, SaveItem};
use husk_model::chain;
use tracing::warn;

use super::{find::find, names::familiar};
use crate::{
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    http::{Answer, Call, Pieces, streamed_as},
    progress::{Detail, Progress, progress},
};

/// Sends an archive of these images. What goes wrong after its beginning breaks it off.
pub(super) async fn save(door: &Arc<Parts>, names: Vec<String>) -> Result<Answer> {
    if names.is_empty() {
        return Err(Failure::bad("names: at least one image must be named"));
    }
    let mut items = Vec::new();
    for name in &names {
        items.extend(named(door, name)?);
    }
    let (pieces, answer) = streamed_as("application/x-tar");
    let door = Arc::clone(door);
    tokio::spawn(async move {
        if let Err(error) = door.images.save(items, Out(pieces.clone()), |_| {}).await {
            warn!(error = chain(&error), "an archive of images broke off");
            pieces.break_off().await;
        }
    });
    Ok(answer)
}

/// What a name means: an image without a name by its id, one tag, or all tags of a repository.
fn named(door: &Parts, name: &str) -> Result<Vec<SaveItem>> {
    let image = find(door, name)?;
    let reference =
        Reference::parse(name).ok().filter(|reference| image.repo_tags.contains(&reference.to_string()));
    let Some(reference) = reference else {
        return Ok(vec![SaveItem { image: image.id.to_string(), tags: Some(Vec::new()) }]);
    };
    let full = reference.to_string();
    if name.ends_with(&format!(":{}", reference.selected())) {
        return Ok(vec![SaveItem { image: full.clone(), tags: Some(vec![full]) }]);
    }
    let of_repository = |tag: &&String| Reference::parse(tag).is_ok_and(|tag| tag.name() == reference.name());
    let items = door.images.list().into_iter().filter_map(|image| {
        let tags: Vec<String> = image.repo_tags.iter().filter(of_repository).cloned().collect();
        (!tags.is_empty()).then(|| SaveItem { image: image.id.to_string(), tags: Some(tags) })
    });
    Ok(items.collect())
}

/// The archive's way to the client.
struct Out(Pieces);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send_blocking(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes all images of an archive. The answer has begun before it is read, so what is wrong with it is told in the stream.
pub(super) async fn load(door: &Arc<Parts>, call: Call) -> Result<Answer> {
    let (progress, answer) = progress();
    let quiet = call.query.flag("quiet");
    let archive = call.content.into_blocking();
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let news = progress.clone();
        let report = move |now: husk_images::Progress| {
            if !quiet {
                news.news(&now.what, "Loading layer", Detail { current: now.done, total: now.total });
            }
        };
        match door.images.load(archive, report).await {
            Ok(loaded) => tell(&door, &loaded, &progress).await,
            Err(error) => progress.failed(&error.into()).await,
        }
    });
    Ok(answer)
}

async fn tell(door: &Parts, loaded: &[Loaded], progress: &Progress) {
    for Loaded { id, tags } in loaded {
        let id = id.to_string();
        if tags.is_empty() {
            progress.text(&format!("Loaded image ID: {id}\n")).await;
        }
        for tag in tags {
            progress.text(&format!("Loaded image: {}\n", familiar(tag))).await;
        }
        let attributes = BTreeMap::from([("name".to_owned(), id.clone())]);
        door.events.publish(Subject::Image, "load", id, attributes);
    }
}
