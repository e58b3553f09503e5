//! What an image says of itself beside how to run it, and how it came about. Asked for by people and tools, never by the way of a container.

use std::sync::Arc;

use husk_model::{Digest, ImageId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    Image, ImageError, ImageStore, Result,
    json::{self, object, same_name},
    manifest::Declared,
    store::blocking,
};

/// An image, told in full. All texts are the image's own words and may be empty.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// What the store has.
    pub image: Arc<Image>,
    /// The configuration as it came: its digest is the image's id. At most 8 MiB.
    pub raw: Vec<u8>,
    /// How to run it, in the spelling of the image-spec (`Env`, `Healthcheck`…): `config` of the configuration, null without one.
    pub config: Value,
    /// Who made it.
    pub author: String,
    /// Whatever there was to say.
    pub comment: String,
    /// The version of Docker that built it.
    pub docker_version: String,
    /// How it came about, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The manifest that it was pulled by; `None` for one that came otherwise.
    pub manifest: Option<ManifestFacts>,
    /// What was noted when it was made here; of no use elsewhere, and in no copy of the image.
    pub note: Option<Vec<u8>>,
}

/// A step by which an image came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// RFC 3339.
    pub created: String,
    /// The command.
    pub created_by: String,
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
    /// It changed no file, and has no layer.
    pub empty_layer: bool,
    /// Bytes of its layer on this node.
    pub size: u64,
}
object!(HistoryEntry {
    "created" => created,
    "created_by" => created_by,
    "author" => author,
    "comment" => comment,
    "empty_layer" => empty_layer,
});

/// A manifest, by what a descriptor says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFacts {
    /// Its type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

#[derive(Debug, Default)]
struct Told {
    author: String,
    comment: String,
    docker_version: String,
    history: Vec<HistoryEntry>,
}
object!(Told {
    "author" => author,
    "comment" => comment,
    "docker_version" => docker_version,
    "history" => history,
});

impl ImageStore {
    /// All that is known of an image.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; when the database cannot be read.
    pub async fn details(self: &Arc<Self>, id: &ImageId) -> Result<ImageDetails> {
        let absent = || ImageError::NoImage { name: id.to_string() };
        let image = self.list().into_iter().find(|image| image.id == *id).ok_or_else(absent)?;
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let (raw, manifest, note) = blocking("looking an image up", move || {
            let raw =
                shared.config_bytes(&id)?.ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
            Ok((raw, shared.manifest_bytes(&id)?, shared.note(&id)?))
        })
        .await?;
        Ok(ImageDetails { note, ..of(image, raw, manifest.as_deref()) })
    }
}

fn of(image: Arc<Image>, raw: Vec<u8>, manifest: Option<&[u8]>) -> ImageDetails {
    // What of it cannot be read was of no matter when the image came; so it is not there.
    let Told { author, comment, docker_version, history } = json::read(&raw).unwrap_or_default();
    let whole: serde_json::Map<String, Value> = serde_json::from_slice(&raw).unwrap_or_default();
    let config = whole.into_iter().find(|(name, _)| same_name(name, "config"));
    let manifest = manifest.map(|bytes| ManifestFacts {
        media_type: Declared::media_type_of(bytes),
        digest: Digest::from_sha256(&Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
    });
    ImageDetails {
        config: config.map_or(Value::Null, |(_, config)| config),
        history: with_sizes(history, &image.layer_sizes),
        image,
        raw,
        author,
        comment,
        docker_version,
        manifest,
        note: None,
    }
}

/// Reads what an image says of itself; how many steps it tells of.
#[cfg(feature = "fuzzing")]
pub(crate) fn steps(raw: &[u8]) -> usize {
    json::read::<Told>(raw).unwrap_or_default().history.len()
}

/// Gives each step that has a layer its size. Layers that no step tells of come last.
fn with_sizes(mut history: Vec<HistoryEntry>, sizes: &[u64]) -> Vec<HistoryEntry> {
    let mut sizes = sizes.iter();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        entry.size = sizes.next().copied().unwrap_or(0);
    }
    history.extend(sizes.map(|size| HistoryEntry { size: *size, ..HistoryEntry::default() }));
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_a_layer_take_no_size_and_layers_without_a_step_have_one() {
        let step = |empty_layer| HistoryEntry { empty_layer, ..HistoryEntry::default() };
        let sizes = |history: Vec<HistoryEntry>, sizes: &[u64]| -> Vec<u64> {
            with_sizes(history, sizes).iter().map(|entry| entry.size).collect()
        };
        assert_eq!(sizes(vec![step(false), step(true), step(false)], &[5, 7]), [5, 0, 7]);
        assert_eq!(sizes(vec![step(true)], &[5, 7]), [0, 5, 7]);
        assert_eq!(sizes(vec![step(false), step(false)], &[5]), [5, 0]);
    }
}
