//! What all parts of the door stand on.

use std::{path::PathBuf, sync::Arc};

use husk_images::ImageStore;
use husk_network::Network;
use husk_pods::Engine;
use tokio::sync::watch;

use crate::{events::Events, volumes::Volumes};

/// The engine, the stores and the news. Containers are not among it: they stand on this.
pub(crate) struct Shared {
    /// Pods and containers.
    pub(crate) engine: Arc<Engine>,
    /// Images.
    pub(crate) images: Arc<ImageStore>,
    /// Networks.
    pub(crate) network: Arc<Network>,
    /// Volumes.
    pub(crate) volumes: Arc<Volumes>,
    /// What happened.
    pub(crate) events: Events,
    /// Where records are that outlive a reboot: `<root>/docker`.
    pub(crate) root: PathBuf,
    /// True when the door closes: streams without an end of their own end then.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shared {
    /// Resolves when the door closes.
    pub(crate) async fn closed(&self) {
        // An error is the end of the door itself, which means the same.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("root", &self.root).finish_non_exhaustive()
    }
}
