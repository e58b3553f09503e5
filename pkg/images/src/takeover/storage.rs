//! Images of `containers/storage`, which CRI-O and podman have.
//!
//! ```text
//! <root>/<driver>-images/images.json             ids, names, digests, top layers
//! <root>/<driver>-images/<image>/<file>          manifests and the configuration, named by makeBigDataBaseName
//! <root>/<driver>-layers/layers.json             ids, parents, diff ids
//! <root>/<driver>-layers/<layer>.tar-split.gz    headers and padding of the layer's archive
//! <root>/overlay/<layer>/diff, vfs/dir/<layer>   its files
//! ```
//!
//! Layers exist unpacked only, so an archive is put together again (`tar_split`) and goes to the unpacker as if it came from a
//! registry.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use husk_model::{Digest, ImageId};
use serde::Deserialize;

use super::{
    files::{is_there, sha256, small, unreadable, wrong},
    names::{Names, Outcomes, Wanted},
    tar_split,
};
use crate::{
    DiffId, ImageError, Platform, Progress, Result,
    archive::Report,
    ids::ChainId,
    layer,
    manifest::{CONFIG_MAX, ConfigFile, Document, LAYERS_MAX, MANIFEST_MAX},
    pipeline::{Expected, Source},
    stop::Stop,
    store::{NewImage, Pin, Shared},
    unpack::limits::Budget,
};

