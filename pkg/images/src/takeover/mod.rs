//! Images of another runtime on this node, taken over from its directories without a pull.
//!
//! | module | what |
//! | --- | --- |
//! | `bolt` | a reader of containerd's database, bbolt's format |
//! | `containerd` | names and manifests from the database, blobs from the content store |
//! | `storage` | `containers/storage` of CRI-O and podman: images and layers from its lists |
//! | `tar_split` | a layer's archive again, from its tar-split record and its files |
//!
//! The directories are read and never written. What they hold is no more trusted than what a registry sends: manifests and
//! configurations have the digests that name them, every layer goes through the pipeline of a pull and has to come to its diff id,
//! and everything that is read at once is bounded.

mod bolt;
mod containerd;
mod storage;
mod tar_split;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_model::{Digest, ImageId};
use sha2::{Digest as _, Sha256};

use crate::{
    Image, ImageError, ImageStore, Progress, Reference, Result, archive::Report, layer, reference::Selector,
    stop::Stop, store::blocking,
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

/// What became of each image, by a name of it.
type Outcomes = Vec<(String, Result<ImageId>)>;

/// Which images are wanted.
struct Wanted {
    /// As they were asked for, and whether they were found; empty takes all.
    asked: BTreeMap<String, bool>,
}

impl Wanted {
    fn new(asked: Vec<String>) -> Self {
        Self { asked: asked.into_iter().map(|name| (name, false)).collect() }
    }

    /// Whether an image is wanted that has these names, this id, or this digest.
    fn has(&mut self, names: &Names, id: &str) -> bool {
        if self.asked.is_empty() {
            return true;
        }
        let mut wanted = false;
        for (name, found) in &mut self.asked {
            let full = Reference::parse(name).map(|reference| reference.to_string());
            let named = full.is_ok_and(|full| names.tags.contains(&full) || names.digests.contains(&full));
            let hex = name.strip_prefix("sha256:").unwrap_or(name);
            let numbered = hex.len() >= 12 && id.trim_start_matches("sha256:").starts_with(hex);
            if named || numbered {
                *found = true;
                wanted = true;
            }
        }
        wanted
    }

    fn left(&self) -> impl Iterator<Item = &String> {
        self.asked.iter().filter(|(_, found)| !**found).map(|(name, _)| name)
    }
}

/// What an image is called there, in full.
#[derive(Debug, Default, Clone)]
struct Names {
    tags: BTreeSet<String>,
    digests: BTreeSet<String>,
}

impl Names {
    /// Adds a name; one that is none to husk (containerd keeps ids among them) is left out.
    fn add(&mut self, name: &str) {
        if name.starts_with("sha256:") {
            return;
        }
        let Ok(reference) = Reference::parse(name) else { return };
        match reference.selector() {
            Selector::Tag(_) => self.tags.insert(reference.to_string()),
            Selector::Digest(_) => self.digests.insert(reference.to_string()),
        };
    }

    /// One for people.
    fn first(&self, otherwise: &str) -> String {
        self.tags.iter().chain(&self.digests).next().map_or_else(|| otherwise.to_owned(), String::clone)
    }

    /// The names by digest, of those that `is_right` vouches for, and of every repository with `top`.
    fn digests(&self, top: Option<&Digest>, is_right: impl Fn(&Digest) -> bool) -> Vec<String> {
        let parsed = |name: &String| Reference::parse(name).ok();
        let named = self.digests.iter().filter(|name| {
            parsed(name).is_some_and(|reference| match reference.selector() {
                Selector::Digest(digest) => is_right(digest),
                Selector::Tag(_) => false,
            })
        });
        let of_tags = self.tags.iter().filter_map(parsed);
        let of_tags = of_tags.filter_map(|reference| Some(format!("{}@{}", reference.name(), top?)));
        named.cloned().chain(of_tags).collect()
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Origin { path: path.to_owned(), reason: reason.into() }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |error| ImageError::Origin { reason: error.to_string(), path }
}

/// A file as a whole; `None` when there is none.
fn small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() as u64 > limit {
        return Err(wrong(path, format!("has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

fn is_there(path: &Path) -> bool {
    fs::metadata(path).is_ok()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// Doors for test/fuzz.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz {
    use super::*;

    /// Reads a file as containerd's database.
    pub(crate) fn bolt(path: &Path) {
        if let Ok(file) = File::open(path) {
            let _refused = containerd::images(file, path, "k8s.io");
        }
    }

    /// Reads a record as that of a layer whose files are in `root`.
    pub(crate) fn tar_split(bytes: &[u8], root: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        if let Ok(archive) = tar_split::Archive::new(bytes, root) {
            let _refused = archive.take(1 << 20).read_to_end(&mut out);
        }
        out
    }
}
