//! All volumes, and who holds which.
//!
//! ```text
//! <root>/docker/volumes/<name>/volume.json   the record, written last
//! <root>/docker/volumes/<name>/_data/        the files
//! <root>/docker/volumes/<name>/_filling, _filled  what of an image is on its way into them (see `filling`)
//! <root>/docker/volumes/.removing-<n>        what was removed and is not deleted yet
//! ```
//!
//! A directory without a record was being made: it goes at the next start if nothing is in it. Removal is a rename, so a volume is
//! there or not; what is left behind is deleted then, or at the next start. A volume that is held is not removed: whoever makes
//! a container holds its volumes until the container is on record, from where they count as used.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::warn;

use super::{
    filling, name, options,
    record::{DATA, RECORD, Volume},
};
use crate::{
    error::{Failure, OpenError, Result},
    removal::delete,
    threads::delete_later,
};

/// What the name of a directory begins with that is being deleted. No volume's does.
const REMOVING: &str = ".removing-";

/// A volume that is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Empty for one that is made up.
    pub(crate) name: String,
    /// The name was made up already.
    pub(crate) made_up: bool,
    /// Empty or `local`.
    pub(crate) driver: String,
    /// `type`, `device`, `o`.
    pub(crate) options: BTreeMap<String, String>,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    removed: AtomicU64,
    slots: Mutex<BTreeMap<String, Slot>>,
}

#[derive(Debug)]
struct Slot {
    volume: Arc<Volume>,
    holders: usize,
    /// Whoever fills it does so alone.
    filling: Arc<tokio::sync::Mutex<()>>,
}

impl Slot {
    fn new(volume: Arc<Volume>, holders: usize) -> Self {
        Self { volume, holders, filling: Arc::default() }
    }
}

/// A volume that stays while this is there.
#[derive(Debug)]
pub(crate) struct Held {
    volumes: Arc<Volumes>,
    volume: Arc<Volume>,
    filling: Arc<tokio::sync::Mutex<()>>,
}

impl Held {
    /// The volume.
    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// The turn to [fill](super::Filling) it. Whoever gets it later finds it filled.
    pub(crate) async fn turn_to_fill(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.filling).lock_owned().await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(slot) = self.volumes.slots().get_mut(&self.volume.name) {
            slot.holders -= 1;
        }
    }
}

