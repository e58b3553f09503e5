//! Making a pulled or imported image visible.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, PoisonError},
};

use husk_model::ImageId;
use husk_node::now;
use rustix::fs::{Mode, OFlags};

use super::{
    Loose, Pin, Shared,
    db::{Changes, ImageRecord, LayerRecord},
    job::Job,
    state::{ImageSlot, State},
};
use crate::{
    ImageConfig, ImageError, Result,
    compose::{self, Composed},
    layer,
    manifest::ConfigFile,
    stop::Stop,
};

/// An image whose layers are all there.
pub(crate) struct NewImage {
    pub(crate) id: ImageId,
    /// The configuration as it came, verified against the id.
    pub(crate) config: Vec<u8>,
    /// Layers, lowest first.
    pub(crate) pins: Vec<Arc<Pin>>,
    /// Names that from now on mean this image.
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    /// The image that it was made from here.
    pub(crate) parent: Option<ImageId>,
    /// The manifest that it was pulled by.
    pub(crate) manifest: Option<Vec<u8>>,
    /// What whoever makes it wants to know of that later.
    pub(crate) note: Option<Vec<u8>>,
}

/// Largest manifest that is kept, which is only good for pushing the image as it came, and largest note.
const KEPT_MAX: usize = 1 << 20;

/// Bytes of all images' configurations together. Each is in memory as long as its image is there, labels and all: images have some KiB,
/// hostile ones as much as [`CONFIG_MAX`](crate::manifest::CONFIG_MAX) and no layers, so that the disk would never fill.
const CONFIGS_MAX: u64 = 256 << 20;

impl NewImage {
    /// One without names.
    pub(crate) fn of(id: ImageId, config: Vec<u8>, pins: Vec<Arc<Pin>>) -> Self {
        Self {
            id,
            config,
            pins,
            tags: Vec::new(),
            digests: Vec::new(),
            parent: None,
            manifest: None,
            note: None,
        }
    }
}

impl Shared {
    /// Records the image, or gives an existing one further names. Visible to readers and durable when this returns.
    ///
    /// # Errors
    /// Those of composing a layer and of the database; when `stop` is set meanwhile, nothing was recorded.
    pub(crate) fn commit(self: &Arc<Self>, new: NewImage, stop: &Stop) -> Result<()> {
        let file = ConfigFile::parse(&new.config).map_err(|reason| ImageError::Content {
            object: "image configuration",
            digest: new.id.digest().clone(),
            reason,
        })?;
        // Before the database's lock: this may copy files, and nobody else's commit should wait for that.
        self.compose(&new.pins, stop)?;
        let db = self.db();
        self.check_memory(&new)?;
        let (changes, record) = self.plan(&new);
        db.apply(&changes)?;
        let mut state = self.state();
        for record in changes.put_images {
            if let Some(slot) = state.images.get_mut(&record.id) {
                slot.record = record;
            }
        }
        if !state.images.contains_key(&new.id) {
            for key in &record.layers {
                if let Some(layer) = state.layers.get_mut(key) {
                    layer.images += 1;
                    layer.committed = true;
                }
            }
            let slot = ImageSlot {
                config: Arc::new(ImageConfig::from_file(&file)),
                config_size: new.config.len() as u64,
                leases: 0,
                leaving: false,
                record,
            };
            state.images.insert(new.id.clone(), slot);
        }
        self.publish(&state);
        drop(state);
        self.enqueue(Job::Settle(vec![new.id.clone()]));
        Ok(())
    }

    /// Whether one more configuration may be kept.
    fn check_memory(&self, new: &NewImage) -> Result<()> {
        let state = self.state();
        let others = state.images.iter().filter(|(id, _)| **id != new.id);
        let sum: u64 = others.map(|(_, slot)| slot.config_size).sum();
        if sum + new.config.len() as u64 <= CONFIGS_MAX {
            return Ok(());
        }
        let reason = format!(
            "the configurations of all images would take more than {CONFIGS_MAX} bytes of memory; remove images"
        );
        let full = io::Error::new(io::ErrorKind::StorageFull, reason);
        Err(ImageError::store("keep one more image in", &self.directory)(full))
    }

