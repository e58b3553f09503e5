//! How plugins get in: launched from their directory, or by the socket.

use std::{sync::Arc, time::Duration};

use tokio::{net::UnixListener, sync::Semaphore};
use tracing::warn;

use crate::{Nri, Runtime, StartError, join, launch};

/// Plugins that may be connected at once.
const MAX_PLUGINS: usize = 64;

impl Nri {
    /// Launches the plugins of the plugin directory, which may change what `runtime` has, and then takes in those that connect.
    ///
    /// # Errors
    /// When the plugin directory cannot be read. A plugin that fails is logged.
    pub async fn start(
        self: &Arc<Self>,
        runtime: Arc<dyn Runtime>,
        listener: UnixListener,
    ) -> Result<(), StartError> {
        // Set once, by the only caller.
        let _ = self.runtime.set(runtime);
        launch::all(self).await?;
        let nri = Arc::clone(self);
        tokio::spawn(async move { nri.accept(listener).await });
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: UnixListener) {
        let permits = Arc::new(Semaphore::new(MAX_PLUGINS));
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would spin.
                    warn!(%error, "cannot accept a connection of an NRI plugin");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                warn!("{MAX_PLUGINS} NRI plugins are connected; another one is turned away");
                continue;
            };
            let nri = Arc::clone(&self);
            tokio::spawn(async move {
                join::join(&nri, socket, None).await;
                drop(permit);
            });
        }
    }
}
