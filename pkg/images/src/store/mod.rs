//! The store: unpacked layers, shared by diff id, and the images made of them.
//!
//! ```text
//! <root>/images/
//!   lock               held by the one process that works here
//!   meta.redb          layers, images, configurations (see `db`)
//!   layers/<n>/        one layer's files, in the form overlayfs reads; <n> is short because mount options are
//!   records/<n>        what reproduces the layer's archive (see `unpack::record`)
//!   aside/<n>/         files that later members of the same archive replaced; for exports only, rarely there
//!   spool/             compressed archives that are being imported, inflated
//! ```
//!
//! A layer's directory means nothing until a record names it. A commit writes the record of an image and of its new
//! layers in one durable transaction; the files themselves reach the disk a moment later with one `syncfs`, and until
//! then the image is marked with the boot it belongs to. After `kill -9` the page cache still has everything; after a
//! power failure the boot differs and marked images are dropped and pulled again. Directories without a record are
//! deleted at the next start, or when somebody looks for them (`examine`).
//!
//! Roots of garbage collection: images in the database, pins of pulls under way, leases of containers. Locks: `db`, held
//! by one mutation from its first look at the state to its end; `state`, for moments, inside or outside of it; the
//! snapshot's lock, for the exchange of a pointer. Readers take only the last. `composing` is held while layers take from
//! those below them, before any other.

mod commit;
mod db;
mod examine;
mod janitor;
mod lease;
mod open;
mod remove;
mod state;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use husk_model::ImageId;
use tokio::sync::oneshot;

pub(crate) use commit::NewImage;
use db::Db;
pub(crate) use db::LayerRecord;
use janitor::Job;
pub use lease::ImageLease;
pub(crate) use lease::Pin;
pub(crate) use state::Loose;
use state::{Snapshot, State};

use crate::{
    FsUsage, Image, ImageError, LayerStack, Result, flight::Flights, registry::Clients, slots::Slots,
    unpack::Destination,
};

/// How the store and its pulls behave.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// `<host>/hosts.toml` files.
    pub registry_config_dir: PathBuf,
    /// Layers fetched and unpacked at once, over all pulls, besides the first of each; also the most of one pull.
    pub max_parallel_layers: usize,
    /// A transfer without a byte for this long fails.
    pub pull_progress_timeout: Duration,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            registry_config_dir: PathBuf::from("/etc/husk/certs.d"),
            max_parallel_layers: 4,
            pull_progress_timeout: Duration::from_secs(300),
        }
    }
}

/// The images of this node.
pub struct ImageStore {
    pub(crate) shared: Arc<Shared>,
    config: RwLock<ImagesConfig>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) pulls: Flights<ImageId>,
    pub(crate) layers: Flights<Arc<Pin>>,
    pub(crate) slots: Slots,
}

/// The part that leases and the janitor refer to.
pub(crate) struct Shared {
    directory: PathBuf,
    boot: String,
    next: AtomicU64,
    /// Numbers of layers that are being unpacked: from before their files are made until the state has them.
    making: Mutex<BTreeSet<u64>>,
    jobs: mpsc::Sender<Job>,
    db: Mutex<Db>,
    state: Mutex<State>,
    /// Held while layers are composed; the outermost of the locks.
    composing: Mutex<()>,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held for as long as the store is open.
    _lock: std::os::fd::OwnedFd,
}

