//! What builds make: blobs into the build's spool, and with the manifest everything into the store, checked there as in a pull.

use std::{path::Path, sync::Arc};

use http_body_util::{BodyExt, Limited};
use husk_images::ImageStore;
use husk_model::{Digest, chain};
use hyper::{
    StatusCode,
    body::Incoming,
    header::{CONTENT_LENGTH, HeaderValue, LOCATION},
};
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncWriteExt};

use super::{
    answers::{Answer, DIGEST, answer, header, refused},
    ticket::Ticket,
};
use crate::spool::leave_room;

/// Largest manifest; the store takes none that is larger.
const MANIFEST_MAX: usize = 4 << 20;
/// Bytes that one build may push.
const PUSHED_MAX: u64 = 1 << 40;
/// Bytes between two looks at how full the disk is.
const LOOK: u64 = 16 << 20;

/// Whether a blob need not be sent: it was already, or it is a layer that the store has, which then stays for this build.
pub(super) fn has(images: &ImageStore, ticket: &Ticket, digest: &Digest) -> Option<Answer> {
    let size = match std::fs::metadata(ticket.blob(digest)) {
        Ok(there) => there.len(),
        Err(_) => {
            let layer = images.layer_blob(digest)?;
            let size = layer.size();
            ticket.state().known.insert(digest.clone(), layer);
            size
        }
    };
    let mut answer = answer(StatusCode::OK);
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    answer.headers_mut().insert(DIGEST, header(digest));
    Some(answer)
}

/// Begins an upload: it is one request, which has the whole blob.
pub(super) fn begin(path: &str) -> Answer {
    let mut answer = answer(StatusCode::ACCEPTED);
    let location = HeaderValue::from_str(&format!("{path}blob")).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// Takes a blob in. Only one that is what its digest says becomes visible.
pub(super) async fn blob(ticket: &Ticket, digest: &str, body: Incoming) -> Answer {
    let Ok(digest) = digest.parse::<Digest>() else {
        return refused(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "no digest of the blob is given");
    };
    match keep(ticket, &digest, body).await {
        Ok(()) => created(&digest),
        Err(reason) => {
            let message = format!("take in blob {digest} of a build: {reason}");
            ticket.state().trouble.get_or_insert_with(|| message.clone());
            refused(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", &message)
        }
    }
}

async fn keep(ticket: &Ticket, digest: &Digest, mut body: Incoming) -> Result<(), String> {
    let path = ticket.blob(digest);
    let partial = Partial(ticket.blobs().join(format!(".{}", random()?)));
    let words = |error: std::io::Error| error.to_string();
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(&partial.0).await.map_err(words)?;
    let (mut hash, mut looked) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        hash.update(&data);
        looked += data.len() as u64;
        if looked >= LOOK {
            charge(ticket, std::mem::take(&mut looked), &file)?;
        }
        file.write_all(&data).await.map_err(words)?;
    }
    charge(ticket, looked, &file)?;
    file.flush().await.map_err(words)?;
    let actual = Digest::from_sha256(&hash.finalize().into());
    if actual != *digest {
        return Err(format!("its digest is {actual}"));
    }
    tokio::fs::rename(&partial.0, &path).await.map_err(words)
}

/// Counts bytes that came, and sees that the disk is not filled: a hundredth stays free.
fn charge(ticket: &Ticket, bytes: u64, file: &File) -> Result<(), String> {
    let mut state = ticket.state();
    state.pushed += bytes;
    if state.pushed > PUSHED_MAX {
        return Err("the build has pushed more than 1 TiB".to_owned());
    }
    drop(state);
    leave_room(file).map_err(|error| error.to_string())
}

/// A blob that is not whole.
struct Partial(std::path::PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed, it is not there any more.
        let _renamed = std::fs::remove_file(&self.0);
    }
}

/// Takes a manifest in, and with it the image. Manifests that an index names come by their digests, before it.
pub(super) async fn manifest(
    images: &Arc<ImageStore>,
    ticket: &Ticket,
    reference: &str,
    media_type: String,
    body: Incoming,
) -> Answer {
    let bytes = match Limited::new(body, MANIFEST_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return refused(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &error.to_string()),
    };
    let digest = Digest::from_sha256(&Sha256::digest(&bytes).into());
    let kept = put(&ticket.blob(&digest), &bytes).await;
    if let Err(error) = kept {
        let message = format!("keep the manifest of a build: {error}");
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &message);
    }
    if reference.parse::<Digest>().is_ok() {
        return created(&digest);
    }
    let names = &ticket.order.names;
    let taken = images.take_pushed(ticket.spool.clone(), digest.clone(), media_type, names, |_| {}).await;
    match taken {
        Ok(id) => {
            ticket.state().built = Some(id);
            created(&digest)
        }
        Err(error) => {
            let message = chain(&error);
            ticket.state().trouble.get_or_insert_with(|| message.clone());
            refused(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &message)
        }
    }
}

async fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path).await?;
    file.write_all(bytes).await?;
    file.flush().await
}

fn created(digest: &Digest) -> Answer {
    let mut answer = answer(StatusCode::CREATED);
    answer.headers_mut().insert(DIGEST, header(digest));
    answer
}

/// A name that nobody guesses.
pub(super) fn random() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
