//! What plugins need of the engine.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::{ContainerFacts, Eviction, PodFacts, Update};

/// Everything that a new plugin is told of.
#[derive(Debug, Default)]
pub struct Everything {
    /// All pods.
    pub pods: Vec<PodFacts>,
    /// All containers.
    pub containers: Vec<ContainerFacts>,
}

/// The engine, as plugins see it.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What exists now.
    async fn everything(&self) -> Everything;

    /// Changes the limits of a container.
    ///
    /// # Errors
    /// A sentence for the log.
    async fn update(&self, update: &Update) -> Result<(), String>;

    /// Begins to end a container.
    ///
    /// # Errors
    /// A sentence for the log.
    async fn evict(&self, eviction: Eviction) -> Result<(), String>;
}

/// The engine, once it is there.
pub(crate) type Late = Arc<OnceLock<Arc<dyn Runtime>>>;
