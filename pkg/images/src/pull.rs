//! Pulling: resolve the name, choose the platform, fetch the configuration, then all missing layers at once.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use husk_model::{Digest, ImageId};
use husk_telemetry::step;
use reqwest::Url;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    Auth, DiffId, ImageError, ImageStore, Reference, Result,
    ids::ChainId,
    layer::{self, Unclaimed},
    manifest::Descriptor,
    pipeline::{Expected, Source},
    platform::Platform,
    reference::Selector,
    registry::{Attempts, Blob, Endpoint, Places, RegistryConfig, Session},
    resolve::Resolved,
    slots::Turns,
    stop::Stop,
    store::{BlobSource, NewImage, Pin, blocking},
    tally::{LayerProgress, LayerState, PullProgress, Tallied, TalliedLayer, Tally},
    trust::Trust,
    unpack::limits::Budget,
};

/// Chunks of a download that may wait for the unpacker.
const CHUNKS: usize = 8;
/// How often whoever watches a pull is told how far it is: as often as people can read.
const LOOK: Duration = Duration::from_millis(200);

/// What to pull.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// An image reference in any spelling.
    pub reference: String,
    /// Credentials, if any.
    pub auth: Option<Auth>,
    /// What the image shall be for; `None` is this node.
    pub platform: Option<Platform>,
}

impl PullRequest {
    /// The credentials, if they may be meant for `reference`, one meaning of the name. Clients (the kubelet) look them up for what a name
    /// means by Docker's rule, so those that name no registry are for that one, whatever registries.conf makes of a short name.
    fn auth_for(&self, reference: &Reference) -> Auth {
        let auth = self.auth.clone().unwrap_or_default();
        let by_rule = |meant: Reference| meant.host() == reference.host();
        let is_meant =
            !auth.server_address.is_empty() || Reference::parse(&self.reference).is_ok_and(by_rule);
        if is_meant { auth } else { Auth::default() }
    }
}

/// One pull: whom it asks, what of the disk it may take, how far it is.
#[derive(Clone)]
struct Pulling {
    session: Arc<Session>,
    image: Budget,
    tally: Tallied,
}

/// A layer that is wanted.
#[derive(Clone)]
struct Wanted {
    descriptor: Descriptor,
    diff_id: DiffId,
    chain: ChainId,
    tally: TalliedLayer,
}

impl ImageStore {
    /// Pulls an image and returns its id. The registry is always asked what a tag means; layers that are here are not
    /// fetched again. Calls for the same image and credentials are one pull, which ends when its last caller leaves.
    ///
    /// # Errors
    /// Everything that can be wrong with a reference, a registry or an image; see [`ImageError`]. Nothing is left behind.
    pub async fn pull(self: &Arc<Self>, request: PullRequest) -> Result<ImageId> {
        let mut failures = Vec::new();
        for reference in self.candidates(&request.reference)? {
            match self.begin(reference, &request).1.await {
                Ok(id) => return Ok(id),
                Err(error) => failures.push(error),
            }
        }
        Err(failed(request.reference, failures))
    }