impl Volumes {
    /// Reads the records, and deletes what was being made or removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read. A record that cannot be understood is told of and left: its name stays taken.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, OpenError> {
        let records = |step| OpenError::records(step, &dir);
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(records("make"))?;
        let mut slots = BTreeMap::new();
        let mut highest = 0;
        for entry in fs::read_dir(&dir).map_err(records("read"))? {
            let entry = entry.map_err(records("read"))?;
            let (path, own_name) = (entry.path(), entry.file_name());
            if let Some(number) = own_name.to_str().and_then(|name| name.strip_prefix(REMOVING)) {
                highest = highest.max(number.parse().unwrap_or(0));
                delete(&path).unwrap_or_else(
                    |error| warn!(path = %path.display(), %error, "cannot delete what is left of a volume"),
                );
                continue;
            }
            match Volume::read(&path) {
                Ok(Some(volume)) => {
                    if let Err(error) = filling::go_on(&volume) {
                        warn!(volume = volume.name, %error, "cannot go on with filling a volume");
                    }
                    slots.insert(volume.name.clone(), Slot::new(Arc::new(volume), 0));
                }
                Ok(None) => undo(&path),
                Err(error) => {
                    warn!(path = %path.join(RECORD).display(), %error, "a volume cannot be loaded; mend or remove its record");
                }
            }
        }
        Ok(Self { dir, removed: AtomicU64::new(highest + 1), slots: Mutex::new(slots) })
    }

    /// Makes a volume, or finds the one that has the name already, whatever its options (as dockerd does). True when it was made.
    ///
    /// # Errors
    /// 400 for a name, a driver or an option that cannot be; those of the disk.
    pub(crate) fn ensure(self: &Arc<Self>, wanted: Wanted) -> Result<(Held, bool)> {
        if !matches!(wanted.driver.as_str(), "" | "local") {
            let driver: String = wanted.driver.chars().take(80).collect();
            return Err(Failure::not_found(format!(
                "create {}: error looking up volume plugin {driver}: plugin \"{driver}\" not found; husk has the driver local",
                wanted.name.chars().take(80).collect::<String>()
            )));
        }
        let anonymous = wanted.made_up || wanted.name.is_empty();
        let name = if wanted.name.is_empty() { name::made_up() } else { wanted.name };
        name::check(&name)?;
        // Held for the making of two directories and a record: another maker of the same name must find it whole.
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(&name) {
            slot.holders += 1;
            return Ok((self.held(slot), false));
        }
        options::check(&wanted.options)?;
        let volume = Arc::new(Volume {
            dir: self.dir.join(&name),
            created: husk_node::now(),
            labels: wanted.labels,
            options: wanted.options,
            anonymous,
            name,
        });
        make(&volume).map_err(Failure::io(format!("make volume {}", volume.name)))?;
        let slot = Slot::new(Arc::clone(&volume), 1);
        let held = self.held(&slot);
        slots.insert(volume.name.clone(), slot);
        Ok((held, true))
    }

    /// Of a holder that is counted.
    fn held(self: &Arc<Self>, slot: &Slot) -> Held {
        let (volume, filling) = (Arc::clone(&slot.volume), Arc::clone(&slot.filling));
        Held { volumes: Arc::clone(self), volume, filling }
    }

    /// A volume by name, held.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn hold(self: &Arc<Self>, name: &str) -> Result<Held> {
        let mut slots = self.slots();
        let slot = slots.get_mut(name).ok_or_else(|| absent(name))?;
        slot.holders += 1;
        Ok(self.held(slot))
    }

    /// A volume by name.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Volume>> {
        self.slots().get(name).map(|slot| Arc::clone(&slot.volume)).ok_or_else(|| absent(name))
    }

    /// All volumes, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Volume>> {
        self.slots().values().map(|slot| Arc::clone(&slot.volume)).collect()
    }

    /// Removes a volume unless it is held or, by what `users` says of its name, used. Its files are deleted in the background.
    ///
    /// # Errors
    /// 404, 409 with the users' ids, those of the disk.
    pub(crate) fn remove(&self, name: &str, users: impl FnOnce(&str) -> Vec<String>) -> Result<Arc<Volume>> {
        let mut slots = self.slots();
        let slot = slots.get(name).ok_or_else(|| absent(name))?;
        // Asked with the lock held: whoever makes a user holds the volume first.
        let users = users(name);
        if slot.holders > 0 || !users.is_empty() {
            return Err(Failure::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let volume = Arc::clone(&slot.volume);
        let number = self.removed.fetch_add(1, Ordering::Relaxed);
        let grave = self.dir.join(format!("{REMOVING}{number}"));
        fs::rename(&volume.dir, &grave).map_err(Failure::io(format!("remove volume {name}")))?;
        slots.remove(name);
        drop(slots);
        delete_later(grave);
        Ok(volume)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent(name: &str) -> Failure {
    let name: String = name.chars().take(80).collect();
    Failure::not_found(format!("get {name}: no such volume"))
}

/// Makes directory, files' directory and record, or nothing.
fn make(volume: &Volume) -> io::Result<()> {
    let build = || {
        fs::DirBuilder::new().mode(0o701).create(&volume.dir)?;
        let data = volume.dir.join(DATA);
        fs::DirBuilder::new().mode(0o755).create(&data)?;
        // Whatever the umask is: containers' users have to get in.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
        volume.write()
    };
    let built = build();
    if let Err(error) = &built
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        undo(&volume.dir);
    }
    built
}

/// Removes a directory that holds nothing but what making a volume leaves half-way; anything else is somebody's.
fn undo(dir: &Path) {
    let unfinished = husk_node::file::unfinished(&dir.join(RECORD));
    let _ = fs::remove_file(unfinished);
    let removed = match fs::remove_dir(dir.join(DATA)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir(dir),
    };
    if let Err(error) = removed {
        warn!(path = %dir.display(), %error, "a directory among the volumes is none, and is not empty; look at it and remove it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Arc<Volumes> {
        Arc::new(Volumes::open(dir.join("volumes")).unwrap())
    }

    fn named(name: &str) -> Wanted {
        Wanted { name: name.to_owned(), ..Wanted::default() }
    }

    fn nobody(_: &str) -> Vec<String> {
        Vec::new()
    }

    #[tokio::test]
    async fn a_volume_is_there_until_it_is_removed_whatever_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let volumes = open(dir.path());
        let (held, made) = volumes.ensure(Wanted { labels: labels.clone(), ..named("data") }).unwrap();
        assert!(made);
        fs::write(held.volume().data().join("f"), "x").unwrap();
        drop(held);
        let volumes = open(dir.path());
        let volume = volumes.get("data").unwrap();
        assert_eq!((&volume.labels, volume.anonymous), (&labels, false));
        assert_eq!(fs::read_to_string(volume.data().join("f")).unwrap(), "x");
        assert!(!volumes.ensure(named("data")).unwrap().1);
        volumes.remove("data", nobody).unwrap();
        assert_eq!(volumes.get("data").unwrap_err().status(), 404);
        assert!(open(dir.path()).list().is_empty());
    }

    #[tokio::test]
    async fn what_is_held_or_used_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = open(dir.path());
        let (held, _) = volumes.ensure(named("data")).unwrap();
        assert_eq!(volumes.remove("data", nobody).unwrap_err().status(), 409);
        let again = volumes.hold("data").unwrap();
        drop(held);
        assert_eq!(volumes.remove("data", nobody).unwrap_err().status(), 409);
        drop(again);
        let used = volumes.remove("data", |_| vec!["abc".to_owned()]).unwrap_err();
        assert!(used.message().ends_with("volume is in use - [abc]"), "{}", used.message());
        volumes.remove("data", nobody).unwrap();
    }

    #[tokio::test]
    async fn a_volume_without_a_name_gets_one_and_is_known_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = open(dir.path());
        let (held, _) = volumes.ensure(Wanted::default()).unwrap();
        assert_eq!(held.volume().name.len(), 64);
        assert!(open(dir.path()).list()[0].anonymous);
    }

    #[test]
    fn what_was_half_made_or_half_removed_is_gone_after_a_start_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = dir.path().join("volumes");
        fs::create_dir_all(volumes.join("half").join(DATA)).unwrap();
        fs::write(volumes.join("half/volume.json.new"), "{").unwrap();
        fs::create_dir_all(volumes.join(".removing-7").join("a/b")).unwrap();
        fs::create_dir_all(volumes.join("strange")).unwrap();
        fs::write(volumes.join("strange/precious"), "x").unwrap();
        fs::create_dir_all(volumes.join("broken")).unwrap();
        fs::write(volumes.join("broken/volume.json"), "{").unwrap();
        let opened = open(dir.path());
        assert!(opened.list().is_empty());
        assert!(!volumes.join("half").exists() && !volumes.join(".removing-7").exists());
        assert!(volumes.join("strange/precious").exists() && volumes.join("broken/volume.json").exists());
        assert!(opened.ensure(named("broken")).is_err(), "its name is taken");
        assert!(volumes.join("broken/volume.json").exists());
    }

    #[test]
    fn a_record_of_another_name_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = open(dir.path());
        drop(volumes.ensure(named("data")).unwrap());
        fs::rename(dir.path().join("volumes/data"), dir.path().join("volumes/other")).unwrap();
        assert!(open(dir.path()).list().is_empty());
    }

    #[test]
    fn another_driver_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { driver: "rexray".to_owned(), ..named("data") };
        assert!(open(dir.path()).ensure(wanted).unwrap_err().message().contains("rexray"));
    }
}
