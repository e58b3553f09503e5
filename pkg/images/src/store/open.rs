//! Opening the store: the lock, the database, and the repair of whatever a crash left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64, mpsc},
};

use husk_model::ImageId;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    ImageStore, ImagesConfig, Shared,
    db::{Changes, Contents, Db},
    janitor,
    job::Job,
    name_of,
    state::{ImageSlot, LayerSlot, State},
};
use crate::{ImageConfig, ImageError, Result, manifest::ConfigFile};

/// What layers leave on disk, by directory.
pub(super) const PARTS: [&str; 3] = ["layers", "records", "aside"];

impl ImageStore {
    /// Opens the store below `root`, creating it where missing, and repairs what a crash left. Files without a record are
    /// deleted in the background.
    ///
    /// # Errors
    /// When another process has it open, the database is damaged, or the directories cannot be made.
    pub fn open(root: &Path, config: ImagesConfig) -> Result<Arc<Self>> {
        let directory = root.join("images");
        for part in PARTS.iter().chain(&["spool"]) {
            let path = directory.join(part);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(ImageError::store("create", &path))?;
        }
        let lock = lock(&directory)?;
        let boot = husk_node::boot_id().map_err(ImageError::store("read", husk_node::BOOT_ID))?;
        let db = Db::open(&directory.join("meta.redb"))?;
        let contents = repair(&db, &directory, &boot)?;
        let (garbage, next) = leftovers(&directory, &contents)?;
        let (jobs, queue) = mpsc::channel();
        let unsettled: Vec<ImageId> = contents
            .images
            .values()
            .filter(|(record, _)| record.unsettled.is_some())
            .map(|(record, _)| record.id.clone())
            .collect();
        let state = load(contents)?;
        let shared = Arc::new(Shared {
            snapshot: RwLock::new(Arc::new(state.snapshot())),
            state: Mutex::new(state),
            composing: Mutex::default(),
            next: AtomicU64::new(next),
            making: Mutex::default(),
            db: Mutex::new(db),
            jobs,
            boot,
            _lock: lock,
            directory: directory.clone(),
        });
        janitor::start(Arc::downgrade(&shared), queue)
            .map_err(ImageError::store("start the janitor of", &directory))?;
        if !garbage.is_empty() {
            shared.enqueue(Job::Delete(garbage));
        }
        if !unsettled.is_empty() {
            shared.enqueue(Job::Settle(unsettled));
        }
        Ok(Arc::new(Self {
            slots: crate::slots::Slots::new(config.max_parallel_layers),
            clients: Default::default(),
            pulls: Default::default(),
            tallies: Default::default(),
            layers: Default::default(),
            shared,
            config: RwLock::new(config),
        }))
    }
}

/// Takes the store for this process.
fn lock(directory: &Path) -> Result<std::os::fd::OwnedFd> {
    let path = directory.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
        .map_err(ImageError::errno("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ImageError::Locked { path: directory.to_owned() }),
        Err(errno) => Err(ImageError::errno("lock", &path)(errno)),
    }
}

/// Drops images whose files may be incomplete, and layers that no image has.
fn repair(db: &Db, directory: &Path, boot: &str) -> Result<Contents> {
    let mut contents = db.load()?;
    let there = |key: &String| {
        contents
            .layers
            .get(key)
            .is_some_and(|layer| directory.join("layers").join(name_of(layer.number)).is_dir())
    };
    let mut changes = Changes::default();
    for (id, (record, _)) in &contents.images {
        let reason = if record.unsettled.as_deref().is_some_and(|other| other != boot) {
            "the node went down before its files were on the disk"
        } else if !record.layers.iter().all(there) {
            "a layer is missing"
        } else {
            continue;
        };
        tracing::warn!(image = %id, names = ?record.tags, reason, "dropped an image; it has to be pulled again");
        changes.drop_images.push(id.clone());
    }
    contents.images.retain(|id, _| !changes.drop_images.contains(id));
    let used: BTreeSet<&String> = contents.images.values().flat_map(|(record, _)| &record.layers).collect();
    changes.drop_layers = contents.layers.keys().filter(|key| !used.contains(key)).cloned().collect();
    contents.layers.retain(|key, _| !changes.drop_layers.contains(key));
    if (!changes.drop_images.is_empty() || !changes.drop_layers.is_empty())
        && let Err(error) = db.apply_freeing(&changes)
    {
        // They are not shown, and the next start finds them again.
        tracing::warn!(error = &error as &dyn std::error::Error, "records of dropped images stay");
    }
    Ok(contents)
}

/// Files that no record names, and the first number that is free.
fn leftovers(directory: &Path, contents: &Contents) -> Result<(Vec<PathBuf>, u64)> {
    let known: BTreeSet<String> = contents.layers.values().map(|layer| name_of(layer.number)).collect();
    let mut garbage = Vec::new();
    let mut highest = contents.layers.values().map(|layer| layer.number).max().unwrap_or(0);
    for part in PARTS {
        for name in names(&directory.join(part))? {
            if let Ok(number) = u64::from_str_radix(&name, 36) {
                highest = highest.max(number);
            }
            if !known.contains(&name) {
                garbage.push(directory.join(part).join(name));
            }
        }
    }
    let spool = directory.join("spool");
    garbage.extend(names(&spool)?.into_iter().map(|name| spool.join(name)));
    Ok((garbage, highest + 1))
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    read().map_err(ImageError::store("list", directory))
}

fn load(contents: Contents) -> Result<State> {
    let mut state = State::default();
    for (key, record) in contents.layers {
        state.layers.insert(key, LayerSlot { record, images: 0, pins: 0, committed: true, loose: None });
    }
    let mut images = BTreeMap::new();
    for (id, (record, config)) in contents.images {
        for key in &record.layers {
            if let Some(layer) = state.layers.get_mut(key) {
                layer.images += 1;
            }
        }
        let file = ConfigFile::parse(&config)
            .map_err(|reason| ImageError::Record { key: id.to_string(), reason })?;
        let slot = ImageSlot {
            config: Arc::new(ImageConfig::from_file(&file)),
            config_size: config.len() as u64,
            leases: 0,
            leaving: false,
            record,
        };
        images.insert(id, slot);
    }
    state.images = images;
    Ok(state)
}
