//! Images of another runtime on this node, taken over from its directories without a pull.
//!
//! | module | what |
//! | --- | --- |
//! | `bolt` | a reader of containerd's database, bbolt's format |
//! | `containerd` | names and manifests from the database, blobs from the content store |
//! | `storage` | `containers/storage` of CRI-O and podman: images and layers from its lists |
//! | `names`, `files` | what both need: what images are called, and small files |
//! | `tar_split` | a layer's archive again, from its tar-split record and its files |
//!
//! The directories are read and never written. What they hold is no more trusted than what a registry sends: manifests and
//! configurations have the digests that name them, every layer goes through the pipeline of a pull and has to come to its diff id,
//! and everything that is read at once is bounded.

mod bolt;
mod containerd;
mod files;
mod names;
mod storage;
mod tar_split;

use std::{path::PathBuf, sync::Arc};

use names::Wanted;

use crate::{
    Image, ImageError, ImageStore, Progress, Result, archive::Report, layer, stop::Stop, store::blocking,
};

/// Whose images, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// containerd's, of one of its namespaces.
    Containerd {
        /// `root` of its configuration.
        root: PathBuf,
        /// `k8s.io` is the kubelet's.
        namespace: String,
    },
    /// Those of CRI-O and podman.
    ContainersStorage {
        /// `graphroot`; `None` takes it from storage.conf.
        root: Option<PathBuf>,
    },
}

/// What came of it.
#[derive(Debug, Default)]
pub struct TakenOver {
    /// Images that are here now.
    pub images: Vec<Arc<Image>>,
    /// Images that could not be taken over, by a name, and why.
    pub refused: Vec<(String, ImageError)>,
}

impl ImageStore {
    /// Takes over the images `only` (names in any spelling, or beginnings of ids), or all. One that fails does not keep the
    /// others from coming.
    ///
    /// # Errors
    /// [`ImageError::Origin`] when nothing can be read there: it is not there, in use, or of a format that husk does not know.
    pub async fn take_over(
        self: &Arc<Self>,
        origin: Origin,
        only: Vec<String>,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<TakenOver> {
        let (shared, stop) = (Arc::clone(&self.shared), Stop::default());
        let _with_this_task = stop.on_drop();
        let progress: Arc<Report> = Arc::new(progress);
        let taken = blocking("taking images over", move || {
            let mut wanted = Wanted::new(only);
            let mut outcomes = match &origin {
                Origin::Containerd { root, namespace } => {
                    containerd::take(&shared, root, namespace, &mut wanted, &progress, &stop)?
                }
                Origin::ContainersStorage { root } => {
                    storage::take(&shared, root.as_deref(), &mut wanted, &progress, &stop)?
                }
            };
            outcomes.extend(wanted.left().map(|name| {
                let reason = "there is no image of this name".to_owned();
                (name.clone(), Err(ImageError::NotTaken { reason }))
            }));
            Ok(outcomes)
        });
        let outcomes = taken.await?;
        layer::give_memory_back();
        let mut done = TakenOver::default();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(id) => done.images.extend(self.resolve(id.as_str())),
                Err(error) => done.refused.push((name, error)),
            }
        }
        Ok(done)
    }
}

/// Doors for test/fuzz.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz {
    use std::{fs::File, io::Read, path::Path};

    use super::{containerd, tar_split};

    /// Reads a file as containerd's database.
    pub(crate) fn bolt(path: &Path) {
        if let Ok(file) = File::open(path) {
            let _refused = containerd::images(file, path, "k8s.io");
        }
    }

    /// Reads a record as that of a layer whose files are in `root`.
    pub(crate) fn tar_split(bytes: &[u8], root: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        if let Ok(archive) = tar_split::Archive::open(bytes, root) {
            let _refused = archive.take(1 << 20).read_to_end(&mut out);
        }
        out
    }
}
