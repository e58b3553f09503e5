//! All containers of the door: by id, by the beginning of one, by name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::warn;

use super::{
    container::{Container, short},
    execs::Execs,
    record::{Phase, Record},
};
use crate::{
    error::{Failure, OpenError, Result},
    shared::Shared,
    threads::delete_later,
};

/// What the name of a directory begins with that is being deleted.
const REMOVING: &str = ".removing-";
/// Most containers, running or not: each is a record in memory.
const MOST: usize = 1 << 16;

/// All containers. A copy is the same.
#[derive(Debug, Clone)]
pub(crate) struct Store(pub(super) Arc<Inner>);

/// What [`Store`] is a handle of.
#[derive(Debug)]
pub(super) struct Inner {
    /// What it stands on.
    pub(super) shared: Arc<Shared>,
    /// Commands.
    pub(super) execs: Execs,
    dir: PathBuf,
    all: RwLock<BTreeMap<String, Arc<Container>>>,
    /// Names, also of those being made.
    names: Mutex<BTreeMap<String, String>>,
    removed: AtomicU64,
}

/// What was half done with a container when a former daemon ended, with its directory.
#[derive(Debug)]
pub(crate) enum HalfDone {
    /// It was being made.
    Making(PathBuf),
    /// It was being removed.
    Removal(PathBuf, Box<Record>),
}

/// A name that is taken for a container that is being made; given back unless the container is [`Store::add`]ed.
#[derive(Debug)]
pub(super) struct Named {
    store: Store,
    name: String,
    kept: bool,
}

impl Drop for Named {
    fn drop(&mut self) {
        if !self.kept {
            self.store.names().remove(&self.name);
        }
    }
}

impl Store {
    /// Takes up what is on record, and says what has to be done about the rest. [`Store::resume`] is next.
    ///
    /// # Errors
    /// When the directory cannot be made or read. A record that cannot be understood is told of and left.
    pub(crate) fn open(shared: Arc<Shared>) -> Result<(Self, Vec<HalfDone>), OpenError> {
        let dir = shared.root.join("containers");
        let records = |step| OpenError::records(step, &dir);
        fs::create_dir_all(&dir).map_err(records("make"))?;
        let store = Self(Arc::new(Inner {
            shared,
            execs: Execs::default(),
            dir: dir.clone(),
            all: RwLock::default(),
            names: Mutex::default(),
            removed: AtomicU64::new(1),
        }));
        let mut half_done = Vec::new();
        for entry in fs::read_dir(&dir).map_err(records("read"))? {
            let entry = entry.map_err(records("read"))?;
            half_done.extend(store.take_up(entry.path(), entry.file_name().to_str().unwrap_or_default()));
        }
        Ok((store, half_done))
    }

    /// Takes up what a directory has, or says what has to be done about it.
    fn take_up(&self, path: PathBuf, name: &str) -> Option<HalfDone> {
        if let Some(number) = name.strip_prefix(REMOVING) {
            self.0.removed.fetch_max(number.parse().unwrap_or(0) + 1, Ordering::Relaxed);
            delete_later(path);
            return None;
        }
        match Record::read(&path) {
            Ok(Some(record)) if record.id == name && record.state.phase == Phase::Removing => {
                return Some(HalfDone::Removal(path, Box::new(record)));
            }
            Ok(Some(record)) if record.id == name => {
                let (id, image) = (record.id.clone(), record.image.clone());
                match self.0.shared.images.acquire(&image) {
                    Ok(lease) => {
                        self.names().insert(record.name.clone(), id.clone());
                        let container = Arc::new(Container::new(path, record, lease));
                        self.write().insert(id, container);
                    }
                    Err(error) => {
                        warn!(
                            container = id,
                            error = &error as &dyn std::error::Error,
                            "the image of a container is not here any more; the container is left alone"
                        );
                    }
                }
            }
            // Being made when huskd ended.
            Ok(_) => return Some(HalfDone::Making(path)),
            Err(error) => {
                warn!(path = %path.display(), %error, "the record of a container cannot be understood; mend or remove it");
            }
        }
        None
    }

    // === finding ===

    /// A container by id, the beginning of one that no other has, or name.
    ///
    /// # Errors
    /// 404, 400 when several begin so.
    pub(crate) fn find(&self, wanted: &str) -> Result<Arc<Container>> {
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        let all = self.read();
        if let Some(container) = all.get(name) {
            return Ok(Arc::clone(container));
        }
        if let Some(id) = self.names().get(name) {
            return all.get(id).cloned().ok_or_else(|| no_such(wanted));
        }
        let mut begin =
            all.range(name.to_owned()..).take_while(|(id, _)| !name.is_empty() && id.starts_with(name));
        match (begin.next(), begin.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => {
                Err(Failure::bad(format!("multiple IDs found with provided prefix: {name}")))
            }
            (None, _) => Err(no_such(wanted)),
        }
    }

    /// All, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by_key(|container| std::cmp::Reverse(container.record().created));
        all
    }

    // === making and removing ===

    /// Takes a name; an empty one is made up.
    ///
    /// # Errors
    /// 409 when another has it, 400 when it cannot be one.
    pub(super) fn take_name(&self, wanted: &str, id: &str) -> Result<Named> {
        let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
        if wanted.is_empty() {
            // The id's own, so that nobody has it.
            let name = super::names::made_up(id);
            let name = if self.names().contains_key(&name) { short(id).to_owned() } else { name };
            return self.take_name(&name, id);
        }
        super::names::check(wanted)?;
        if self.read().len() >= MOST {
            return Err(Failure::conflict(format!("there are {MOST} containers; remove some")));
        }
        let mut names = self.names();
        if let Some(other) = names.get(wanted) {
            return Err(Failure::conflict(format!(
                "Conflict. The container name \"/{wanted}\" is already in use by container \"{other}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        names.insert(wanted.to_owned(), id.to_owned());
        Ok(Named { store: self.clone(), name: wanted.to_owned(), kept: false })
    }

    /// The name that was taken.
    pub(super) fn add(&self, mut named: Named, container: Arc<Container>) {
        named.kept = true;
        self.write().insert(container.id.clone(), container);
    }

    /// The name that was taken is that of a container that is called otherwise until now.
    pub(super) fn give_name(&self, mut named: Named, former: &str) {
        named.kept = true;
        self.names().remove(former);
    }

    /// Forgets one whose directory is gone.
    pub(super) fn forget(&self, container: &Container) {
        self.write().remove(&container.id);
        self.names().remove(&container.record().name);
        self.0.execs.forget(container);
        container.gone();
    }

    /// Where one is written down.
    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.0.dir.join(id)
    }

    /// Takes a directory out of sight, to be deleted in the background.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn bury(&self, dir: &Path) -> io::Result<()> {
        let number = self.0.removed.fetch_add(1, Ordering::Relaxed);
        let grave = self.0.dir.join(format!("{REMOVING}{number}"));
        match fs::rename(dir, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(()) => {
                delete_later(grave);
                Ok(())
            }
            error => error,
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Container>>> {
        self.0.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Container>>> {
        self.0.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_such(container: &str) -> Failure {
    Failure::not_found(format!("No such container: {}", container.chars().take(80).collect::<String>()))
}

impl Named {
    /// The name.
    pub(super) fn name(&self) -> &String {
        &self.name
    }
}