    /// The changes that a commit makes, and the image's own record.
    fn plan(&self, new: &NewImage) -> (Changes, ImageRecord) {
        let state = self.state();
        let mut changes = Changes::default();
        let existing = state.images.get(&new.id).map(|slot| slot.record.clone());
        let is_new = existing.is_none();
        let mut record = existing.unwrap_or_else(|| ImageRecord {
            id: new.id.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            layers: new.pins.iter().map(|pin| pin.key.clone()).collect(),
            stored_at: now(),
            hidden: false,
            unsettled: Some(self.boot.clone()),
            parent: None,
            holders: BTreeSet::new(),
        });
        record.hidden = false;
        if record.parent.is_none() {
            record.parent.clone_from(&new.parent);
        }
        merge(&mut record.tags, &new.tags);
        merge(&mut record.digests, &new.digests);
        changes.put_images =
            losers(&state, &new.id, &new.tags.iter().chain(&new.digests).collect::<Vec<_>>());
        changes.put_images.push(record.clone());
        let manifest = new.manifest.as_ref().filter(|manifest| manifest.len() <= KEPT_MAX);
        changes.put_manifest = manifest.map(|manifest| (new.id.clone(), manifest.clone()));
        let note = new.note.as_ref().filter(|note| note.len() <= KEPT_MAX);
        changes.put_note = note.map(|note| (new.id.clone(), note.clone()));
        if is_new {
            changes.put_config = Some((new.id.clone(), new.config.clone()));
            let keys: BTreeSet<&String> = record.layers.iter().collect();
            let fresh = keys.into_iter().filter_map(|key| Some((key, state.layers.get(key)?)));
            changes.put_layers = fresh
                .filter(|(_, layer)| !layer.committed)
                .map(|(key, layer)| (key.clone(), layer.record.clone()))
                .collect();
        }
        (changes, record)
    }

    /// Gives layers that depend on those below what they need.
    fn compose(self: &Arc<Self>, pins: &[Arc<Pin>], stop: &Stop) -> Result<()> {
        let is_loose =
            |pin: &Arc<Pin>| self.state().layers.get(&pin.key).is_some_and(|layer| layer.loose.is_some());
        if !pins.iter().any(is_loose) {
            return Ok(());
        }
        // Two images that are recorded at once may have the same layer above the same others.
        let _one_at_a_time = self.composing.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, pin) in pins.iter().enumerate() {
            let (loose, record, lowers): (Loose, LayerRecord, Vec<u64>) = {
                let state = self.state();
                let Some(slot) = state.layers.get(&pin.key) else { continue };
                let Some(loose) = slot.loose.clone() else { continue };
                let below = pins[..at].iter().rev().filter_map(|pin| state.layers.get(&pin.key));
                (loose, slot.record.clone(), below.map(|layer| layer.record.number).collect())
            };
            let lowers: Vec<_> = lowers.iter().map(|number| self.destination(*number).root).collect();
            let composed = compose::compose(&self.destination(record.number), &lowers, &loose, stop)
                .map_err(|source| ImageError::Layer { digest: record.diff_id.digest().clone(), source })?;
            let again = match composed {
                Composed::Done => None,
                Composed::Again => Some(layer::unpack_again(self, &record, &lowers, stop)?),
            };
            let mut state = self.state();
            let Some(slot) = state.layers.get_mut(&pin.key) else { continue };
            slot.loose = None;
            let Some(mut again) = again else { continue };
            slot.record = again.release(&record.diff_id).0;
            let number = slot.record.number;
            drop(state);
            self.made(number);
            self.discard(record.number);
        }
        Ok(())
    }

    /// Brings everything written so far to the disk, then notes that `images` are there.
    pub(super) fn settle(&self, images: &[ImageId]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty())
            .map_err(ImageError::errno("open", &self.directory))?;
        rustix::fs::syncfs(&directory)
            .map_err(ImageError::errno("sync the filesystem of", &self.directory))?;
        let db = self.db();
        let settled: Vec<ImageRecord> = {
            let state = self.state();
            let slots = images.iter().filter_map(|id| state.images.get(id));
            slots
                .filter(|slot| slot.record.unsettled.is_some())
                .map(|slot| ImageRecord { unsettled: None, ..slot.record.clone() })
                .collect()
        };
        if settled.is_empty() {
            return Ok(());
        }
        db.apply(&Changes { put_images: settled.clone(), ..Changes::default() })?;
        let mut state = self.state();
        for record in settled {
            if let Some(slot) = state.images.get_mut(&record.id) {
                slot.record = record;
            }
        }
        Ok(())
    }
}