impl fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// How pulls behave now.
    pub(crate) fn config(&self) -> ImagesConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where registries are configured and how patient pulls are, from the next pull on.
    pub fn reconfigure(&self, registry_config_dir: PathBuf, pull_progress_timeout: Duration) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        config.registry_config_dir = registry_config_dir;
        config.pull_progress_timeout = pull_progress_timeout;
    }

    /// All images, by id. Never waits for work under way.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.shared.snapshot().list.clone()
    }

    /// The image of a name in any spelling, of an id with or without `sha256:`, or of the unique beginning of an id.
    pub fn resolve(&self, name: &str) -> Option<Arc<Image>> {
        self.shared.snapshot().resolve(name).cloned()
    }

    /// What the store occupies, as of the last change.
    pub fn usage(&self) -> FsUsage {
        let snapshot = self.shared.snapshot();
        FsUsage {
            path: self.shared.directory.clone(),
            used_bytes: snapshot.used_bytes,
            inodes_used: snapshot.inodes_used,
        }
    }

    /// The layers of an image, topmost first, also of one that was removed while a lease holds it.
    ///
    /// # Errors
    /// [`ImageError::NoImage`].
    pub fn rootfs(&self, id: &ImageId) -> Result<LayerStack> {
        let state = self.shared.state();
        let slot = state.images.get(id).ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
        let mut lowers = Vec::with_capacity(slot.record.layers.len());
        for layer in slot.record.layers.iter().rev().filter_map(|key| state.layers.get(key)) {
            let name = name_of(layer.record.number);
            // Overlayfs refuses a directory that is there twice (ELOOP). All that the lower one has shows in the upper.
            if !lowers.contains(&name) {
                lowers.push(name);
            }
            // Overlayfs looks at the opaque marker of every directory but the root.
            if layer.record.opaque {
                break;
            }
        }
        Ok(LayerStack { base: self.shared.directory.join("layers"), lowers })
    }

    /// Keeps an image's layers until the lease is dropped, whatever happens to the image.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]. An image that was removed while in use can still be leased, so that a restarted daemon can
    /// take up the leases of running containers.
    pub fn acquire(&self, id: &ImageId) -> Result<ImageLease> {
        lease::acquire(&self.shared, id)
    }

    /// Removes the image that `name` resolves to, with all its tags. An absent one is a success. The layers of an image
    /// that containers use stay until the last lease is dropped.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        blocking("removing an image", move || shared.remove(&name)).await
    }

    /// Deletes images that were removed while in use and that nobody has leased since. To be called once, when the leases of
    /// running containers have been taken up again after a start.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn collect(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking("collecting unused images", move || shared.collect(None)).await
    }

    /// Waits until all deletions and writes to disk that were asked for so far are done.
    pub async fn idle(&self) {
        let (sender, done) = oneshot::channel();
        self.shared.enqueue(Job::Barrier(sender));
        let _ended_either_way = done.await;
    }
}

impl Shared {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn db(&self) -> MutexGuard<'_, Db> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `state` what readers see.
    fn publish(&self, state: &State) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state.snapshot());
    }

    fn enqueue(&self, job: Job) {
        // The janitor ends only when the store is gone, and then the next start does what is left.
        let _gone = self.jobs.send(job);
    }

    /// The configuration of an image as it came.
    pub(crate) fn config_bytes(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.db().config(id)
    }

    /// A new place for a layer. Its directory exists afterwards.
    pub(crate) fn new_layer(&self) -> Result<(u64, Destination)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let destination = self.destination(number);
        self.making().insert(number);
        let make = || -> std::io::Result<()> {
            use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
            std::fs::DirBuilder::new().mode(0o755).create(&destination.root)?;
            // The root of a container is accessible to its users whatever this process's umask is.
            std::fs::set_permissions(&destination.root, std::fs::Permissions::from_mode(0o755))
        };
        let made = make().map_err(ImageError::store("make the layer directory", &destination.root));
        if made.is_err() {
            self.made(number);
        }
        made.map(|()| (number, destination))
    }

    /// The layer of this number is in the state, or on its way out.
    pub(crate) fn made(&self, number: u64) {
        self.making().remove(&number);
    }

    fn making(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the layer of this number is.
    pub(crate) fn destination(&self, number: u64) -> Destination {
        let name = name_of(number);
        Destination {
            root: self.directory.join("layers").join(&name),
            aside: self.directory.join("aside").join(&name),
            record: self.directory.join("records").join(&name),
        }
    }

    /// Deletes a layer's files in the background.
    pub(crate) fn discard(&self, number: u64) {
        let Destination { root, aside, record } = self.destination(number);
        self.enqueue(Job::Delete(vec![root, aside, record]));
    }

    /// Records and directories of an image's layers, lowest first.
    pub(crate) fn layers_of(&self, id: &ImageId) -> Result<Vec<(LayerRecord, Destination)>> {
        let state = self.state();
        let slot = state.images.get(id).ok_or_else(|| ImageError::NoImage { name: id.to_string() })?;
        let layers = slot.record.layers.iter().filter_map(|key| state.layers.get(key));
        Ok(layers.map(|layer| (layer.record.clone(), self.destination(layer.record.number))).collect())
    }
}

/// A layer's directory name: its number in base 36.
pub(crate) fn name_of(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = Vec::new();
    loop {
        name.push(char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return name.into_iter().rev().collect();
        }
    }
}

/// Runs blocking work of the store on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ImageError::Interrupted { object: what.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_are_short_and_reversible() {
        for (number, name) in [(0, "0"), (35, "z"), (36, "10"), (46_655, "zzz")] {
            assert_eq!(name_of(number), name);
            assert_eq!(u64::from_str_radix(name, 36).unwrap(), number);
        }
    }
}
