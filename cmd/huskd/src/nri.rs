//! The NRI socket and the plugins, started when the engine knows its pods and before anybody can ask for new ones.

use std::{error::Error, sync::Arc};

use husk_nri::Nri;
use husk_pods::{Collected, Engine};
use tokio::net::UnixListener;
use tracing::info;

use crate::socket;

/// Only root: a plugin can have anything done on the node.
const MODE: u32 = 0o600;

/// Returns the engine when the plugins of the plugin directory are in.
pub(crate) async fn start(
    config: &husk_config::NriConfig,
    collected: Collected,
) -> Result<Arc<Engine>, Box<dyn Error>> {
    let address = config.socket.display();
    let wrap = |error| format!("nri.socket {address}: {error}");
    let listener = socket::bind(&config.socket, MODE, None).map_err(wrap)?;
    listener.set_nonblocking(true).map_err(wrap)?;
    let listener = UnixListener::from_std(listener).map_err(wrap)?;
    let nri = Nri::new(husk_nri::NriConfig {
        runtime_name: "husk".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        plugin_dir: config.plugin_dir.clone(),
        plugin_config_dir: config.plugin_config_dir.clone(),
        registration_timeout: config.registration_timeout,
        request_timeout: config.request_timeout,
    });
    let (engine, runtime) = collected.with_plugins(nri.clone());
    nri.start(runtime, listener).await?;
    info!(%address, "NRI plugins may connect");
    Ok(engine)
}
