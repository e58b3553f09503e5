//! Joins callers who want the same thing: the first starts a task, the others wait for its result. When the last one
//! leaves, the task is cancelled.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use husk_telemetry::phases::inherited;
use tokio::{sync::watch, task::AbortHandle};
use tracing::Instrument;

use crate::ImageError;

type Outcome<V> = Result<V, Arc<ImageError>>;
type Flying<V> = HashMap<String, (u64, Weak<Flight<V>>)>;

/// The tasks under way, by what they produce.
#[derive(Debug)]
pub(crate) struct Flights<V> {
    flying: Arc<Mutex<Flying<V>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Flight<V> {
    outcome: watch::Receiver<Option<Outcome<V>>>,
    task: AbortHandle,
}

impl<V> Drop for Flight<V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { flying: Arc::default(), next: AtomicU64::new(0) }
    }
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// Waits for the task of `key`, starting it with `start` when there is none. Says, too, whether it was started here.
    pub(crate) async fn join<F>(&self, key: &str, start: impl FnOnce() -> F) -> (Result<V, ImageError>, bool)
    where
        F: Future<Output = Result<V, ImageError>> + Send + 'static,
    {
        let (flight, started) = self.board(key, start);
        let mut outcome = flight.outcome.clone();
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            // The task panicked: its sender is gone without a value.
            Err(_) => None,
        };
        let result = match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(ImageError::Shared(error)),
            None => Err(ImageError::Interrupted { object: key.to_owned() }),
        };
        (result, started)
    }

    fn board<F>(&self, key: &str, start: impl FnOnce() -> F) -> (Arc<Flight<V>>, bool)
    where
        F: Future<Output = Result<V, ImageError>> + Send + 'static,
    {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flying.get(key).and_then(|(_, flight)| flight.upgrade()) {
            return (flight, false);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, outcome) = watch::channel(None);
        let work = start();
        let landing = Landing { flying: Arc::clone(&self.flying), key: key.to_owned(), number };
        let flying_on = async move {
            // Dropped also when the task is cancelled, so the map never keeps what has ended.
            let landing = landing;
            let outcome = work.await.map_err(Arc::new);
            drop(landing);
            let _nobody_waits = sender.send(Some(outcome));
        };
        let task = tokio::spawn(inherited(flying_on).in_current_span());
        let flight = Arc::new(Flight { outcome, task: task.abort_handle() });
        flying.insert(key.to_owned(), (number, Arc::downgrade(&flight)));
        (flight, true)
    }
}

struct Landing<V> {
    flying: Arc<Mutex<Flying<V>>>,
    key: String,
    number: u64,
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if flying.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flying.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn callers_of_one_key_share_one_task() {
        let flights = Arc::new(Flights::<u32>::default());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut waiting = Vec::new();
        for _ in 0..5 {
            let (flights, runs, gate) = (Arc::clone(&flights), Arc::clone(&runs), Arc::clone(&gate));
            waiting.push(tokio::spawn(async move {
                let work = || async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok(7)
                };
                flights.join("key", work).await.0.unwrap()
            }));
        }
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        waiting.pop().unwrap().abort();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for task in waiting {
            assert_eq!(task.await.unwrap(), 7);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(flights.flying.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_task_is_cancelled_with_its_last_caller() {
        struct Dropped(Arc<Notify>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let flights = Arc::new(Flights::<u32>::default());
        let ended = Arc::new(Notify::new());
        let caller = tokio::spawn({
            let (flights, ended) = (Arc::clone(&flights), Dropped(Arc::clone(&ended)));
            async move {
                let work = || async move {
                    let _ended = ended;
                    std::future::pending().await
                };
                flights.join("key", work).await.1
            }
        });
        while flights.flying.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        ended.notified().await;
        assert!(flights.flying.lock().unwrap().is_empty());
    }
}
