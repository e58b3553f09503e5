//! The resolvers of pods, and where they listen.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use husk_model::PodSandboxId;
use husk_resolver::{Resolver, Sockets};
use tokio::runtime::Handle;

use super::redirect::redirect;
use crate::{NAME_SERVER, NetworkError};

/// The resolvers that run, and where.
#[derive(Debug)]
pub(super) struct Resolvers {
    /// The daemon's own runtime: a query must not wait for the network thread, which waits for the kernel.
    pub(super) runtime: Handle,
    running: Mutex<HashMap<PodSandboxId, Resolver>>,
}

impl Resolvers {
    /// On the caller's runtime.
    pub(super) fn new() -> Self {
        Self { runtime: Handle::current(), running: Mutex::default() }
    }

    pub(super) fn stop(&self, id: &PodSandboxId) {
        self.running().remove(id);
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<PodSandboxId, Resolver>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for queries in the caller's network namespace and leads them there: at the port of a former daemon, if nobody took it
/// meanwhile.
///
/// # Errors
/// [`NetworkError::Names`].
pub(super) fn listen(former: Option<u16>) -> Result<(Sockets, u16), NetworkError> {
    let listening = match former.map(|port| Sockets::bind(NAME_SERVER, Some(port))) {
        Some(Ok(listening)) => Ok(listening),
        Some(Err(_)) | None => Sockets::bind(NAME_SERVER, None),
    };
    let listening = listening.map_err(failed("listen for queries of names"))?;
    let port = listening.port().map_err(failed("listen for queries of names"))?;
    redirect(port).map_err(failed("lead queries of names to the resolver"))?;
    Ok((listening, port))
}

pub(super) fn failed(step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Names { step, source }
}
