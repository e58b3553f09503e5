//! What every call works on.

use std::sync::Arc;

use husk_images::ImageStore;
use husk_network::Network;
use husk_pods::Engine;
use husk_streaming::StreamingServer;

/// Serves RuntimeService from the engine.
#[derive(Clone)]
pub struct RuntimeApi {
    pub(super) engine: Arc<Engine>,
    pub(super) images: Arc<ImageStore>,
    pub(super) network: Arc<Network>,
    pub(super) streaming: Arc<StreamingServer>,
    pub(super) handlers: Arc<[String]>,
}

impl std::fmt::Debug for RuntimeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeApi").finish_non_exhaustive()
    }
}

impl RuntimeApi {
    /// Serves `engine`. Pods may ask for one of `handlers` by name, which all mean the same as none.
    pub fn new(
        engine: Arc<Engine>,
        images: Arc<ImageStore>,
        network: Arc<Network>,
        streaming: Arc<StreamingServer>,
        handlers: &[String],
    ) -> Self {
        Self { engine, images, network, streaming, handlers: handlers.into() }
    }
}
