//! The places for builders in networks of users: how many there may be, and what each is called.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Builds in networks of users at once: each is a daemon with some hundred MiB.
pub(crate) const MOST: usize = 4;

/// The places for such builders that are free. Their names stay the same, so that the next one finds what a huskd that was killed has left.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Mutex<BTreeSet<usize>>>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((0..MOST).collect())))
    }
}

impl Places {
    /// One that is free, until what is returned is dropped.
    pub(crate) fn take(&self) -> Option<Place> {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first()?;
        Some(Place { number, places: self.clone() })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place {
    /// Names it.
    pub(crate) number: usize,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_up_to_a_bound_and_given_back() {
        let places = Places::default();
        let taken: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.iter().map(|place| place.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        drop(taken);
        assert_eq!(places.take().unwrap().number, 0);
    }
}