    /// As [`Self::pull`]; `report` is told how far it is, several times a second and at its end.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn pull_reporting(
        self: &Arc<Self>,
        request: PullRequest,
        report: impl Fn(PullProgress),
    ) -> Result<ImageId> {
        self.pull_telling(request, |tally| report(tally.now())).await
    }

    /// As [`Self::pull_reporting`], layer by layer: lowest first, none until the manifest is here. An image may have one several times.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn pull_reporting_layers(
        self: &Arc<Self>,
        request: PullRequest,
        report: impl Fn(Vec<LayerProgress>),
    ) -> Result<ImageId> {
        self.pull_telling(request, |tally| report(tally.layers())).await
    }

    async fn pull_telling(self: &Arc<Self>, request: PullRequest, tell: impl Fn(&Tally)) -> Result<ImageId> {
        let mut failures = Vec::new();
        for reference in self.candidates(&request.reference)? {
            let (tally, pull) = self.begin(reference, &request);
            let mut pull = Box::pin(pull);
            let mut looks = tokio::time::interval(LOOK);
            let pulled = loop {
                tokio::select! {
                    biased;
                    pulled = &mut pull => break pulled,
                    _ = looks.tick() => tell(&tally),
                }
            };
            tell(&tally);
            match pulled {
                Ok(id) => return Ok(id),
                Err(error) => failures.push(error),
            }
        }
        Err(failed(request.reference, failures))
    }

    /// What a name means: one reference, or as many as registries.conf has registries to search. Never none.
    fn candidates(&self, name: &str) -> Result<Vec<Reference>> {
        match self.config().registries {
            Some(registries) => registries.candidates(name),
            None => Ok(vec![Reference::parse(name)?]),
        }
    }

    /// A pull that goes on when it is waited for, and its figures.
    fn begin(
        self: &Arc<Self>,
        reference: Reference,
        request: &PullRequest,
    ) -> (Arc<Tally>, impl Future<Output = Result<ImageId>> + use<>) {
        let auth = request.auth_for(&reference);
        let platform = request.platform.as_ref().map_or_else(Platform::host, Platform::normalized);
        let key = flight_key(&reference, &auth, &platform);
        let tally = self.tallies.of(&key);
        let (store, own) = (Arc::clone(self), Arc::clone(&tally));
        let pull = async move {
            let this = Arc::clone(&store);
            let work = || async move {
                let image = reference.to_string();
                this.pull_now(reference, auth, platform, own).await.map_err(|error| error.of_pull(&image))
            };
            store.pulls.join(&key, work).await.0
        };
        (tally, pull)
    }

    async fn pull_now(
        self: Arc<Self>,
        reference: Reference,
        auth: Auth,
        platform: Platform,
        tally: Arc<Tally>,
    ) -> Result<ImageId> {
        // Read anew with every pull, as registries' settings are.
        let policy = self.config().signature_policy;
        let trust = policy.map(|policy| Trust::of(&policy, &reference)).transpose()?;
        let config = self.registry_config();
        let patience = config.progress_timeout;
        let session = Arc::new(Session::new(reference, auth, config, &self.clients)?);
        let resolved = step!("resolve", session.resolve(&platform)).await?;
        if let Some(trust) = trust {
            step!("signatures", trust.admit(&session, &resolved.top, &resolved.digest, patience)).await?;
        }
        let layers = resolved.manifest.layers.iter();
        let tally = tally.begin(layers.map(|layer| (layer.digest.clone(), layer.size)));
        let pulling = Pulling { session: Arc::clone(&session), image: Budget::default(), tally };
        let pins = self.fetch_layers(&pulling, &resolved).await?;
        let id = ImageId::new(resolved.manifest.config.digest.clone());
        let reference = &session.reference;
        let tags = match reference.selector() {
            Selector::Tag(_) => vec![reference.to_string()],
            Selector::Digest(_) => Vec::new(),
        };
        let digests = vec![format!("{}@{}", reference.name(), resolved.top)];
        let manifest = Some(resolved.manifest_bytes);
        let new = NewImage { tags, digests, manifest, ..NewImage::of(id.clone(), resolved.config, pins) };
        let shared = Arc::clone(&self.shared);
        let stop = Stop::default();
        let _with_this_task = stop.on_drop();
        step!("record", blocking("recording an image", move || shared.commit(new, &stop))).await?;
        layer::give_memory_back();
        Ok(id)
    }

    /// What all dealings with registries have in common.
    pub(crate) fn registry_config(&self) -> RegistryConfig {
        let config = self.config();
        RegistryConfig {
            config_dir: config.registry_config_dir,
            registries: config.registries,
            progress_timeout: config.pull_progress_timeout,
            credentials: Places { file: config.auth_file, helper_dir: config.credential_helper_dir },
        }
    }

    async fn fetch_layers(self: &Arc<Self>, pulling: &Pulling, resolved: &Resolved) -> Result<Vec<Arc<Pin>>> {
        let (mut chain, turns): (Option<ChainId>, _) = (None, self.slots.turns());
        let mut layers = Vec::with_capacity(resolved.diff_ids.len());
        let listed = resolved.manifest.layers.iter().zip(&resolved.diff_ids);
        for (number, (descriptor, diff_id)) in listed.enumerate() {
            let next = ChainId::above(chain.as_ref(), diff_id);
            let wanted = Wanted {
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                chain: next.clone(),
                tally: pulling.tally.layer(number),
            };
            layers.push(self.layer(pulling, wanted, &turns));
            chain = Some(next);
        }
        try_join_all(layers).await
    }

    /// One layer: here already, being fetched by another pull, or fetched now.
    async fn layer(
        self: &Arc<Self>,
        pulling: &Pulling,
        wanted: Wanted,
        turns: &Turns<'_>,
    ) -> Result<Arc<Pin>> {
        // Only who would get the same bytes from the same place waits for another pull: it may be slow, or lie.
        let Wanted { descriptor: Descriptor { digest, urls, .. }, diff_id, chain, tally } = &wanted;
        let key = format!("{chain} as {digest} of {} {}", pulling.session.reference.host(), urls.join(" "));
        loop {
            if let Some(pin) = self.shared.pin(diff_id, chain) {
                tally.ends(LayerState::Exists);
                return Ok(pin);
            }
            // Taken before the layer is: whoever joins it must not wait for the slot of another pull.
            let _slot = turns.slot().await;
            let start = || {
                let (store, pulling, wanted) = (Arc::clone(self), pulling.clone(), wanted.clone());
                async move { store.fetch_layer(&pulling, &wanted).await }
            };
            match self.layers.join(&key, start).await {
                // The other pull may have had other credentials or another registry.
                (Err(_), false) => continue,
                (Err(error), true) => return Err(error),
                (Ok(pin), _) => {
                    tally.ends(LayerState::Done);
                    return Ok(pin);
                }
            }
        }
    }

    async fn fetch_layer(self: Arc<Self>, pulling: &Pulling, wanted: &Wanted) -> Result<Arc<Pin>> {
        let Wanted { descriptor, diff_id, chain, tally } = wanted;
        let session = &pulling.session;
        let blob = Blob { digest: descriptor.digest.clone(), size: descriptor.size };
        // The image may list it twice, or another have brought it meanwhile.
        if let Some(pin) = self.shared.pin(diff_id, chain) {
            return Ok(pin);
        }
        let mut attempts = Attempts::default();
        let mut refused = None;
        for (endpoint, foreign) in session.places(descriptor) {
            let unpack = self.unpack_from(pulling, tally, endpoint, foreign.as_ref(), &blob, diff_id);
            match step!("layer", unpack, digest = %blob.digest, bytes = blob.size).await {
                Ok(unclaimed) => {
                    let unclaimed = match foreign {
                        None => unclaimed.came_from(source_of(&session.reference, descriptor)),
                        Some(_) => unclaimed,
                    };
                    return Ok(unclaimed.claim(&self.shared, diff_id, chain));
                }
                Err(ImageError::Fetch { attempts: more, .. }) => attempts.0.extend(more.0),
                // Another host may serve the same layer undamaged.
                Err(error @ ImageError::Layer { .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| ImageError::Fetch {
            object: format!("layer {} of {}", blob.digest, session.reference),
            attempts,
        }))
    }

    async fn unpack_from(
        &self,
        pulling: &Pulling,
        tally: &TalliedLayer,
        endpoint: &Endpoint,
        foreign: Option<&Url>,
        blob: &Blob,
        diff_id: &DiffId,
    ) -> Result<Unclaimed> {
        let fetched = self.unpack_counted(pulling, tally, endpoint, foreign, blob, diff_id).await;
        if fetched.is_err() {
            tally.failed();
        }
        fetched
    }

    async fn unpack_counted(
        &self,
        pulling: &Pulling,
        tally: &TalliedLayer,
        endpoint: &Endpoint,
        foreign: Option<&Url>,
        blob: &Blob,
        diff_id: &DiffId,
    ) -> Result<Unclaimed> {
        let (sink, chunks) = mpsc::channel(CHUNKS);
        let stop = Stop::default();
        // Ends both threads when this task is dropped, however much the archive still holds.
        let _with_this_task = stop.on_drop();
        let expected = Expected {
            blob: Some(blob.digest.clone()),
            size: Some(blob.size),
            diff_id: Some(diff_id.clone()),
        };
        let (shared, digest, image) = (Arc::clone(&self.shared), blob.digest.clone(), pulling.image.clone());
        let source = Source::Channel(chunks, tally.comes());
        let unpacking = blocking("unpacking a layer", move || {
            layer::unpack(&shared, source, &expected, &digest, &image, &stop)
        });
        // Both always run to their end: a failed download ends the unpacker's input, and the unpacker reads all of it.
        let (streamed, unpacked) =
            tokio::join!(pulling.session.stream(endpoint, foreign, blob, sink), unpacking);
        if let Err(error) = streamed {
            let mut attempts = Attempts::default();
            attempts.add(foreign.and_then(Url::host_str).unwrap_or(endpoint.name()), error);
            return Err(ImageError::Fetch { object: format!("layer {}", blob.digest), attempts });
        }
        unpacked
    }
}

/// Where the bytes of a layer are, now that they have turned out to be what the descriptor says.
fn source_of(reference: &Reference, descriptor: &Descriptor) -> BlobSource {
    BlobSource {
        registry: reference.host().to_owned(),
        repository: reference.repository().to_owned(),
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone().unwrap_or_default(),
    }
}

/// The error of a pull that failed for every meaning of its name.
fn failed(name: String, mut failures: Vec<ImageError>) -> ImageError {
    match failures.len() {
        1 => failures.remove(0),
        _ => ImageError::Search { name, failures },
    }
}

/// Pulls with different credentials are different pulls, and those for different platforms. Secrets do not go into the key.
fn flight_key(reference: &Reference, auth: &Auth, platform: &Platform) -> String {
    let mut hash = Sha256::new();
    let parts = [
        &auth.username,
        &auth.password,
        &auth.auth,
        &auth.server_address,
        &auth.identity_token,
        &auth.registry_token,
    ];
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{reference} {platform:?} {}", Digest::from_sha256(&hash.finalize().into()))
}
