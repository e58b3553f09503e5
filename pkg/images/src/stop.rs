//! How blocking work learns that nobody waits for it any more.
//!
//! A task can be dropped at any await, a thread cannot. So a thread that works for a task holds a [`Stop`] and looks at it
//! wherever it may loop: for each block of bytes that comes in or goes out, and for each member of an archive. The task
//! holds the [`StopOnDrop`] of the same flag, and thereby ends the thread with itself.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A flag that is set once. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the work to end. It does within a block or a member, and fails with
    /// [`UnpackError::Interrupted`](crate::UnpackError::Interrupted).
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work is to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same question for readers.
    ///
    /// # Errors
    /// When it is. Not of the kind `Interrupted`, which readers take for a reason to try again.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_set() { Err(io::Error::other("nobody waits for this any more")) } else { Ok(()) }
    }

    /// Sets the flag when it is dropped.
    pub(crate) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

/// See [`Stop::on_drop`].
#[derive(Debug)]
#[must_use = "the work is stopped as soon as this is dropped"]
pub(crate) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
