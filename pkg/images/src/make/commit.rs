//! A new image of an image and what a container changed of it.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc};

use husk_model::{Digest, ImageId};
use sha2::{Digest as _, Sha256};

use super::{NewConfig, config};
use crate::{
    DiffId, ImageError, ImageStore, Reference, Result,
    ids::ChainId,
    layer,
    pieces::Joined,
    pipeline::{Expected, Source},
    reference::Selector,
    root::{Form, Mounts, Pack},
    stop::Stop,
    store::{NewImage, Pin, Shared, blocking},
    unpack::limits::Budget,
};

/// What to make an image of.
#[derive(Debug)]
pub struct CommitRequest {
    /// The image that the container was made from; `None` for one without.
    pub parent: Option<ImageId>,
    /// The container's writable layer: the upper directory of its overlay. Pause the container if its files shall be of one moment.
    pub upper: OwnedFd,
    /// Where things were mounted in the container: directories there with all below them, and empty files, are the runtime's traces and
    /// do not become part of the image.
    pub mounts: Vec<PathBuf>,
    /// What the image says of itself.
    pub new: NewConfig,
    /// What the caller wants to know of it later ([`ImageDetails::note`](crate::ImageDetails::note)); it stays on this node, and more than 1 MiB is
    /// not kept.
    pub note: Option<Vec<u8>>,
    /// The name that it gets, if any: a tag, in any spelling. An image that had it loses it.
    pub name: Option<String>,
}

impl ImageStore {
    /// Makes an image: the parent's layers and one more, unless nothing was changed. Recorded whole or not at all, whenever the process
    /// ends.
    ///
    /// # Errors
    /// [`ImageError::NoImage`] without the parent; [`ImageError::Reference`]; [`ImageError::NewImage`] for a configuration that could not
    /// be read again, or too many layers; [`ImageError::Layer`] when the changes cannot be read or are beyond the limits of a layer.
    pub async fn commit(self: &Arc<Self>, request: CommitRequest) -> Result<ImageId> {
        let name = request.name.as_deref().map(tag).transpose()?;
        // The parent's layers stay while they are needed, whoever removes it.
        let lease = request.parent.as_ref().map(|parent| self.acquire(parent)).transpose()?;
        let (shared, stop) = (Arc::clone(&self.shared), Stop::default());
        let _with_this_task = stop.on_drop();
        let id = blocking("making an image of a container", move || {
            let _held = lease;
            commit(&shared, request, name, &stop)
        })
        .await?;
        layer::give_memory_back();
        Ok(id)
    }
}

/// A name that an image can be given, in full.
pub(super) fn tag(name: &str) -> Result<String> {
    let reference = Reference::parse(name)?;
    match reference.selector() {
        Selector::Tag(_) => Ok(reference.to_string()),
        Selector::Digest(_) => Err(ImageError::Reference {
            reference: name.chars().take(300).collect(),
            reason: "a name to give has a tag and no digest, which only content decides",
        }),
    }
}

fn commit(
    shared: &Arc<Shared>,
    request: CommitRequest,
    name: Option<String>,
    stop: &Stop,
) -> Result<ImageId> {
    let CommitRequest { parent, upper, mounts, new, note, .. } = request;
    let below = parent.as_ref().map(|parent| shared.pins_of(parent)).transpose()?.unwrap_or_default();
    let parent_config = match &parent {
        None => None,
        Some(parent) => shared.config_bytes(parent)?,
    };
    let (mut diff_ids, mut pins): (Vec<DiffId>, Vec<Arc<Pin>>) = below.into_iter().unzip();
    // Before the work: what is wrong with it shows without a layer.
    config::build(parent_config.as_deref(), &new, &diff_ids, false)?;
    let unreadable =
        |source| ImageError::ArchiveIo { step: "read what the container changed".into(), source };
    let form = Form::Layer(Mounts::of(&mounts));
    let mut pack = Pack::of_tree(&upper, b"", true, form, stop).map_err(unreadable)?;
    let has_layer = !pack.is_empty().map_err(unreadable)?;
    if has_layer {
        let source = Source::Stream(Box::new(Joined::new(pack)), Box::new(|_| ()));
        let (diff_id, pin) = layer_of(shared, source, &diff_ids, stop)?;
        diff_ids.push(diff_id);
        pins.push(pin);
    }
    let config = config::build(parent_config.as_deref(), &new, &diff_ids, has_layer)?;
    record(shared, NewImage { parent, note, ..made_of(config, pins, name) }, stop)
}

/// Unpacks a new layer above `below`.
pub(super) fn layer_of(
    shared: &Arc<Shared>,
    source: Source,
    below: &[DiffId],
    stop: &Stop,
) -> Result<(DiffId, Arc<Pin>)> {
    let expected = Expected { blob: None, size: None, diff_id: None };
    // Only errors name it, and it has no digest before it is whole.
    let unknown = Digest::from_sha256(&[0; 32]);
    let unclaimed = layer::unpack(shared, source, &expected, &unknown, &Budget::default(), stop);
    let unclaimed = unclaimed.map_err(|error| match error {
        ImageError::Layer { source, .. } => ImageError::NewLayer { source },
        error => error,
    })?;
    let diff_id = unclaimed.diff_id().cloned().unwrap_or_else(|| DiffId::new(unknown));
    let below = below.iter().fold(None, |below, diff_id| Some(ChainId::above(below.as_ref(), diff_id)));
    let chain = ChainId::above(below.as_ref(), &diff_id);
    let pin = unclaimed.claim(shared, &diff_id, &chain);
    Ok((diff_id, pin))
}

/// The image of `config`.
pub(super) fn made_of(config: Vec<u8>, pins: Vec<Arc<Pin>>, name: Option<String>) -> NewImage {
    let id = ImageId::new(Digest::from_sha256(&Sha256::digest(&config).into()));
    NewImage { tags: name.into_iter().collect(), ..NewImage::of(id, config, pins) }
}

/// Records an image.
pub(super) fn record(shared: &Arc<Shared>, mut new: NewImage, stop: &Stop) -> Result<ImageId> {
    let id = new.id.clone();
    new.parent = new.parent.filter(|parent| *parent != id);
    shared.commit(new, stop)?;
    Ok(id)
}