/// Where the store is unless somebody says otherwise (containers-storage.conf(5)).
const ROOT: &str = "/var/lib/containers/storage";
/// The node's file comes before the distribution's; one of them is read.
const STORAGE_CONF: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
/// Bytes of a list of the store, and of storage.conf.
const LIST_MAX: u64 = 64 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StorageConf {
    storage: StorageTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StorageTable {
    graphroot: String,
    imagestore: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct StoredImage {
    id: String,
    names: Option<Vec<String>>,
    /// The topmost.
    layer: String,
    big_data_names: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct StoredLayer {
    id: String,
    parent: String,
    diff_digest: String,
    diff_size: i64,
}

/// A store, and what an image needs of husk's.
struct Taking<'a> {
    shared: &'a Arc<Shared>,
    root: PathBuf,
    driver: &'static str,
    layers: HashMap<String, StoredLayer>,
    progress: &'a Arc<Report>,
    stop: &'a Stop,
}

pub(super) fn take(
    shared: &Arc<Shared>,
    root: Option<&Path>,
    wanted: &mut Wanted,
    progress: &Arc<Report>,
    stop: &Stop,
) -> Result<Outcomes> {
    let root = root.map_or_else(configured, |root| Ok(root.to_owned()))?;
    let driver = ["overlay", "vfs"].into_iter().find(|name| is_there(&list(&root, name, "images")));
    let Some(driver) = driver else {
        let reason = "neither overlay-images/images.json nor vfs-images/images.json is there: name the graphroot, or the \
                      imagestore, of storage.conf; other drivers are not read";
        return Err(wrong(&root, reason));
    };
    let images: Vec<StoredImage> = read(&list(&root, driver, "images"))?;
    let layers: Vec<StoredLayer> = read(&list(&root, driver, "layers"))?;
    let layers = layers.into_iter().map(|layer| (layer.id.clone(), layer)).collect();
    let taking = Taking { shared, root, driver, layers, progress, stop };
    let mut outcomes = Outcomes::new();
    for image in images {
        let mut names = Names::default();
        image.names.iter().flatten().for_each(|name| names.add(name));
        if !wanted.has(&names, &image.id) {
            continue;
        }
        let name = names.first(&image.id);
        tracing::info!(image = name, "taking over an image of containers/storage");
        let outcome = taking.image(&image, &names);
        stop.check().map_err(unreadable(&taking.root))?;
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

/// The store of this node.
fn configured() -> Result<PathBuf> {
    for path in STORAGE_CONF.map(Path::new) {
        let Some(bytes) = small(path, LIST_MAX)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let conf: StorageConf = toml::from_str(&text).map_err(|error| wrong(path, error.to_string()))?;
        let StorageTable { graphroot, imagestore } = conf.storage;
        let named = [imagestore, graphroot].into_iter().find(|name| !name.is_empty());
        return Ok(PathBuf::from(named.unwrap_or_else(|| ROOT.to_owned())));
    }
    Ok(PathBuf::from(ROOT))
}

fn list(root: &Path, driver: &str, of: &str) -> PathBuf {
    root.join(format!("{driver}-{of}/{of}.json"))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let Some(bytes) = small(path, LIST_MAX)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, error.to_string()))
}

fn not_taken(reason: impl Into<String>) -> ImageError {
    ImageError::NotTaken { reason: reason.into() }
}

/// Ids become parts of paths.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The file of a key of big data: what is not made of these few characters is in base64.
fn file_of(key: &str) -> String {
    let is_plain = key.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit() || byte.is_ascii_lowercase());
    if is_plain { key.to_owned() } else { format!("={}", STANDARD.encode(key)) }
}

impl Taking<'_> {
    fn image(&self, image: &StoredImage, names: &Names) -> Result<ImageId> {
        if !is_id(&image.id) {
            return Err(not_taken("its id is not the digest of a configuration"));
        }
        let digest: Digest = format!("sha256:{}", image.id)
            .parse()
            .map_err(|_| not_taken("its id is not the digest of a configuration"))?;
        let key = digest.to_string();
        let config = self.big_data(&image.id, &key, CONFIG_MAX)?.ok_or_else(|| {
            not_taken(
                "it has no configuration of its id: it is of Docker's first format, or an artifact; pull it",
            )
        })?;
        let actual = sha256(&config);
        if actual != digest {
            return Err(ImageError::Digest {
                object: "image configuration".into(),
                expected: digest,
                actual,
            });
        }
        let content =
            |reason| ImageError::Content { object: "image configuration", digest: digest.clone(), reason };
        let file = ConfigFile::parse(&config).map_err(content)?;
        let node = Platform::host();
        if let Some(built_for) = file.platform().filter(|built_for| !node.suits(built_for)) {
            let (wanted, offered) = (node.to_string(), built_for.to_string());
            return Err(ImageError::Platform { image: names.first(&image.id), wanted, offered });
        }
        let manifests = self.manifests(image, &digest)?;
        let layers = self.chain(&image.layer, file.diff_ids())?;
        let pins = self.layers(&layers)?;
        let top = manifests.last().cloned();
        let new = NewImage {
            tags: names.tags.iter().cloned().collect(),
            digests: names.digests(top.as_ref(), |named| manifests.contains(named)),
            ..NewImage::of(ImageId::new(digest), config, pins)
        };
        let id = new.id.clone();
        self.shared.commit(new, self.stop)?;
        Ok(id)
    }

    fn big_data(&self, image: &str, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let file = file_of(key);
        if file.contains('/') {
            return Ok(None);
        }
        small(&self.root.join(format!("{}-images", self.driver)).join(image).join(file), limit)
    }

    /// Digests of the manifests that are this image's, then of the indexes that list one of them; those that are what their digest
    /// says and lead to `config`.
    fn manifests(&self, image: &StoredImage, config: &Digest) -> Result<Vec<Digest>> {
        let mut documents = BTreeMap::new();
        for key in image.big_data_names.iter().flatten().take(64) {
            if let Some(bytes) = key
                .starts_with("manifest")
                .then(|| self.big_data(&image.id, key, MANIFEST_MAX))
                .transpose()?
                .flatten()
                && let Ok(document) = Document::parse(&bytes, None)
            {
                documents.insert(sha256(&bytes), document);
            }
        }
        let own = |document: &Document| matches!(document, Document::Manifest(manifest) if manifest.config.digest == *config);
        let mut found: Vec<Digest> = documents
            .iter()
            .filter(|(_, document)| own(document))
            .map(|(digest, _)| digest.clone())
            .collect();
        for (digest, document) in &documents {
            let Document::Index(entries) = document else { continue };
            if entries.iter().any(|entry| found.iter().any(|own| entry.digest == own.as_str())) {
                found.push(digest.clone());
            }
        }
        Ok(found)
    }

    /// The layers of an image, lowest first, as the store and the configuration have them.
    fn chain(&self, top: &str, diff_ids: &[DiffId]) -> Result<Vec<(&StoredLayer, DiffId)>> {
        let (mut found, mut id) = (Vec::new(), top);
        while !id.is_empty() {
            if found.len() >= LAYERS_MAX {
                return Err(not_taken(format!("it has more than {LAYERS_MAX} layers")));
            }
            let layer = self.layers.get(id).filter(|layer| is_id(&layer.id));
            let layer =
                layer.ok_or_else(|| not_taken(format!("layer {id} is not in the store; pull the image")))?;
            found.push(layer);
            id = &layer.parent;
        }
        found.reverse();
        let digests = found.iter().map(|layer| layer.diff_digest.as_str());
        if !digests.eq(diff_ids.iter().map(|diff_id| diff_id.digest().as_str())) {
            return Err(not_taken(
                "the store's layers are not those of its configuration (pulled in parts, or built without digests); pull it",
            ));
        }
        Ok(found.into_iter().zip(diff_ids.iter().cloned()).collect())
    }

    fn layers(&self, layers: &[(&StoredLayer, DiffId)]) -> Result<Vec<Arc<Pin>>> {
        let (mut below, budget): (Option<ChainId>, _) = (None, Budget::default());
        let mut pins = Vec::with_capacity(layers.len());
        for (stored, diff_id) in layers {
            let chain = ChainId::above(below.as_ref(), diff_id);
            pins.push(match self.shared.pin(diff_id, &chain) {
                Some(pin) => pin,
                None => self.layer(stored, diff_id, &chain, &budget)?,
            });
            below = Some(chain);
        }
        Ok(pins)
    }

    fn layer(
        &self,
        stored: &StoredLayer,
        diff_id: &DiffId,
        chain: &ChainId,
        budget: &Budget,
    ) -> Result<Arc<Pin>> {
        let record = self.root.join(format!("{}-layers/{}.tar-split.gz", self.driver, stored.id));
        let file = File::open(&record).map_err(|error| {
            not_taken(format!(
                "{}: {error}; without it the layer's archive is gone: pull the image",
                record.display()
            ))
        })?;
        let files = match self.driver {
            "vfs" => self.root.join("vfs/dir").join(&stored.id),
            driver => self.root.join(driver).join(&stored.id).join("diff"),
        };
        let archive = tar_split::Archive::open(file, &files).map_err(unreadable(&files))?;
        let (what, progress) = (format!("layer {diff_id}"), Arc::clone(self.progress));
        let (mut done, total) = (0, stored.diff_size.max(0).unsigned_abs());
        let count = move |length| {
            done += length;
            progress(Progress { what: what.clone(), done, total: total.max(done) });
        };
        let source = Source::Stream(Box::new(archive), Box::new(count));
        let expected = Expected { blob: None, size: None, diff_id: Some(diff_id.clone()) };
        let unpacked = layer::unpack(self.shared, source, &expected, diff_id.digest(), budget, self.stop)?;
        Ok(unpacked.claim(self.shared, diff_id, chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_big_data_become_files_as_the_store_names_them() {
        assert_eq!(file_of("manifest"), "manifest");
        assert_eq!(file_of("sha256:a"), "=c2hhMjU2OmE=");
        assert_eq!(file_of("Upper"), "=VXBwZXI=");
    }

    #[test]
    fn what_is_no_id_leads_nowhere() {
        assert!(is_id(&"a0".repeat(32)));
        for id in ["", "../../etc", &"a".repeat(63), &"g".repeat(64)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
