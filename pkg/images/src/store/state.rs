//! The store in memory. Every change is made here under one short lock after the database took it; readers get an
//! immutable snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use husk_model::ImageId;

use super::db::{ImageRecord, LayerRecord};
use crate::{Image, ImageConfig, Reference};

/// What the layers below must still contribute to a layer (see `compose`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loose {
    /// Inodes of directories that the archive used without having described them, sorted.
    pub(crate) implied: Vec<u64>,
    /// Layers below may lead names elsewhere.
    pub(crate) unsure: bool,
}

/// A layer that is complete on disk.
#[derive(Debug)]
pub(crate) struct LayerSlot {
    pub(crate) record: LayerRecord,
    /// Images in the database that have it, hidden ones included.
    pub(crate) images: u32,
    /// Pulls and imports that are about to have it.
    pub(crate) pins: u32,
    /// It is in the database.
    pub(crate) committed: bool,
    /// Still to be composed.
    pub(crate) loose: Option<Loose>,
}

/// An image in the database.
#[derive(Debug)]
pub(crate) struct ImageSlot {
    pub(crate) record: ImageRecord,
    pub(crate) config: Arc<ImageConfig>,
    pub(crate) config_size: u64,
    /// Containers that use it.
    pub(crate) leases: u32,
    /// It was unused and is being deleted; nobody gets a lease any more.
    pub(crate) leaving: bool,
}

impl ImageSlot {
    /// Whether somebody needs its layers whatever becomes of its names.
    pub(crate) fn is_used(&self) -> bool {
        self.leases > 0 || !self.record.holders.is_empty()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) layers: HashMap<String, LayerSlot>,
    pub(crate) images: BTreeMap<ImageId, ImageSlot>,
}

/// What readers see.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) list: Vec<Arc<Image>>,
    pub(crate) by_name: HashMap<String, Arc<Image>>,
    pub(crate) used_bytes: u64,
    pub(crate) inodes_used: u64,
}

impl State {
    /// The image as others see it.
    fn image(&self, slot: &ImageSlot) -> Arc<Image> {
        let layers: Vec<_> = slot.record.layers.iter().filter_map(|key| self.layers.get(key)).collect();
        let size: u64 = layers.iter().map(|layer| layer.record.bytes).sum();
        Arc::new(Image {
            id: slot.record.id.clone(),
            repo_tags: slot.record.tags.clone(),
            repo_digests: slot.record.digests.clone(),
            // An image without layers still has a configuration; clients take a size of 0 for an error.
            size: size + slot.config_size,
            stored_at: slot.record.stored_at,
            config: Arc::clone(&slot.config),
            layers: layers.iter().map(|layer| layer.record.diff_id.clone()).collect(),
            layer_sizes: layers.iter().map(|layer| layer.record.bytes).collect(),
            parent: slot.record.parent.clone(),
        })
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for slot in self.images.values().filter(|slot| !slot.record.hidden) {
            let image = self.image(slot);
            for name in image.repo_tags.iter().chain(&image.repo_digests) {
                snapshot.by_name.insert(name.clone(), Arc::clone(&image));
            }
            snapshot.list.push(image);
        }
        for layer in self.layers.values().filter(|layer| layer.committed) {
            snapshot.used_bytes += layer.record.bytes;
            snapshot.inodes_used += layer.record.inodes;
        }
        snapshot
    }

    /// The image that has this tag or digest reference, hidden ones excepted.
    pub(crate) fn owner_of(&self, name: &str) -> Option<&ImageSlot> {
        let has =
            |slot: &&ImageSlot| slot.record.tags.iter().chain(&slot.record.digests).any(|have| have == name);
        self.images.values().filter(|slot| !slot.record.hidden).find(has)
    }
}

impl Snapshot {
    /// Finds an image as Docker does: by its id, by a name in any spelling, then by the beginning of an id of any length. The images that
    /// it may be: one, or the first two of several whose ids begin so.
    pub(crate) fn find(&self, name: &str, meanings: Option<&[Reference]>) -> Vec<&Arc<Image>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if let Some(image) = self.named(name, meanings) {
            return vec![image];
        }
        if hex.is_empty() || hex.len() > 64 || !is_hex(hex) {
            return Vec::new();
        }
        let from = self.list.partition_point(|image| image.id.digest().hex() < hex);
        self.list[from..]
            .iter()
            .take_while(|image| image.id.digest().hex().starts_with(hex))
            .take(2)
            .collect()
    }

    /// Finds an image by what clients use: id with or without `sha256:`, reference in any spelling, unique beginning of an id.
    /// `meanings` are the references that `name` stands for, if not the one of Docker's rule.
    pub(crate) fn resolve(&self, name: &str, meanings: Option<&[Reference]>) -> Option<&Arc<Image>> {
        let found = self.named(name, meanings);
        if found.is_some() {
            return found;
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() < 4
            || hex.len() > 64
            || !hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        {
            return None;
        }
        let mut matching = self.list.iter().filter(|image| image.id.digest().hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Some(image),
            _ => None,
        }
    }

    /// By the whole id, or a name.
    fn named(&self, name: &str, meanings: Option<&[Reference]>) -> Option<&Arc<Image>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(at) = self.list.binary_search_by(|image| image.id.digest().hex().cmp(hex)) {
            return self.list.get(at);
        }
        if let Some(image) = self.by_name.get(name) {
            return Some(image);
        }
        match meanings {
            Some(meanings) => meanings.iter().find_map(|meant| self.by_name.get(&meant.to_string())),
            None => Reference::parse(name).ok().and_then(|meant| self.by_name.get(&meant.to_string())),
        }
    }
}
