//! A value that is replaced whole and read without waiting for work.

use std::sync::{Arc, PoisonError, RwLock};

/// The value and the lock under which it is replaced.
#[derive(Debug)]
pub(crate) struct Snapshot<T>(RwLock<Arc<T>>);

impl<T: Clone> Snapshot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the value; `change` must not block.
    pub(crate) fn update(&self, change: impl FnOnce(&mut T)) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut slot));
    }
}
