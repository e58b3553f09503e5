//! How far a push is.

use crate::DiffId;

/// What becomes of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushState {
    /// Its blob is made; the figures are those of its archive.
    Preparing,
    /// Its blob is sent; the figures are the blob's.
    Pushing,
    /// The registry had it there.
    Exists,
    /// The registry took it from this other repository.
    Mounted(String),
    /// It is there.
    Pushed,
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushProgress {
    /// The layer.
    pub layer: DiffId,
    /// What is being done.
    pub state: PushState,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Receives progress.
pub(super) type Report = dyn Fn(PushProgress) + Send + Sync;
