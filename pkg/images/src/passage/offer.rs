//! An image of the store as a registry would have it.

use std::{io, io::Read, sync::Arc};

use husk_model::{Digest, ImageId};
use sha2::{Digest as _, Sha256};

use crate::{
    DiffId, ImageError, ImageStore, Result,
    archive::Replay,
    ids::ChainId,
    manifest::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST},
    store::{Pin, blocking},
    unpack::Destination,
};

/// An image as a registry would have it. While it is held, its layers stay.
#[derive(Debug, Clone)]
pub struct OfferedImage {
    /// The image.
    pub id: ImageId,
    /// Its manifest, the same whenever this image is offered.
    pub manifest: Vec<u8>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its configuration, whose digest is the id.
    pub config: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerBlob>,
}

/// A layer as a blob: its archive as it is, whose digest is the layer's diff id. While it is held, the layer stays.
#[derive(Clone)]
pub struct LayerBlob {
    digest: Digest,
    size: u64,
    files: Destination,
    _pin: Arc<Pin>,
}

impl OfferedImage {
    /// Type of the manifest.
    pub const MEDIA_TYPE: &'static str = OCI_MANIFEST;
}

impl LayerBlob {
    /// Digest of the archive.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The archive, put together again while it is read. It blocks; whoever reads compares the digest, since files on disk may have been damaged.
    ///
    /// # Errors
    /// When the layer's record or files cannot be read.
    pub fn read(&self) -> io::Result<impl Read + Send + use<>> {
        Replay::open(&self.files)
    }
}

impl std::fmt::Debug for LayerBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerBlob")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Offers an image to a builder.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; when the database cannot be read.
    pub async fn offer(self: &Arc<Self>, id: &ImageId) -> Result<OfferedImage> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        blocking("offering an image", move || {
            let pins = shared.pins_of(&id)?;
            let config = shared.config_bytes(&id)?;
            let config = config.ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
            let found = shared.layers_of(&id)?;
            let layers: Vec<LayerBlob> = found
                .into_iter()
                .zip(pins)
                .map(|((record, files), (_, pin))| LayerBlob {
                    digest: record.diff_id.digest().clone(),
                    size: record.archive,
                    files,
                    _pin: pin,
                })
                .collect();
            let manifest = manifest(&id, config.len() as u64, &layers);
            let digest = Digest::from_sha256(&Sha256::digest(&manifest).into());
            Ok(OfferedImage { id, manifest, digest, config, layers })
        })
        .await
    }

    /// The layer whose archive has this digest, if the store has it by that alone.
    pub fn layer_blob(&self, digest: &Digest) -> Option<LayerBlob> {
        let diff_id = DiffId::new(digest.clone());
        let pin = self.shared.pin(&diff_id, &ChainId::above(None, &diff_id))?;
        let (record, files) = self.shared.layer_of(&pin.key)?;
        Some(LayerBlob { digest: digest.clone(), size: record.archive, files, _pin: pin })
    }
}

fn manifest(id: &ImageId, config: u64, layers: &[LayerBlob]) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: &Digest, size| Descriptor {
        media_type: Some(media_type.to_owned()),
        digest: digest.clone(),
        size,
        urls: Vec::new(),
    };
    let layers: Vec<Descriptor> =
        layers.iter().map(|layer| descriptor(OCI_LAYER, &layer.digest, layer.size)).collect();
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, id.digest(), config),
        "layers": layers,
    });
    document.to_string().into_bytes()
}
