//! Export: images as one tar that is an OCI layout and a `docker save` archive at once.
//!
//! Layers are written as plain tars: their digest is the diff id, which the configuration names, so the image keeps its
//! id. The manifest is new, because that of the registry names blobs that are not kept.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_model::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Progress, Report, members::failed, names, reproduce::reproduce};
use crate::{
    Image, ImageError, ImageLease, ImageStore, Reference, Result,
    manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST},
    store::{LayerRecord, Shared, blocking},
    tar::{self, TarEntry},
    unpack::Destination,
};

/// An image to be saved, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveItem {
    /// A name or id.
    pub image: String,
    /// The names that the archive has for it, as full references with tags; `None` takes all tags that it has.
    pub tags: Option<Vec<String>>,
}

/// An image that goes into the archive, and its names there.
type Item = (Arc<Image>, Vec<String>);

impl ImageStore {
    /// Writes the images of `names` (names or ids) to the tar `output`, which other tools read as an OCI layout or with
    /// `docker load`. Every layer is compared with its digest while it is written. No file is left when it fails.
    ///
    /// # Errors
    /// [`ImageError::NoImage`], [`ImageError::Export`] when a stored layer is damaged, [`ImageError::ArchiveIo`].
    pub async fn export(
        self: &Arc<Self>,
        names: &[String],
        output: &Path,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<()> {
        let items = names.iter().map(|name| SaveItem { image: name.clone(), tags: None }).collect();
        let (items, leases) = self.items(items)?;
        let (shared, output) = (Arc::clone(&self.shared), output.to_owned());
        blocking("exporting images", move || {
            let _held = leases;
            let file = File::create(&output).map_err(failed(format!("write {}", output.display())))?;
            let written = write(&shared, &items, file, &output.display().to_string(), &progress);
            if written.is_err() {
                // The error tells more than a failure to clean up after it would.
                let _left = fs::remove_file(&output);
            }
            written
        })
        .await
    }

    /// As [`Self::export`], to `output`, which is written on a thread for it. After a failure it is cut off.
    ///
    /// # Errors
    /// As [`Self::export`]; [`ImageError::Reference`] for a name that is no tag.
    pub async fn save(
        self: &Arc<Self>,
        items: Vec<SaveItem>,
        output: impl Write + Send + 'static,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<()> {
        let (items, leases) = self.items(items)?;
        let shared = Arc::clone(&self.shared);
        blocking("saving images", move || {
            let _held = leases;
            write(&shared, &items, output, "the archive", &progress)
        })
        .await
    }

    /// Looks images up, each once, and keeps them.
    fn items(&self, items: Vec<SaveItem>) -> Result<(Vec<Item>, Vec<ImageLease>)> {
        let mut images: Vec<Item> = Vec::new();
        let mut leases = Vec::new();
        for SaveItem { image: name, tags } in items {
            let image = self.resolve(&name).ok_or(ImageError::NoImage { name })?;
            leases.push(self.acquire(&image.id)?);
            let tags = tags.map_or_else(|| Ok(image.repo_tags.clone()), |tags| names::full_tags(&tags))?;
            match images.iter_mut().find(|(have, _)| have.id == image.id) {
                Some((_, have)) => {
                    have.extend(tags);
                    have.sort();
                    have.dedup();
                }
                None => images.push((image, tags)),
            }
        }
        Ok((images, leases))
    }
}

/// What goes into the archive for one image.
struct Prepared {
    config: Vec<u8>,
    manifest: Vec<u8>,
    layers: Vec<(LayerRecord, Destination)>,
}

fn write(
    shared: &Arc<Shared>,
    images: &[Item],
    output: impl Write,
    name: &str,
    progress: &Report,
) -> Result<()> {
    let fail = || failed(format!("write {name}"));
    let mut tar = TarWriter { out: BufWriter::with_capacity(256 << 10, output) };
    let mut written: BTreeSet<PathBuf> = BTreeSet::new();
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(fail())?;
    for (image, tags) in images {
        let prepared = prepare(shared, image)?;
        for (record, layer) in &prepared.layers {
            let path = blob(record.diff_id.digest());
            if written.insert(PathBuf::from(&path)) {
                write_layer(&mut tar, image, record, layer, progress)?;
            }
        }
        let manifest = sha256(&prepared.manifest);
        for (digest, bytes) in [(image.id.digest(), &prepared.config), (&manifest, &prepared.manifest)] {
            if written.insert(PathBuf::from(blob(digest))) {
                tar.file(&blob(digest), bytes).map_err(fail())?;
            }
        }
        index.extend(index_entries(&manifest, prepared.manifest.len(), image, tags));
        docker.push(json!({
            "Config": blob(image.id.digest()),
            "RepoTags": tags.iter().map(|tag| familiar(tag)).collect::<Vec<_>>(),
            "Layers": prepared.layers.iter().map(|(record, _)| blob(record.diff_id.digest())).collect::<Vec<_>>(),
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index });
    tar.file("index.json", index.to_string().as_bytes()).map_err(fail())?;
    tar.file("manifest.json", json!(docker).to_string().as_bytes()).map_err(fail())?;
    tar.finish().map_err(fail())
}

fn prepare(shared: &Shared, image: &Image) -> Result<Prepared> {
    let missing = || ImageError::NoImage { name: image.id.to_string() };
    let config = shared.config_bytes(&image.id)?.ok_or_else(missing)?;
    let layers = shared.layers_of(&image.id)?;
    let descriptors: Vec<_> = layers
        .iter()
        .map(
            |(record, _)| json!({ "mediaType": OCI_LAYER, "digest": record.diff_id, "size": record.archive }),
        )
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": image.id, "size": config.len() },
        "layers": descriptors,
    });
    Ok(Prepared { config, manifest: manifest.to_string().into_bytes(), layers })
}

/// One entry per tag, as `docker save` writes them; one without a name when there is none.
fn index_entries(manifest: &Digest, size: usize, image: &Image, tags: &[String]) -> Vec<serde_json::Value> {
    let platform = &image.config.platform;
    let entry = |annotations: serde_json::Value| {
        let mut entry = json!({
            "mediaType": OCI_MANIFEST, "digest": manifest, "size": size, "annotations": annotations,
        });
        if !platform.os.is_empty() {
            entry["platform"] = json!(platform);
        }
        entry
    };
    if tags.is_empty() {
        return vec![entry(json!({}))];
    }
    let named = |tag: &String| {
        let short = tag.rsplit(':').next().unwrap_or_default();
        entry(json!({ "io.containerd.image.name": tag, "org.opencontainers.image.ref.name": short }))
    };
    tags.iter().map(named).collect()
}

fn write_layer(
    tar: &mut TarWriter<impl Write>,
    image: &Image,
    record: &LayerRecord,
    layer: &Destination,
    progress: &Report,
) -> Result<()> {
    let broken = |reason: String| ImageError::Export {
        image: image.id.clone(),
        layer: record.diff_id.digest().clone(),
        reason,
    };
    tar.header(&blob(record.diff_id.digest()), record.archive).map_err(failed("write a layer".into()))?;
    let what = format!("layer {}", record.diff_id);
    let mut checked =
        Checked { out: &mut tar.out, hash: Sha256::new(), done: 0, total: record.archive, what, progress };
    reproduce(layer, &mut checked)
        .map_err(|error| broken(format!("its files cannot be read back: {error}")))?;
    let (actual, done) = (Digest::from_sha256(&checked.hash.finalize().into()), checked.done);
    if actual != *record.diff_id.digest() || done != record.archive {
        return Err(broken(format!(
            "its files on disk were changed (digest {actual} now); remove the image and pull it again"
        )));
    }
    tar.pad(record.archive).map_err(failed("write a layer".into()))
}

/// Hashes and counts what passes.
struct Checked<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    done: u64,
    total: u64,
    what: String,
    progress: &'a Report,
}

impl<W: Write> Write for Checked<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A damaged layer must not write beyond the member whose header is out already.
        if self.done + bytes.len() as u64 > self.total {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the layer is longer than it was"));
        }
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.done += written as u64;
        (self.progress)(Progress { what: self.what.clone(), done: self.done, total: self.total });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A tag as Docker shows it, which is how its own archives have it.
fn familiar(tag: &str) -> String {
    Reference::parse(tag).map_or_else(|_| tag.to_owned(), |reference| reference.familiar())
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// Writes the few members of an archive.
struct TarWriter<W: Write> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.header(name, content.len() as u64)?;
        self.out.write_all(content)?;
        self.pad(content.len() as u64)
    }

    fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.out.write_all(&tar::header(&TarEntry::file(name, size), size))
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.out.write_all(&vec![0; tar::padding(size)])
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&tar::END)?;
        self.out.flush()
    }
}
