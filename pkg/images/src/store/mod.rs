//! The store: unpacked layers, shared by diff id, and the images made of them.
//!
//! ```text
//! <root>/images/
//!   lock               held by the one process that works here
//!   meta.redb          layers, images, configurations (see `db`)
//!   reserve            a mebibyte of room, given up to removals on a full disk
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
//! Roots of garbage collection: images in the database, pins of pulls under way, leases of containers. An image that is on its way
//! out is marked so under the lock of the state that showed it unused, before a record is written, and is not leased any more. Locks: `db`, held
//! by one mutation from its first look at the state to its end; `state`, for moments, inside or outside of it; the
//! snapshot's lock, for the exchange of a pointer. Readers take only the last. `composing` is held while layers take from
//! those below them, before any other.

mod commit;
mod db;
mod examine;
mod hold;
mod images;
mod janitor;
mod job;
mod lease;
mod open;
mod pins;
mod pushed;
mod remove;
mod reserve;
mod state;
mod tag;
mod untag;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use husk_model::ImageId;

pub(crate) use commit::NewImage;
use db::Db;
pub(crate) use db::{BlobSource, LayerRecord};
pub use images::{ImageStore, ImagesConfig};
use job::Job;
pub use lease::ImageLease;
pub(crate) use lease::Pin;
pub(crate) use state::Loose;
use state::{Snapshot, State};
pub use untag::Removed;

use crate::{ImageError, Result, unpack::Destination};

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

    /// The manifest that an image was pulled by, as it came.
    pub(crate) fn manifest_bytes(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.db().manifest(id)
    }

    /// What was noted of an image when it was made here.
    pub(crate) fn note(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        self.db().note(id)
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

    /// Record and directories of the layer that is kept under `key`.
    pub(crate) fn layer_of(&self, key: &str) -> Option<(LayerRecord, Destination)> {
        let record = self.state().layers.get(key)?.record.clone();
        let files = self.destination(record.number);
        Some((record, files))
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
