//! Import: the images of an archive become images of the store.

use std::{io::Read, path::Path, sync::Arc};

use husk_model::{Digest, ImageId};
use sha2::{Digest as _, Sha256};

use super::{
    Progress, Report,
    members::Members,
    names::{self, DockerEntry},
};
use crate::{
    DiffId, Image, ImageError, ImageStore, Platform, Result,
    ids::ChainId,
    layer,
    manifest::{CONFIG_MAX, ConfigFile, Document, Entry, LAYERS_MAX, MANIFEST_MAX, Manifest},
    pipeline::{Expected, Source},
    reference::Selector,
    resolve::{check_config, pick},
    stop::Stop,
    store::{NewImage, Pin, Shared, blocking},
    unpack::limits::Budget,
};

/// Images of one archive.
const IMAGES_MAX: usize = 1000;
/// Manifests and indexes that are read for one image.
const DOCUMENTS_MAX: usize = 32;

impl ImageStore {
    /// Imports every image for this node from `archive`: an OCI layout as a directory or tar, or what `docker save` writes,
    /// plain or compressed. An image that the archive gives no name can be reached by its id. Digests are checked as in a
    /// pull; images for other platforms are skipped with a warning, and those that come before a broken one stay.
    ///
    /// # Errors
    /// [`ImageError::Archive`] when it is neither format or holds nothing for this node; what a pull fails with otherwise.
    pub async fn import(
        self: &Arc<Self>,
        archive: &Path,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Vec<Arc<Image>>> {
        let (shared, archive) = (Arc::clone(&self.shared), archive.to_owned());
        let stop = Stop::default();
        let _with_this_task = stop.on_drop();
        let loaded = blocking("importing images", move || {
            let members = Members::open(&archive, &shared.directory().join("spool"), &stop)?;
            import(&shared, members, Arc::new(progress), &stop)
        })
        .await?;
        layer::give_memory_back();
        let mut ids: Vec<ImageId> = loaded.into_iter().map(|loaded| loaded.id).collect();
        ids.sort();
        ids.dedup();
        Ok(ids.iter().filter_map(|id| self.resolve(id.as_str())).collect())
    }

    /// As [`Self::import`], of an archive that comes as a stream: it is kept in a file of the store until it is read, which nobody else
    /// sees and which goes with this process. Tells what the archive had, in its order. `archive` is read on a thread for it; its end, or an
    /// error of it, must come when nobody sends any more.
    ///
    /// # Errors
    /// As [`Self::import`]; [`ImageError::ArchiveIo`] when the disk is almost full.
    pub async fn load(
        self: &Arc<Self>,
        archive: impl Read + Send + 'static,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Vec<Loaded>> {
        let (shared, stop) = (Arc::clone(&self.shared), Stop::default());
        let _with_this_task = stop.on_drop();
        let loaded = blocking("loading images", move || {
            let members = Members::of_stream(archive, &shared.directory().join("spool"), &stop)?;
            import(&shared, members, Arc::new(progress), &stop)
        })
        .await?;
        layer::give_memory_back();
        Ok(loaded)
    }
}

/// An image that an archive had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub id: ImageId,
    /// Its names in the archive, in full; none for an image that it gives no name.
    pub tags: Vec<String>,
}

pub(crate) struct Importer<'a> {
    shared: &'a Arc<Shared>,
    members: Members,
    /// What is said of a member that is not there.
    absent: fn(&str) -> ImageError,
    progress: Arc<Report>,
    node: Platform,
    stop: Stop,
}

