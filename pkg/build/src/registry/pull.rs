//! What builds start from: images of the store, pulled first where it does not have them.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use husk_images::{ImageStore, LayerBlob, OfferedImage, PullRequest};
use husk_model::{Classify, Digest, Kind, chain};
use hyper::{
    Method, Response, StatusCode,
    body::Frame,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    answers::{Answer, DIGEST, answer, header, refused},
    names,
    ticket::Ticket,
};
use crate::grpc::whole;

/// Pieces of a layer that may wait for the builder.
const BACKLOG: usize = 4;
/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// A manifest by its tag, or by the digest that it was told to have.
pub(super) async fn manifest(
    images: &Arc<ImageStore>,
    ticket: &Ticket,
    method: &Method,
    path: &str,
    reference: &str,
) -> Answer {
    let offered = match reference.parse::<Digest>() {
        Ok(digest) => ticket.state().offered.get(&digest).cloned().ok_or(None),
        Err(_) => offer(images, ticket, path, reference).await.map_err(Some),
    };
    match offered {
        Ok(offered) => {
            let mut answer = bytes(method, OfferedImage::MEDIA_TYPE, &offered.manifest);
            answer.headers_mut().insert(DIGEST, header(&offered.digest));
            answer
        }
        Err(None) => refused(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no build was offered this manifest"),
        Err(Some((status, message))) => {
            // The first is what the others follow from.
            ticket.state().trouble.get_or_insert_with(|| message.clone());
            refused(status, "MANIFEST_UNKNOWN", &message)
        }
    }
}

/// The image that a name means for this build.
async fn offer(
    images: &Arc<ImageStore>,
    ticket: &Ticket,
    path: &str,
    tag: &str,
) -> Result<Arc<OfferedImage>, (StatusCode, String)> {
    let name = names::meaning(path, tag)
        .ok_or_else(|| (StatusCode::NOT_FOUND, "this path means no image".to_owned()))?;
    {
        let state = ticket.state();
        if let Some(offered) = state.meant.get(&name).and_then(|digest| state.offered.get(digest)) {
            return Ok(Arc::clone(offered));
        }
    }
    let here = images.resolve(&name).filter(|_| !ticket.order.pull).map(|image| image.id.clone());
    let id = match here {
        Some(id) => id,
        None => {
            let host = name.split('/').next().unwrap_or_default().to_owned();
            let auth = (ticket.order.credentials)(host).await;
            let request = PullRequest { reference: name.clone(), auth, platform: None };
            images.pull(request).await.map_err(|error| {
                let status = match error.kind() {
                    Kind::NotFound => StatusCode::NOT_FOUND,
                    Kind::Unauthenticated | Kind::PermissionDenied => StatusCode::FORBIDDEN,
                    _ => StatusCode::BAD_GATEWAY,
                };
                (status, chain(&error))
            })?
        }
    };
    let offered = images.offer(&id).await;
    let offered = Arc::new(offered.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, chain(&error)))?);
    let mut state = ticket.state();
    state.meant.insert(name, offered.digest.clone());
    Ok(Arc::clone(state.offered.entry(offered.digest.clone()).or_insert(offered)))
}

/// A configuration or a layer of what was offered.
pub(super) fn blob(ticket: &Ticket, method: &Method, digest: &Digest) -> Option<Answer> {
    let state = ticket.state();
    let mut offered = state.offered.values();
    if let Some(image) = offered.clone().find(|image| image.id.digest() == digest) {
        let mut answer = bytes(method, "application/octet-stream", &image.config);
        answer.headers_mut().insert(DIGEST, header(digest));
        return Some(answer);
    }
    let layer = offered.find_map(|image| image.layers.iter().find(|layer| layer.digest() == digest))?.clone();
    drop(state);
    let mut answer = match *method {
        Method::HEAD => answer(StatusCode::OK),
        _ => archive(layer.clone()),
    };
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(layer.size()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.headers_mut().insert(DIGEST, header(digest));
    Some(answer)
}

/// A layer's archive, read on a thread for it. One that is damaged breaks off; the builder compares the digest.
fn archive(layer: LayerBlob) -> Answer {
    let (pieces, received) = mpsc::channel(BACKLOG);
    tokio::task::spawn_blocking(move || {
        let sent = layer.read().and_then(|mut archive| {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                archive.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
                if piece.is_empty() || pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return Ok(());
                }
            }
        });
        if let Err(error) = sent {
            warn!(layer = %layer.digest(), %error, "a layer cannot be read for a build");
            let _gone = pieces.blocking_send(Err(error.into()));
        }
    });
    let pieces = stream::unfold(received, async |mut received| {
        let piece: Result<Bytes, crate::grpc::BoxError> = received.recv().await?;
        Some((piece.map(Frame::data), received))
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

fn bytes(method: &Method, media_type: &'static str, content: &[u8]) -> Answer {
    let mut answer = answer(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    if *method != Method::HEAD {
        *answer.body_mut() = whole(Bytes::copy_from_slice(content));
    }
    answer
}
