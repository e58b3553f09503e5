//! How the places for sessions are shared out among pods.
//!
//! A pod that has a place gets another one only while it holds fewer than are left: one pod gets half of them, a second one half
//! of the rest, and so on (the "dynamic threshold" by which switches share out their buffers). Nothing is lost to pods that want
//! nothing, and nobody has to say how many there will be. A pod that has none gets one always, so whoever fills the places keeps
//! nobody else from a shell. Sessions are therefore at most the configured number and one for each pod.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use husk_model::PodSandboxId;
use tokio::sync::watch;

/// Whether a pod that holds `held` of the `taken` places gets one more where there are `most`.
pub(crate) fn fits(held: usize, taken: usize, most: usize) -> bool {
    held == 0 || held < most.saturating_sub(taken)
}

/// The places of a node.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    by_pod: Mutex<HashMap<PodSandboxId, usize>>,
    /// How many are taken.
    taken: watch::Sender<usize>,
}

/// A session's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    pod: PodSandboxId,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_pod: Mutex::default(), taken: watch::Sender::new(0) })
    }

    /// A place for a session of `pod`.
    ///
    /// # Errors
    /// How many the pod holds, when that is its share.
    pub(crate) fn take(self: &Arc<Self>, pod: &PodSandboxId) -> Result<Place, usize> {
        let mut by_pod = self.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_pod.get(pod).copied().unwrap_or_default();
        if !fits(held, *self.taken.borrow(), self.most) {
            return Err(held);
        }
        by_pod.insert(pod.clone(), held + 1);
        self.taken.send_modify(|taken| *taken += 1);
        Ok(Place { places: Arc::clone(self), pod: pod.clone() })
    }

    /// Resolves when no place is taken.
    pub(crate) async fn all_free(&self) {
        // An error would mean that the sender is gone, which is here.
        let _ = self.taken.subscribe().wait_for(|taken| *taken == 0).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_pod = self.places.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = by_pod.get_mut(&self.pod) {
            *held -= 1;
            if *held == 0 {
                by_pod.remove(&self.pod);
            }
        }
        self.places.taken.send_modify(|taken| *taken -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(letter: &str) -> PodSandboxId {
        letter.repeat(64).parse().unwrap()
    }

    fn fill(places: &Arc<Places>, pod: &PodSandboxId) -> Vec<Place> {
        std::iter::from_fn(|| places.take(pod).ok()).collect()
    }

    #[test]
    fn a_pod_that_takes_all_it_can_leaves_places_to_every_other() {
        let places = Places::new(16);
        let greedy = fill(&places, &pod("a"));
        assert_eq!(greedy.len(), 8);
        let second = fill(&places, &pod("b"));
        assert_eq!(second.len(), 4);
        let rest: Vec<Vec<Place>> = ["c", "d", "e", "f"].map(|letter| fill(&places, &pod(letter))).into();
        let shares: Vec<usize> = rest.iter().map(Vec::len).collect();
        // The last finds all taken, and has its one all the same.
        assert_eq!(shares, [2, 1, 1, 1]);
        assert_eq!(places.take(&pod("f")).unwrap_err(), 1);
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let places = Places::new(8);
        let mut greedy = fill(&places, &pod("a"));
        let other = fill(&places, &pod("b"));
        assert_eq!((greedy.len(), other.len()), (4, 2));
        drop(other);
        assert!(places.take(&pod("a")).is_err(), "its share is what it was");
        greedy.clear();
        assert_eq!(fill(&places, &pod("b")).len(), 4);
        assert!(places.by_pod.lock().unwrap().is_empty(), "pods without sessions are forgotten");
    }

    #[tokio::test]
    async fn the_end_of_the_last_session_is_seen() {
        let places = Places::new(2);
        places.all_free().await;
        let place = places.take(&pod("a")).unwrap();
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.all_free().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(place);
        waiting.await.unwrap();
    }
}
