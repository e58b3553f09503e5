//! containerd's images: `io.containerd.metadata.v1.bolt/meta.db` names them, `io.containerd.content.v1.content` has their blobs.
//!
//! In the database: `v1 / <namespace> / images / <name> / target / digest`, and more that is not needed. The content store is an OCI
//! layout without an index.json.

use std::{collections::BTreeMap, fs::File, io, path::Path, sync::Arc};

use husk_model::Digest;
use rustix::fs::{FlockOperation, flock};

use super::{
    bolt::{Bolt, Item},
    files::{is_there, unreadable, wrong},
    names::{Names, Outcomes, Wanted},
};
use crate::{
    ImageError, Result,
    archive::{Importer, Report},
    manifest::Entry,
    stop::Stop,
    store::Shared,
};

/// Images of a namespace.
const IMAGES_MAX: usize = 10_000;

pub(super) fn take(
    shared: &Arc<Shared>,
    root: &Path,
    namespace: &str,
    wanted: &mut Wanted,
    progress: &Arc<Report>,
    stop: &Stop,
) -> Result<Outcomes> {
    let database = root.join("io.containerd.metadata.v1.bolt/meta.db");
    if !is_there(&database) {
        let reason = "there is no such file: name containerd's root (its configuration's `root`)";
        return Err(wrong(&database, reason));
    }
    let file = File::open(&database).map_err(unreadable(&database))?;
    // containerd holds the other kind of this lock for as long as it runs, and changes pages in place.
    if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockShared) {
        let reason = match errno {
            rustix::io::Errno::WOULDBLOCK => "containerd has it open: stop containerd first".to_owned(),
            errno => format!("lock it: {errno}"),
        };
        return Err(wrong(&database, reason));
    }
    let images = images(file, &database, namespace)?;
    let content = root.join("io.containerd.content.v1.content");
    let importer = Importer::of_layout(shared, &content, absent, progress, stop);
    let mut outcomes = Outcomes::new();
    for (digest, (media_type, names)) in images {
        if !wanted.has(&names, digest.as_str()) {
            continue;
        }
        let entry = Entry::of(&digest, media_type);
        let tags = names.tags.iter().cloned().collect();
        let digests = names.digests(Some(&digest), |named| *named == digest);
        let name = names.first(digest.as_str());
        tracing::info!(image = name, "taking over an image of containerd");
        let outcome = importer.take(&entry, tags, digests);
        stop.check().map_err(unreadable(&content))?;
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

/// Media types and names of the images of `namespace`, by what they lead to.
pub(super) fn images(file: File, path: &Path, namespace: &str) -> Result<BTreeMap<Digest, (String, Names)>> {
    let read = || -> io::Result<Option<BTreeMap<Digest, (String, Names)>>> {
        let bolt = Bolt::open(file)?;
        let mut bucket = bolt.root();
        for name in ["v1", namespace, "images"] {
            let Some(found) = bolt.bucket(&bucket, name.as_bytes())? else { return Ok(None) };
            bucket = found;
        }
        let mut images: BTreeMap<Digest, (String, Names)> = BTreeMap::new();
        let mut count = 0;
        bolt.each(&bucket, &mut |name, item| {
            count += 1;
            if count > IMAGES_MAX {
                return Err(io::Error::other(format!("more than {IMAGES_MAX} images")));
            }
            let Item::Bucket(image) = item()? else { return Ok(()) };
            let Some(target) = bolt.bucket(&image, b"target")? else { return Ok(()) };
            let text = |key: &[u8]| -> io::Result<String> {
                Ok(match bolt.get(&target, key)? {
                    Some(Item::Value(value)) => String::from_utf8_lossy(&value).into_owned(),
                    _ => String::new(),
                })
            };
            if let Ok(digest) = text(b"digest")?.parse::<Digest>() {
                let media_type = text(b"mediatype")?;
                let (_, names) = images.entry(digest).or_insert_with(|| (media_type, Names::default()));
                names.add(&String::from_utf8_lossy(name));
            }
            Ok(())
        })?;
        Ok(Some(images))
    };
    match read() {
        Ok(Some(images)) => Ok(images),
        Ok(None) => Err(wrong(path, format!("there is no namespace {namespace:?} with images in it"))),
        Err(error) => Err(unreadable(path)(error)),
    }
}

/// A blob that the store does not have.
fn absent(name: &str) -> ImageError {
    let digest = name.rsplit('/').next().unwrap_or_default();
    let reason = format!(
        "containerd's content store does not have sha256:{digest}: it keeps no layers that it has unpacked \
         (discard_unpacked_layers), or only fetched what another platform needs; pull the image"
    );
    ImageError::NotTaken { reason }
}
