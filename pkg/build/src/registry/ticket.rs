//! One build, as the registry knows it.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use husk_images::{Auth, LayerBlob, OfferedImage};
use husk_model::{Digest, ImageId};

/// Where credentials for a registry come from: asked by the registry's host.
pub(crate) type Credentials = Arc<dyn Fn(String) -> BoxFuture<'static, Option<Auth>> + Send + Sync>;

/// What a build was asked for.
#[derive(Clone)]
pub(crate) struct Order {
    /// Names of what it makes.
    pub(crate) names: Vec<String>,
    /// What it starts from is asked of registries, also where the store has it.
    pub(crate) pull: bool,
    /// Credentials of who asked.
    pub(crate) credentials: Credentials,
    /// The build's files, where a client sent them as an archive.
    pub(crate) context: Option<Arc<File>>,
}

/// A build under way. Dropped, its token means nothing any more and what it spooled is gone.
pub(crate) struct Ticket {
    /// What names it in paths.
    pub(crate) token: String,
    pub(crate) order: Order,
    /// Blobs that were pushed, in an OCI layout.
    pub(crate) spool: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Images that were offered, by digest of the manifest.
    pub(super) offered: BTreeMap<Digest, Arc<OfferedImage>>,
    /// Which of them a name meant: once told, it stays so for the whole build.
    pub(super) meant: BTreeMap<String, Digest>,
    /// Layers that the builder was told it need not send.
    pub(super) known: BTreeMap<Digest, LayerBlob>,
    /// Bytes that were pushed.
    pub(super) pushed: u64,
    /// What was made.
    pub(super) built: Option<ImageId>,
    /// What went wrong here, in words: HTTP loses them on their way through the builder.
    pub(super) trouble: Option<String>,
}

impl Ticket {
    pub(super) fn new(token: String, order: Order, spool: PathBuf) -> Self {
        Self { token, order, spool, state: Mutex::default() }
    }

    /// The image that was made, and nothing before it is.
    pub(crate) fn built(&self) -> Option<ImageId> {
        self.state().built.clone()
    }

    /// What went wrong here.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a blob is kept until the manifest has come.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        blobs(&self.spool)
    }
}

/// The directory of blobs in an OCI layout.
pub(super) fn blobs(layout: &Path) -> PathBuf {
    layout.join("blobs/sha256")
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start, which empties the spool.
        let _left = std::fs::remove_dir_all(&self.spool);
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("Ticket").field("names", &self.order.names).finish_non_exhaustive()
    }
}