fn import(shared: &Arc<Shared>, members: Members, progress: Arc<Report>, stop: &Stop) -> Result<Vec<Loaded>> {
    let importer = Importer { shared, members, absent, progress, node: Platform::host(), stop: stop.clone() };
    let docker = names::docker_entries(&importer.members)?;
    let found = match (importer.members.small("index.json", MANIFEST_MAX)?, &docker) {
        (Some(index), _) => importer.oci(&index, docker.as_deref().unwrap_or_default())?,
        (None, Some(entries)) => importer.docker(entries)?,
        (None, None) => {
            return Err(ImageError::Archive {
                reason: "neither index.json (OCI layout) nor manifest.json (docker save) in it".into(),
            });
        }
    };
    // An index has an entry for each name.
    let mut loaded: Vec<Loaded> = Vec::new();
    for image in found {
        match loaded.iter_mut().find(|have| have.id == image.id) {
            Some(have) => have.tags.extend(image.tags),
            None => loaded.push(image),
        }
    }
    for image in &mut loaded {
        image.tags.sort();
        image.tags.dedup();
    }
    if loaded.is_empty() { Err(ImageError::Archive { reason: "no image in it".into() }) } else { Ok(loaded) }
}

/// Reads all that an import asks an archive for, and keeps nothing.
#[cfg(feature = "fuzzing")]
pub(crate) fn docker_names(archive: &Path, spool: &Path) -> Result<()> {
    let members = Members::open(archive, spool, &Stop::default())?;
    for entry in names::docker_entries(&members)?.unwrap_or_default() {
        names::docker_tags(std::slice::from_ref(&entry));
        names::full_tags(&entry.repo_tags)?;
        for name in entry.layers.iter().chain([&entry.config]) {
            members.small(name, CONFIG_MAX)?;
        }
    }
    if let Some(index) = members.small("index.json", MANIFEST_MAX)?
        && let Ok(Document::Index(entries)) = Document::parse(&index, None)
    {
        entries.iter().for_each(|entry| drop(names::of_descriptor(entry)));
    }
    Ok(())
}

impl<'a> Importer<'a> {
    /// For images of a directory of blobs, as an OCI layout has it.
    pub(crate) fn of_layout(
        shared: &'a Arc<Shared>,
        directory: &Path,
        absent: fn(&str) -> ImageError,
        progress: &Arc<Report>,
        stop: &Stop,
    ) -> Self {
        let members = Members::of(directory);
        let progress = Arc::clone(progress);
        Self { shared, members, absent, progress, node: Platform::host(), stop: stop.clone() }
    }

    /// The image for this node that `entry` leads to, under these names.
    pub(crate) fn take(&self, entry: &Entry, tags: Vec<String>, digests: Vec<String>) -> Result<ImageId> {
        let (manifest, config, diff_ids) = self.image(entry)?;
        let pins = self.oci_layers(&manifest, diff_ids)?;
        Ok(self.commit(manifest.config.digest, config, pins, tags, digests)?.id)
    }