/// Records of other images that lose one of `names` to the image `winner`.
pub(super) fn losers(state: &State, winner: &ImageId, names: &[&String]) -> Vec<ImageRecord> {
    let owner = |name: &&String| state.owner_of(name).map(|slot| &slot.record.id).filter(|id| *id != winner);
    let owners: BTreeSet<&ImageId> = names.iter().filter_map(owner).collect();
    let records = owners.into_iter().filter_map(|id| state.images.get(id)).map(|slot| {
        let mut record = slot.record.clone();
        record.tags.retain(|tag| !names.contains(&tag));
        record.digests.retain(|digest| !names.contains(&digest));
        record
    });
    records.collect()
}

/// Adds names, sorted and once each, so that the order never depends on history.
pub(super) fn merge(names: &mut Vec<String>, more: &[String]) {
    names.extend(more.iter().cloned());
    names.sort();
    names.dedup();
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use husk_model::{Classify, Digest, Kind};

    use super::{super::Db, *};
    use crate::{
        ImageStore, ImagesConfig,
        ids::{ChainId, DiffId},
    };

    pub(in crate::store) fn open(root: &Path) -> Arc<ImageStore> {
        ImageStore::open(root, ImagesConfig::default()).unwrap()
    }

    /// An image with a layer of its own, and nothing in it.
    pub(in crate::store) fn image(store: &ImageStore, number: u8) -> NewImage {
        let (layer, _destination) = store.shared.new_layer().unwrap();
        let diff_id = DiffId::new(Digest::from_sha256(&[number; 32]));
        let chain = ChainId::above(None, &diff_id);
        let record = LayerRecord {
            number: layer,
            diff_id,
            bytes: 0,
            inodes: 0,
            archive: 0,
            opaque: false,
            sources: Vec::new(),
        };
        let pin = store.shared.add_layer(record, Loose::default(), &chain);
        store.shared.made(layer);
        let id = ImageId::new(Digest::from_sha256(&[0x80 | number; 32]));
        NewImage { tags: vec![format!("x:{number}")], ..NewImage::of(id, b"{}".to_vec(), vec![pin]) }
    }

    #[tokio::test]
    async fn configurations_have_a_bound_together() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let commit = |number| store.shared.commit(image(&store, number), &Stop::default());
        commit(1).unwrap();
        let first = store.list()[0].id.clone();
        store.shared.state().images.get_mut(&first).unwrap().config_size = CONFIGS_MAX;
        let error = commit(2).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        assert!(store.list().len() == 1 && store.resolve("x:2").is_none());
        // What is there gets names, and gives way.
        commit(1).unwrap();
        store.remove("x:1").await.unwrap();
        commit(2).unwrap();
        store.idle().await;
        assert_eq!(std::fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 1);
    }

    fn marks(db: &Db) -> Vec<Option<String>> {
        db.load().unwrap().images.into_values().map(|(record, _)| record.unsettled).collect()
    }

    #[tokio::test]
    async fn an_image_is_marked_with_its_boot_until_its_files_are_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let new = image(&store, 1);
        let (changes, record) = store.shared.plan(&new);
        let boot = Some(store.shared.boot.clone());
        assert_eq!((record.unsettled, &changes.put_images[0].unsettled), (boot.clone(), &boot));
        store.shared.commit(new, &Stop::default()).unwrap();
        store.idle().await;
        assert_eq!(marks(&store.shared.db()), [None]);
    }

    #[tokio::test]
    async fn an_image_that_was_not_on_the_disk_when_the_node_went_down_is_dropped_with_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for number in 1..=3 {
            store.shared.commit(image(&store, number), &Stop::default()).unwrap();
        }
        store.idle().await;
        let boot = store.shared.boot.clone();
        drop(store);
        // As power cuts, kills and orderly ends leave them.
        let db = Db::open(&dir.path().join("images/meta.redb")).unwrap();
        let mut records: Vec<ImageRecord> =
            db.load().unwrap().images.into_values().map(|(record, _)| record).collect();
        records[0].unsettled = Some("another boot".to_owned());
        records[1].unsettled = Some(boot);
        let kept = [records[1].id.clone(), records[2].id.clone()];
        db.apply(&Changes { put_images: records, ..Changes::default() }).unwrap();
        drop(db);
        let store = open(dir.path());
        let mut shown: Vec<ImageId> = store.list().iter().map(|image| image.id.clone()).collect();
        shown.sort();
        assert_eq!(shown, kept);
        store.idle().await;
        assert_eq!(std::fs::read_dir(dir.path().join("images/layers")).unwrap().count(), 2);
        // Those of this boot have everything in the page cache, which has been written by now.
        assert_eq!(marks(&store.shared.db()), [None, None]);
    }
}
