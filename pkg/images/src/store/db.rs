//! The metadata on disk: one redb file, JSON values, every change one transaction.
//!
//! After the first error of its file redb refuses all work. So the file is closed with every error and opened again by whoever
//! comes next; a change that failed is made once more then, for nobody knows whether it is in the file. What makes room (removals) may take
//! the [`Reserve`] for that: else a full disk would keep what fills it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use husk_model::{Digest, ImageId, UnixNanos};
use husk_node::file;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::reserve::Reserve;
use crate::{DiffId, ImageError, Result};

/// Layers by key: the diff id, or the chain id where the content depends on the layers below.
const LAYERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("layers");
/// Images by id.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");
/// Image configurations by id, as they came.
const CONFIGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("configs");
/// Manifests that images were pulled by, by image id, as they came.
const MANIFESTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("manifests");
/// What whoever had an image made here wants to know of that later, by image id.
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");
/// Facts about the store itself.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Version of the records.
const VERSION: &str = "1";
/// Page cache; the whole database of a node is smaller than redb's default of a gibibyte by far.
const CACHE: usize = 256 << 10;

/// A layer on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Names its directory.
    pub(crate) number: u64,
    pub(crate) diff_id: DiffId,
    /// Bytes in use.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Length of the archive it came from.
    pub(crate) archive: u64,
    /// Hides all layers below.
    #[serde(default)]
    pub(crate) opaque: bool,
    /// Blobs of it that registries are known to have, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<BlobSource>,
}

/// A blob that is this layer: it was unpacked here from these very bytes, or made of it here and taken by the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobSource {
    /// As references name it.
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// An image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: ImageId,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    /// Keys of its layers, lowest first.
    pub(crate) layers: Vec<String>,
    pub(crate) stored_at: UnixNanos,
    /// Removed while containers used it: not shown, and deleted with its last user.
    #[serde(default)]
    pub(crate) hidden: bool,
    /// The boot during which its files were written and not yet known to be on the disk. After another boot such an image
    /// may be incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsettled: Option<String>,
    /// The image that it was made from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ImageId>,
    /// Who holds it across restarts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) holders: BTreeSet<String>,
}

/// Changes that become visible together.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) put_layers: Vec<(String, LayerRecord)>,
    pub(crate) drop_layers: Vec<String>,
    pub(crate) put_images: Vec<ImageRecord>,
    pub(crate) drop_images: Vec<ImageId>,
    pub(crate) put_config: Option<(ImageId, Vec<u8>)>,
    pub(crate) put_manifest: Option<(ImageId, Vec<u8>)>,
    pub(crate) put_note: Option<(ImageId, Vec<u8>)>,
}

/// Everything stored.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) layers: BTreeMap<String, LayerRecord>,
    pub(crate) images: BTreeMap<ImageId, (ImageRecord, Vec<u8>)>,
}

/// The database.
#[derive(Debug)]
pub(crate) struct Db {
    /// `None` from an error until the next use.
    database: RefCell<Option<Database>>,
    path: PathBuf,
    reserve: Reserve,
}

