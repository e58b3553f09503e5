//! The order in which an engine comes to be, as types: each step gives what the next one needs, and only the last gives the engine.
//!
//! ```text
//! Engine::recover ─▶ Recovered ─ collect ─▶ Collected ─ with_plugins, without_plugins ─▶ Engine
//! ```

use std::sync::Arc;

use husk_network::Network;
use husk_nri::Nri;
use tokio::sync::mpsc;

use super::{back::Back, calls::Engine, config::EngineConfig, parts::Parts};
use crate::{
    error::Result,
    facilities::{Images, PodNetworks},
    registry::Container,
};

/// An engine that knows its pods again. Whoever exists holds its images from here on.
#[must_use = "the daemon serves nothing until images are collected and plugins are in"]
pub struct Recovered(Arc<Engine>);

/// As [`Recovered`], and images that nobody holds are gone.
#[must_use = "the daemon serves nothing until plugins are in"]
pub struct Collected(Arc<Engine>);

impl Engine {
    /// Opens the state, finds the pods of a former daemon again and undoes what it left half done.
    ///
    /// # Errors
    /// When the directories or the cgroup hierarchy cannot be used. A single pod that cannot be loaded is no error: it is
    /// reported and can be removed.
    pub async fn recover(
        config: EngineConfig,
        images: Arc<dyn Images>,
        network: Arc<Network>,
    ) -> Result<Recovered> {
        Self::recover_with(config, images, Arc::new(network)).await
    }

    /// As [`Engine::recover`], on a network of the caller's.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub async fn recover_with(
        config: EngineConfig,
        images: Arc<dyn Images>,
        network: Arc<dyn PodNetworks>,
    ) -> Result<Recovered> {
        let (parts, ends) = Parts::new(&config, images, network).await?;
        let engine = Arc::new(Self::new(parts));
        tell_ends(&engine, ends);
        engine.parts().recover.run().await?;
        engine.parts().doctor.examine_at_start().await;
        engine.parts().run.monitors.stand_by();
        Ok(Recovered(engine))
    }
}

impl Recovered {
    /// Removes images that nobody holds: what was removed while in use and has no user left. Before this point nobody would
    /// hold any, and all would go.
    ///
    /// # Errors
    /// Those of the collection.
    pub async fn collect<E>(
        self,
        collection: impl Future<Output = std::result::Result<(), E>>,
    ) -> std::result::Result<Collected, E> {
        collection.await?;
        Ok(Collected(self.0))
    }
}

impl Collected {
    /// The engine, without plugins for ever.
    pub fn without_plugins(self) -> Arc<Engine> {
        self.0
    }

    /// The engine, and how plugins reach it. Plugins are in before anybody asks for anything.
    pub fn with_plugins(self, nri: Arc<Nri>) -> (Arc<Engine>, Arc<dyn husk_nri::Runtime>) {
        self.0.parts().plugins.admit(nri);
        let back = Arc::new(Back(Arc::downgrade(&self.0)));
        (self.0, back)
    }
}

/// Tells plugins of the ends of containers, each in a task of its own, as long as the engine is there.
fn tell_ends(engine: &Arc<Engine>, mut ends: mpsc::UnboundedReceiver<Arc<Container>>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        while let Some(container) = ends.recv().await {
            let Some(engine) = engine.upgrade() else { return };
            tokio::spawn(async move { engine.parts().stop.ends.tell(&container).await });
        }
    });
}
