//! The door: everything in one, opening it, serving it.

use std::{ops::Deref, path::PathBuf, sync::Arc};

use husk_build::{Builder, BuilderConfig, Built};
use husk_images::ImageStore;
use husk_network::Network;
use husk_pods::Engine;
use tokio::sync::watch;

use crate::{
    containers::Store,
    error::OpenError,
    events::{Events, Subject},
    images::names::familiar,
    shared::Shared,
    swarm::Room,
    volumes::Volumes,
};

/// What the door is made of.
#[derive(Clone)]
pub struct DoorParts {
    /// Pods and containers, recovered.
    pub engine: Arc<Engine>,
    /// Images.
    pub images: Arc<ImageStore>,
    /// Networks.
    pub network: Arc<Network>,
    /// The door's directory that outlives a reboot: `<root>/docker`.
    pub root: PathBuf,
    /// What builds, when it is asked to.
    pub builder: BuilderConfig,
}

impl std::fmt::Debug for DoorParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoorParts").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The parts of an open door, for handlers.
#[derive(Debug)]
pub(crate) struct Parts {
    shared: Arc<Shared>,
    /// Containers.
    pub(crate) containers: Store,
    /// The swarm, or none.
    pub(crate) swarm: Room,
    /// What builds.
    pub(crate) builder: Arc<Builder>,
    /// Tells streams that the door closes.
    pub(crate) close: watch::Sender<bool>,
}

impl Deref for Parts {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// An open door. A copy is the same door.
#[derive(Debug, Clone)]
pub struct Door(pub(crate) Arc<Parts>);

impl Door {
    /// Reads the records, and finishes or undoes what was half done.
    ///
    /// # Errors
    /// When a directory or a record cannot be read or mended.
    pub async fn open(parts: DoorParts) -> Result<Self, OpenError> {
        let DoorParts { engine, images, network, root, builder } = parts;
        std::fs::create_dir_all(&root).map_err(OpenError::records("make", &root))?;
        let volumes = Arc::new(Volumes::open(root.join("volumes"))?);
        let events = Events::default();
        let (close, closing) = watch::channel(false);
        let shared = Arc::new(Shared { engine, images, network, volumes, events, root, closing });
        let (containers, half_done) = Store::open(Arc::clone(&shared))?;
        Box::pin(containers.resume(half_done)).await;
        let swarm = Box::pin(Room::open(Arc::clone(&shared), containers.clone())).await;
        let (images, network, news) =
            (Arc::clone(&shared.images), Arc::clone(&shared.network), Arc::clone(&shared));
        let builder = Builder::new(builder, images, network, move |built| announce(&news, built));
        Ok(Self(Arc::new(Parts { shared, containers, swarm, builder, close })))
    }
}

/// Tells of an image that was built.
fn announce(shared: &Shared, built: &Built) {
    let id = built.id.to_string();
    for name in &built.names {
        let attributes = [("name".to_owned(), familiar(name).to_owned())].into();
        shared.events.publish(Subject::Image, "tag", id.clone(), attributes);
    }
}