    /// The layers of a manifest, by the digests that it gives.
    fn oci_layers(&self, manifest: &Manifest, diff_ids: Vec<DiffId>) -> Result<Vec<Arc<Pin>>> {
        let layers = manifest.layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| {
            let expected = Expected {
                blob: Some(descriptor.digest.clone()),
                size: Some(descriptor.size),
                diff_id: Some(diff_id.clone()),
            };
            (blob_path(&descriptor.digest), diff_id, expected)
        });
        self.layers(layers.collect())
    }

    /// An OCI layout; `docker` adds the names that `docker save` has beside it.
    fn oci(&self, index: &[u8], docker: &[DockerEntry]) -> Result<Vec<Loaded>> {
        let document = Document::parse(index, None)
            .map_err(|reason| ImageError::Archive { reason: format!("index.json: {reason}") })?;
        let Document::Index(entries) = document else {
            return Err(ImageError::Archive { reason: "index.json is not an index".into() });
        };
        if entries.len() > IMAGES_MAX {
            return Err(ImageError::Archive { reason: format!("more than {IMAGES_MAX} images") });
        }
        let for_node = |entry: &&Entry| entry.platform.as_ref().is_none_or(|offer| self.node.suits(offer));
        let tags = names::docker_tags(docker);
        let mut ids = Vec::new();
        let mut skipped = Skipped::default();
        for entry in entries.iter().filter(for_node) {
            // Its index may say nothing of a platform, and its configuration name another.
            let Some((manifest, config, diff_ids)) = skipped.unless_foreign(self.image(entry))? else {
                continue;
            };
            let pins = self.oci_layers(&manifest, diff_ids)?;
            let (mut names, mut digests) = (Vec::new(), Vec::new());
            if let Some(reference) = names::of_descriptor(entry) {
                digests.push(format!("{}@{}", reference.name(), entry.digest));
                if let Selector::Tag(_) = reference.selector() {
                    names.push(reference.to_string());
                }
            }
            if let Some(more) = tags.get(manifest.config.digest.hex()) {
                names.extend(names::full_tags(more)?);
            }
            ids.push(self.commit(manifest.config.digest, config, pins, names, digests)?);
        }
        if ids.is_empty() && !entries.is_empty() {
            // Tells what there is instead.
            pick(&entries, &self.node, "of the archive")?;
        }
        skipped.then(ids)
    }

    /// `docker save` as it was before Docker 25: layers are named by the manifest and checked by their diff ids.
    fn docker(&self, entries: &[DockerEntry]) -> Result<Vec<Loaded>> {
        if entries.len() > IMAGES_MAX {
            return Err(ImageError::Archive { reason: format!("more than {IMAGES_MAX} images") });
        }
        let (mut ids, mut skipped) = (Vec::new(), Skipped::default());
        for entry in entries {
            let config = self.small(&entry.config, CONFIG_MAX)?;
            let digest = sha256(&config);
            let content = |reason: String| ImageError::Content {
                object: "image configuration",
                digest: digest.clone(),
                reason,
            };
            let file = ConfigFile::parse(&config).map_err(content)?;
            let names = &entry.layers;
            if names.len() != file.diff_ids().len() || names.len() > LAYERS_MAX {
                return Err(content(format!(
                    "it names {} layers and manifest.json {}",
                    file.diff_ids().len(),
                    names.len()
                )));
            }
            if let Some(built_for) = file.platform().filter(|built_for| !self.node.suits(built_for)) {
                let image = entry.repo_tags.first().map_or_else(|| digest.to_string(), String::clone);
                let (wanted, offered) = (self.node.to_string(), built_for.to_string());
                skipped.add(ImageError::Platform { image, wanted, offered });
                continue;
            }
            let layer = |(name, diff_id): (&String, &DiffId)| {
                let expected = Expected { blob: None, size: None, diff_id: Some(diff_id.clone()) };
                (name.clone(), diff_id.clone(), expected)
            };
            let layers = names.iter().zip(file.diff_ids()).map(layer).collect();
            let pins = self.layers(layers)?;
            let tags = names::full_tags(&entry.repo_tags)?;
            ids.push(self.commit(digest, config, pins, tags, Vec::new())?);
        }
        skipped.then(ids)
    }

    fn commit(
        &self,
        config_digest: Digest,
        config: Vec<u8>,
        pins: Vec<Arc<Pin>>,
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> Result<Loaded> {
        let loaded = Loaded { id: ImageId::new(config_digest), tags: tags.clone() };
        let new = NewImage { tags, digests, ..NewImage::of(loaded.id.clone(), config, pins) };
        self.shared.commit(new, &self.stop)?;
        Ok(loaded)
    }

    /// Follows an entry to the image for this node: manifest, configuration and diff ids.
    fn image(&self, entry: &Entry) -> Result<(Manifest, Vec<u8>, Vec<DiffId>)> {
        let mut candidates = vec![entry.clone()];
        let mut refused = None;
        for _ in 0..DOCUMENTS_MAX {
            let Some(entry) = candidates.pop() else { break };
            let descriptor = entry
                .descriptor()
                .map_err(|reason| ImageError::Archive { reason: format!("an index: {reason}") })?;
            let digest = descriptor.digest;
            let bytes = self.checked("manifest", &digest, MANIFEST_MAX)?;
            let content = |reason| ImageError::Content { object: "manifest", digest: digest.clone(), reason };
            match Document::parse(&bytes, descriptor.media_type.as_deref()).map_err(content)? {
                Document::Manifest(manifest) => {
                    let config = self.checked("image configuration", &manifest.config.digest, CONFIG_MAX)?;
                    match check_config(&manifest, &config, &self.node, manifest.config.digest.as_str()) {
                        Ok(diff_ids) => return Ok((manifest, config, diff_ids)),
                        // One of several that said no platform; the next may be it.
                        Err(error) if !candidates.is_empty() => drop(refused.get_or_insert(error)),
                        Err(error) => return Err(refused.unwrap_or(error)),
                    }
                }
                Document::Index(entries) => {
                    let (picked, _) = pick(&entries, &self.node, digest.as_str())?;
                    candidates.extend(picked.into_iter().rev().cloned());
                }
            }
        }
        let reason = format!("more than {DOCUMENTS_MAX} manifests and indexes lead to one image");
        Err(refused.unwrap_or(ImageError::Archive { reason }))
    }

    /// Layers by member name, lowest first.
    fn layers(&self, layers: Vec<(String, DiffId, Expected)>) -> Result<Vec<Arc<Pin>>> {
        let (mut below, image): (Option<ChainId>, _) = (None, Budget::default());
        let mut pins = Vec::with_capacity(layers.len());
        for (name, diff_id, expected) in layers {
            let chain = ChainId::above(below.as_ref(), &diff_id);
            pins.push(match self.shared.pin(&diff_id, &chain) {
                Some(pin) => pin,
                None => self.layer(&name, &diff_id, &expected, &chain, &image)?,
            });
            below = Some(chain);
        }
        Ok(pins)
    }

    fn layer(
        &self,
        name: &str,
        diff_id: &DiffId,
        expected: &Expected,
        chain: &ChainId,
        image: &Budget,
    ) -> Result<Arc<Pin>> {
        let (member, total) = self.members.member(name)?.ok_or_else(|| (self.absent)(name))?;
        let what = format!("layer {diff_id}");
        let progress = Arc::clone(&self.progress);
        let mut done = 0;
        let source = Source::File(
            member,
            Box::new(move |length| {
                done += length;
                progress(Progress { what: what.clone(), done, total });
            }),
        );
        let blob = expected.blob.as_ref().unwrap_or(diff_id.digest());
        Ok(layer::unpack(self.shared, source, expected, blob, image, &self.stop)?.claim(
            self.shared,
            diff_id,
            chain,
        ))
    }

    fn small(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.members.small(name, limit)?.ok_or_else(|| (self.absent)(name))
    }

    /// A blob whose content is what its name says.
    fn checked(&self, object: &str, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.small(&blob_path(digest), limit)?;
        let actual = sha256(&bytes);
        if actual != *digest {
            return Err(ImageError::Digest { object: object.to_owned(), expected: digest.clone(), actual });
        }
        Ok(bytes)
    }
}

/// Images of the archive that are for other platforms: why the first is, which is the answer when there is no other.
#[derive(Default)]
struct Skipped(Option<ImageError>);

impl Skipped {
    fn add(&mut self, error: ImageError) {
        tracing::warn!(%error, "an image of the archive is skipped");
        self.0.get_or_insert(error);
    }

    /// Passes everything on but an image for another platform.
    fn unless_foreign<T>(&mut self, image: Result<T>) -> Result<Option<T>> {
        match image {
            Err(error @ ImageError::Platform { .. }) => {
                self.add(error);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// What was imported, unless all that there was is for other platforms.
    fn then(self, ids: Vec<Loaded>) -> Result<Vec<Loaded>> {
        match self.0 {
            Some(error) if ids.is_empty() => Err(error),
            _ => Ok(ids),
        }
    }
}

fn absent(name: &str) -> ImageError {
    ImageError::Archive { reason: format!("{name} is named by it but not in it") }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}
