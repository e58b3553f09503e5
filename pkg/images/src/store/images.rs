//! The store's face: what is asked of it about images that are there. Pulls, archives and start-up have files of their own.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use husk_model::ImageId;
use tokio::sync::oneshot;

use super::{ImageLease, Pin, Shared, blocking, job::Job, lease, name_of, pins};
use crate::{
    FsUsage, Image, ImageError, LayerStack, Reference, RegistriesConf, Result, flight::Flights,
    reference::is_short, registry::Clients, slots::Slots, tally::Tallies, trust::Policy,
};

/// How the store and its pulls behave.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// `<host>/hosts.toml` files.
    pub registry_config_dir: PathBuf,
    /// Which locations are asked for an image, and what names without a registry mean; `None` leaves that to hosts.toml and to
    /// Docker's rule.
    pub registries: Option<Arc<RegistriesConf>>,
    /// Layers fetched and unpacked at once, over all pulls, besides the first of each; also the most of one pull.
    pub max_parallel_layers: usize,
    /// A transfer without a byte for this long fails.
    pub pull_progress_timeout: Duration,
    /// The policy that says which images may be pulled (containers-policy.json(5)); without one, all may.
    pub signature_policy: Option<PathBuf>,
    /// Credentials in the format of docker's config.json (containers-auth.json(5)); without one, those that come with a pull.
    pub auth_file: Option<PathBuf>,
    /// Where docker-credential-* programs are; without one, the directories of `PATH`.
    pub credential_helper_dir: Option<PathBuf>,
    /// Names of images that the kubelet shall not remove: a name, `beginning*` or `*part*`, in any letter case.
    pub pinned_images: Vec<String>,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            registry_config_dir: PathBuf::from("/etc/husk/certs.d"),
            registries: None,
            max_parallel_layers: 4,
            pull_progress_timeout: Duration::from_secs(300),
            signature_policy: None,
            auth_file: None,
            credential_helper_dir: None,
            pinned_images: Vec::new(),
        }
    }
}

/// The images of this node.
pub struct ImageStore {
    pub(crate) shared: Arc<Shared>,
    pub(super) config: RwLock<ImagesConfig>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) pulls: Flights<ImageId>,
    /// How far each of them is.
    pub(crate) tallies: Tallies,
    pub(crate) layers: Flights<Arc<Pin>>,
    pub(crate) slots: Slots,
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

    /// How pulls behave from the next one on. How many layers are fetched at once stays as it is.
    pub fn reconfigure(&self, wanted: ImagesConfig) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = ImagesConfig { max_parallel_layers: config.max_parallel_layers, ..wanted };
    }

    /// Reads the signature policy and the keys that it names, as every pull does.
    ///
    /// # Errors
    /// [`ImageError::Policy`] with the place in the file.
    pub fn check_policy(path: &Path) -> Result<()> {
        Policy::read(path).map(drop)
    }

    /// Whether the configuration pins this image: the kubelet then never removes it to make room (CRI, `Image.pinned`).
    pub fn is_pinned(&self, image: &Image) -> bool {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        pins::is_pinned(&config.pinned_images, image)
    }

    /// All images, by id. Never waits for work under way.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.shared.snapshot().list.clone()
    }

    /// The image of a name in any spelling, of an id with or without `sha256:`, or of the unique beginning of an id.
    pub fn resolve(&self, name: &str) -> Option<Arc<Image>> {
        self.shared.snapshot().resolve(name, self.meanings(name).as_deref()).cloned()
    }

    /// What a name without a registry means by registries.conf, empty when it may mean nothing; `None` for every other name, and
    /// without such a file.
    pub(super) fn meanings(&self, name: &str) -> Option<Vec<Reference>> {
        if !is_short(name) {
            return None;
        }
        let registries = self.config().registries?;
        Some(registries.candidates(name).unwrap_or_default())
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
    /// [`ImageError::NoImage`], also of one that is being removed and was used by nobody. An image that was removed while in use can still
    /// be leased, so that a restarted daemon can take up the leases of running containers.
    pub fn acquire(&self, id: &ImageId) -> Result<ImageLease> {
        lease::acquire(&self.shared, id)
    }

    /// Removes the image that `name` resolves to, with all its tags. An absent one is a success. The layers of an image
    /// that containers use stay until the last lease is dropped.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let (shared, name, meanings) = (Arc::clone(&self.shared), name.to_owned(), self.meanings(name));
        blocking("removing an image", move || shared.remove(&name, meanings.as_deref())).await
    }

    /// Gives the image that `image` resolves to one more name, and returns that in full. An image that had it loses it.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; [`ImageError::Reference`] when `name` is none or has a digest; when the database cannot be
    /// written.
    pub async fn tag(&self, image: &str, name: &str) -> Result<String> {
        let (shared, meanings) = (Arc::clone(&self.shared), self.meanings(image));
        let (image, name) = (image.to_owned(), name.to_owned());
        blocking("naming an image", move || shared.tag(&image, meanings.as_deref(), &name)).await
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
