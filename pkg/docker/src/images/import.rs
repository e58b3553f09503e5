//! `POST /images/create?fromSrc=-`: an image of the files in an archive.

use std::sync::Arc;

use husk_images::{Author, ImportRequest, NewConfig};
use serde_json::Map;

use crate::{
    door::Parts,
    error::{Failure, Result},
    events::Subject,
    http::{Answer, Call},
    progress::progress,
    when,
};

pub(super) async fn import(door: &Arc<Parts>, call: Call) -> Result<Answer> {
    if call.query.get("fromSrc") != Some("-") {
        return Err(Failure::missing(
            "husk fetches no archive from a URL; pipe it: curl … | docker import -",
        ));
    }
    let name = match (call.query.get("repo"), call.query.get("tag")) {
        (None, _) => None,
        (Some(repository), None) => Some(repository.to_owned()),
        (Some(repository), Some(tag)) => Some(format!("{repository}:{tag}")),
    };
    let changes: Vec<String> = call.query.all("changes").map(str::to_owned).collect();
    let mut config = Map::new();
    crate::instructions::apply(&mut config, &changes)?;
    let entry = Author {
        created: when::text(husk_node::now()),
        comment: call.query.get("message").unwrap_or("Imported from -").to_owned(),
        ..Author::default()
    };
    let new = NewConfig { config: Some(config.into()), entry, platform: None };
    let request = ImportRequest { new, name };
    let id = door.images.import_root(call.content.into_blocking(), request, |_| {}).await?.to_string();
    door.events.publish(Subject::Image, "import", &id, [("name".to_owned(), id.clone())].into());
    let (progress, answer) = progress();
    tokio::spawn(async move { progress.line(id).await });
    Ok(answer)
}
