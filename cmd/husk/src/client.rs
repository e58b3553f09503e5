//! The way to huskd, and what goes wrong on it.

use std::{error::Error, path::PathBuf};

use husk_model::chain;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Largest message either way.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// What a command comes to.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Connects to huskd at `address`, a path with or without `unix://`.
pub(crate) async fn connect(address: &str) -> Result<Channel> {
    let path = PathBuf::from(address.strip_prefix("unix://").unwrap_or(address));
    let target = path.clone();
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(move |_: Uri| {
            let target = target.clone();
            async move { UnixStream::connect(target).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| format!("{}: {}; is huskd running?", path.display(), chain(&error)))?;
    Ok(channel)
}

/// What a person should read of an error: of a status its message, not its wire form.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<tonic::Status>() {
        Some(status) => format!("{} ({:?})", status.message(), status.code()),
        None => chain(error),
    }
}
