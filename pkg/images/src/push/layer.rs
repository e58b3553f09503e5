//! One layer of a push.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use husk_model::Kind;

use super::{
    blob,
    progress::{PushProgress, PushState, Report},
};
use crate::{
    DiffId, Image, ImageError, ImageStore, Result,
    manifest::GZIP_LAYER,
    registry::{Attempts, Begun, Content, Endpoint, RegistryError, Session, Upload},
    stop::Stop,
    store::{BlobSource, LayerRecord, blocking},
    unpack::Destination,
};

/// Digests by which the registry may know a layer, that are tried.
const KNOWN_MAX: usize = 4;
/// How often the figures of an upload are told.
const LOOK: Duration = Duration::from_millis(200);

/// A push under way.
pub(super) struct Pushing<'a> {
    pub(super) session: &'a Session,
    pub(super) endpoint: &'a Endpoint,
    pub(super) image: &'a Image,
    pub(super) report: Arc<Report>,
}

impl Pushing<'_> {
    /// Brings a layer to the repository; what it is there.
    pub(super) async fn push_layer(
        &self,
        store: &ImageStore,
        record: &LayerRecord,
        layer: &Destination,
    ) -> Result<BlobSource> {
        let object = format!("layer {}", record.diff_id);
        let sought = self.known(record).await;
        let upload = match sought.map_err(|error| self.failed(&object, error))? {
            Known::There(source) => return Ok(source),
            Known::Not(upload) => upload,
        };
        let content = self.prepare(store, record, layer).await?;
        self.send(&record.diff_id, &content, upload).await.map_err(|error| self.failed(&object, error))?;
        Ok(self.source(&content))
    }

    /// The configuration goes as it is stored.
    pub(super) async fn push_config(&self, store: &ImageStore, config: &[u8]) -> Result<()> {
        let object = format!("configuration {}", self.image.id);
        let (spool, bytes) = (store.shared.directory().join("spool"), config.to_vec());
        let content = blocking("writing a configuration", move || blob::of(&bytes, &spool)).await?;
        let there = self.session.has_blob(self.endpoint, &content.digest, content.size).await;
        if there.map_err(|error| self.failed(&object, error))? {
            return Ok(());
        }
        let sent = self.upload(&content, None, &Arc::default()).await;
        sent.map_err(|error| self.failed(&object, error))
    }

    /// The error of a step that concerns `object`.
    fn failed(&self, object: &str, error: RegistryError) -> ImageError {
        let mut attempts = Attempts::default();
        attempts.add(self.endpoint.name(), error);
        ImageError::Push { object: format!("{object} of {}", self.session.reference), attempts }
    }

    fn tell(&self, layer: &DiffId, state: PushState, done: u64, total: u64) {
        (self.report)(PushProgress { layer: layer.clone(), state, done, total });
    }

    fn source(&self, content: &Content) -> BlobSource {
        BlobSource {
            registry: self.session.reference.host().to_owned(),
            repository: self.session.reference.repository().to_owned(),
            digest: content.digest.clone(),
            size: content.size,
            media_type: GZIP_LAYER.to_owned(),
        }
    }

    /// Looks for the layer by the digests that this registry is known to have it by, there and in other repositories.
    async fn known(&self, record: &LayerRecord) -> Result<Known, RegistryError> {
        let (registry, repository) = (self.session.reference.host(), self.session.reference.repository());
        let mut known: Vec<&BlobSource> =
            record.sources.iter().rev().filter(|source| source.registry == registry).collect();
        known.truncate(KNOWN_MAX);
        let mut asked = Vec::new();
        for source in &known {
            if asked.contains(&&source.digest) {
                continue;
            }
            asked.push(&source.digest);
            if self.session.has_blob(self.endpoint, &source.digest, source.size).await? {
                self.tell(&record.diff_id, PushState::Exists, source.size, source.size);
                return Ok(Known::There(BlobSource {
                    repository: repository.to_owned(),
                    ..(*source).clone()
                }));
            }
        }
        let elsewhere = known.into_iter().find(|source| source.repository != repository);
        let Some(source) = elsewhere else { return Ok(Known::Not(None)) };
        let mount = (&source.digest, source.repository.as_str());
        match self.session.begin_upload(self.endpoint, Some(mount)).await {
            Ok(Begun::Mounted) => {
                let state = PushState::Mounted(source.repository.clone());
                self.tell(&record.diff_id, state, source.size, source.size);
                Ok(Known::There(BlobSource { repository: repository.to_owned(), ..source.clone() }))
            }
            Ok(Begun::Upload(upload)) => Ok(Known::Not(Some(upload))),
            // Whoever may not read there uploads it; whether they may write here, the upload tells.
            Err(error)
                if matches!(
                    error.kind(),
                    Kind::Unauthenticated | Kind::PermissionDenied | Kind::NotFound
                ) =>
            {
                Ok(Known::Not(None))
            }
            Err(error) => Err(error),
        }
    }

    async fn prepare(
        &self,
        store: &ImageStore,
        record: &LayerRecord,
        layer: &Destination,
    ) -> Result<Content> {
        let (image, record, layer) = (self.image.id.clone(), record.clone(), layer.clone());
        let (spool, report) = (store.shared.directory().join("spool"), Arc::clone(&self.report));
        let stop = Stop::default();
        let _with_this_task = stop.on_drop();
        blocking("making a blob", move || {
            let tell = |done| {
                let (layer, total) = (record.diff_id.clone(), record.archive);
                report(PushProgress { layer, state: PushState::Preparing, done, total });
            };
            blob::make(&image, &record, &layer, &spool, &tell, &stop)
        })
        .await
    }

    async fn send(
        &self,
        layer: &DiffId,
        content: &Content,
        upload: Option<Upload>,
    ) -> Result<(), RegistryError> {
        // The same blob may have come by another way.
        if self.session.has_blob(self.endpoint, &content.digest, content.size).await? {
            self.tell(layer, PushState::Exists, content.size, content.size);
            return Ok(());
        }
        let counted = Arc::new(AtomicU64::new(0));
        let mut sending = Box::pin(self.upload(content, upload, &counted));
        let mut looks = tokio::time::interval(LOOK);
        let sent = loop {
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                _ = looks.tick() => {
                    self.tell(layer, PushState::Pushing, counted.load(Ordering::Relaxed), content.size);
                }
            }
        };
        sent?;
        self.tell(layer, PushState::Pushed, content.size, content.size);
        Ok(())
    }

    async fn upload(
        &self,
        content: &Content,
        upload: Option<Upload>,
        counted: &Arc<AtomicU64>,
    ) -> Result<(), RegistryError> {
        let upload = match upload {
            Some(upload) => upload,
            None => match self.session.begin_upload(self.endpoint, None).await? {
                Begun::Upload(upload) => upload,
                Begun::Mounted => return Ok(()),
            },
        };
        self.session.upload(self.endpoint, upload, content, counted).await
    }
}

/// What is known of a layer at the registry.
enum Known {
    There(BlobSource),
    /// It has to be sent, to an upload that was begun already, if there is one.
    Not(Option<Upload>),
}