impl Db {
    /// Opens or creates the file. redb repairs what a killed process left. A new file gets its name when it is whole: a
    /// power cut while redb lays one out would leave something that is no database. Of a whole one no record is written anew, so that
    /// a store opens on a full disk.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            let new = file::unfinished(path);
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ImageError::store("remove", new)(error));
                }
                _ => {}
            }
            drop(Self::open_at(&new)?);
            let placed = std::fs::File::open(&new).and_then(|file| file::place(&file, &new, path));
            placed.map_err(ImageError::store("create", path))?;
        }
        Self::open_at(path).inspect(Self::refill)
    }

    fn open_at(path: &Path) -> Result<Self> {
        let db = Self { database: RefCell::default(), path: path.to_owned(), reserve: Reserve::beside(path) };
        db.check_version()?;
        Ok(db)
    }

    fn check_version(&self) -> Result<()> {
        let version = match self.freeing(Self::version_of)? {
            Some(version) => version,
            None => self.freeing(Self::lay_out)?,
        };
        if version == VERSION {
            return Ok(());
        }
        Err(ImageError::Record {
            key: "version".into(),
            reason: format!("{version}, and this husk knows {VERSION}; was the node downgraded?"),
        })
    }

    /// The version of the records; `None` when a table is missing.
    fn version_of(database: &Database) -> Result<Option<String>, redb::Error> {
        let read = database.begin_read()?;
        for table in [LAYERS, IMAGES, CONFIGS, MANIFESTS, NOTES] {
            match read.open_table(table) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                opened => drop(opened?),
            }
        }
        match read.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            opened => Ok(opened?.get("version")?.map(|version| version.value().to_owned())),
        }
    }

    /// Makes the tables that are missing. Returns the version of the records.
    fn lay_out(database: &Database) -> Result<String, redb::Error> {
        let write = database.begin_write()?;
        let version = {
            let mut meta = write.open_table(META)?;
            for table in [LAYERS, IMAGES, CONFIGS, MANIFESTS, NOTES] {
                write.open_table(table)?;
            }
            let found = meta.get("version")?.map(|value| value.value().to_owned());
            if found.is_none() {
                meta.insert("version", VERSION)?;
            }
            found
        };
        write.commit()?;
        Ok(version.unwrap_or_else(|| VERSION.to_owned()))
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Contents> {
        let (layers, images) = self.tried(|database| {
            let read = database.begin_read()?;
            let (mut layers, mut images) = (Vec::new(), Vec::new());
            for entry in read.open_table(LAYERS)?.iter()? {
                let (key, value) = entry?;
                layers.push((key.value().to_owned(), value.value().to_vec()));
            }
            let configs = read.open_table(CONFIGS)?;
            for entry in read.open_table(IMAGES)?.iter()? {
                let (key, value) = entry?;
                let config =
                    configs.get(key.value())?.map(|config| config.value().to_vec()).unwrap_or_default();
                images.push((key.value().to_owned(), value.value().to_vec(), config));
            }
            Ok((layers, images))
        })?;
        let mut contents = Contents::default();
        for (key, value) in layers {
            let record = decode(&key, &value)?;
            contents.layers.insert(key, record);
        }
        for (key, value, config) in images {
            let record: ImageRecord = decode(&key, &value)?;
            contents.images.insert(record.id.clone(), (record, config));
        }
        Ok(contents)
    }

    /// The configuration of an image as it came.
    pub(crate) fn config(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.tried(|database| {
            let configs = database.begin_read()?.open_table(CONFIGS)?;
            Ok(configs.get(id.as_str())?.map(|value| value.value().to_vec()))
        })
    }

    /// The manifest that an image was pulled by, as it came; `None` for one that came otherwise.
    pub(crate) fn manifest(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.tried(|database| {
            let manifests = database.begin_read()?.open_table(MANIFESTS)?;
            Ok(manifests.get(id.as_str())?.map(|value| value.value().to_vec()))
        })
    }

    /// What was noted of an image when it was made here.
    pub(crate) fn note(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.tried(|database| {
            let notes = database.begin_read()?.open_table(NOTES)?;
            Ok(notes.get(id.as_str())?.map(|value| value.value().to_vec()))
        })
    }

    /// Makes `changes` durable, all or none.
    pub(crate) fn apply(&self, changes: &Changes) -> Result<()> {
        let write = |database: &Database| Self::write(database, changes);
        self.tried(write).or_else(|_| self.tried(write))
    }

    /// As [`Self::apply`], for changes that make room, now or with what they allow to be removed: on a full disk the reserve is taken.
    pub(crate) fn apply_freeing(&self, changes: &Changes) -> Result<()> {
        self.freeing(|database| Self::write(database, changes))
    }

    /// Puts room aside again after a removal.
    pub(crate) fn refill(&self) {
        self.reserve.refill();
    }

    fn write(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut layers = write.open_table(LAYERS)?;
            for (key, record) in &changes.put_layers {
                layers.insert(key.as_str(), encode(record).as_slice())?;
            }
            for key in &changes.drop_layers {
                layers.remove(key.as_str())?;
            }
            let mut images = write.open_table(IMAGES)?;
            for record in &changes.put_images {
                images.insert(record.id.as_str(), encode(record).as_slice())?;
            }
            let mut configs = write.open_table(CONFIGS)?;
            if let Some((id, bytes)) = &changes.put_config {
                configs.insert(id.as_str(), bytes.as_slice())?;
            }
            let mut manifests = write.open_table(MANIFESTS)?;
            if let Some((id, bytes)) = &changes.put_manifest {
                manifests.insert(id.as_str(), bytes.as_slice())?;
            }
            let mut notes = write.open_table(NOTES)?;
            if let Some((id, bytes)) = &changes.put_note {
                notes.insert(id.as_str(), bytes.as_slice())?;
            }
            for id in &changes.drop_images {
                images.remove(id.as_str())?;
                configs.remove(id.as_str())?;
                manifests.remove(id.as_str())?;
                notes.remove(id.as_str())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Does `work`, and once more with the room that is put aside when it fails.
    fn freeing<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T> {
        self.tried(&work).or_else(|_| {
            self.reserve.release();
            self.tried(&work)
        })
    }

    fn tried<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T> {
        let fail = |error| match error {
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                ImageError::store("write", &self.path)(error)
            }
            error => ImageError::Database { path: self.path.clone(), source: Box::new(error) },
        };
        let mut held = self.database.borrow_mut();
        let database = match held.take() {
            Some(database) => database,
            None => {
                let opened = Database::builder().set_cache_size(CACHE).create(&self.path);
                opened.map_err(|error| fail(error.into()))?
            }
        };
        let done = work(&database).map_err(fail)?;
        *held = Some(database);
        Ok(done)
    }
}

fn decode<T: for<'a> Deserialize<'a>>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value)
        .map_err(|error| ImageError::Record { key: key.to_owned(), reason: error.to_string() })
}

fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Strings, numbers and lists: serialization has no case that fails.
    serde_json::to_vec(record).unwrap_or_default()
}
