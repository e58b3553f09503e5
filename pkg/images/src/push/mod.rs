//! Pushing: each layer is where it goes already, or mounted there from another repository, or made again and uploaded; then the
//! configuration, and a manifest that names them.
//!
//! | module | what |
//! | --- | --- |
//! | `blob` | a layer as the compressed blob that it is pushed as |
//! | `layer` | one layer: looked for, mounted, uploaded |
//! | `manifest` | the manifest, that of the pull where all is as it came |
//! | `progress` | how far it is |
//!
//! A layer is kept unpacked, so its blob is made again; its bytes are another's than those that it came as, and so is its digest. Which
//! digests a registry knows a layer by is on record from what was unpacked from it and pushed to it, and from nothing else: what a
//! manifest claims of a layer that was here before proves nothing, and would put a stranger's bytes into one's own image.

mod blob;
mod layer;
mod manifest;
mod progress;

use std::sync::Arc;

use futures_util::future::try_join_all;
use husk_model::{Digest, ImageId};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use layer::Pushing;
pub use progress::{PushProgress, PushState};

use crate::{
    Auth, ImageError, ImageStore, Reference, Result,
    reference::Selector,
    registry::{Attempts, RegistryError, Session},
    store::{BlobSource, blocking},
};

/// What to push.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// A name that an image on this node has, in any spelling, with a tag; where it goes is in the name.
    pub reference: String,
    /// Credentials, if any.
    pub auth: Option<Auth>,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name in full.
    pub reference: String,
    /// The image.
    pub id: ImageId,
    /// Digest of its manifest there.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

impl ImageStore {
    /// Pushes an image to the registry of its name, never to a mirror. `report` is told of each layer by its diff id; it is called often, from
    /// several threads, and must be quick. What was uploaded before a failure need not be sent again.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; [`ImageError::Reference`] for a name with a digest; [`ImageError::Push`] with what the registry answered;
    /// [`ImageError::Export`] when a stored layer is damaged.
    pub async fn push_image(
        self: &Arc<Self>,
        request: PushRequest,
        report: impl Fn(PushProgress) + Send + Sync + 'static,
    ) -> Result<Pushed> {
        let reference = Reference::parse(&request.reference)?;
        let Selector::Tag(tag) = reference.selector().clone() else {
            let reason = "a push goes to a tag; a digest is what comes of it";
            return Err(ImageError::Reference { reference: request.reference, reason });
        };
        let name = reference.to_string();
        let named = self.list().into_iter().find(|image| image.repo_tags.contains(&name));
        let image = named.ok_or_else(|| ImageError::NoImage { name: name.clone() })?;
        let _held = self.acquire(&image.id)?;
        let config = self.registry_config();
        let auth = request.auth.unwrap_or_default();
        let session = Session::to_push(reference, auth, config, &self.clients)?;
        let failed = |host: &str, error: RegistryError| {
            let mut attempts = Attempts::default();
            attempts.add(host, error);
            ImageError::Push { object: name.clone(), attempts }
        };
        let endpoint = session.home().await.map_err(|(host, error)| failed(&host, error))?;
        let pushing = Pushing { session: &session, endpoint, image: &image, report: Arc::new(report) };
        let layers = self.push_layers(&pushing).await?;
        let (shared, id) = (Arc::clone(&self.shared), image.id.clone());
        let stored = blocking("reading an image", move || {
            let config =
                shared.config_bytes(&id)?.ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
            Ok((config, shared.manifest_bytes(&id)?))
        });
        let (config, original) = stored.await?;
        pushing.push_config(self, &config).await?;
        let (media_type, manifest) = manifest::of(&image.id, config.len(), &layers, original.as_deref());
        let put = session.put_manifest(endpoint, &tag, &media_type, &manifest).await;
        put.map_err(|error| failed(endpoint.name(), error))?;
        let digest = Digest::from_sha256(&Sha256::digest(&manifest).into());
        let (shared, id) = (Arc::clone(&self.shared), image.id.clone());
        let noted = format!("{}@{digest}", session.reference.name());
        blocking("recording a push", move || shared.pushed(&id, &noted, layers)).await?;
        Ok(Pushed { reference: name.clone(), id: image.id.clone(), digest, size: manifest.len() as u64 })
    }

    /// Pushes the layers, each once; what the registry has them as, lowest first.
    async fn push_layers(self: &Arc<Self>, pushing: &Pushing<'_>) -> Result<Vec<BlobSource>> {
        let layers = self.shared.layers_of(&pushing.image.id)?;
        let mut several: Vec<usize> = Vec::new();
        for (at, (record, _)) in layers.iter().enumerate() {
            if layers[..at].iter().all(|(below, _)| below.diff_id != record.diff_id) {
                several.push(at);
            }
        }
        let turns = Semaphore::new(self.config().max_parallel_layers.clamp(1, Semaphore::MAX_PERMITS));
        let pushes = several.iter().map(|at| async {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            pushing.push_layer(self, &layers[*at].0, &layers[*at].1).await
        });
        let pushed = try_join_all(pushes).await?;
        let of = |(record, _): &(crate::store::LayerRecord, _)| {
            let at = several.iter().position(|at| layers[*at].0.diff_id == record.diff_id)?;
            pushed.get(at).cloned()
        };
        Ok(layers.iter().filter_map(of).collect())
    }
}
