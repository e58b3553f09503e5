//! Long work on files, on threads that may block, few at once.
//!
//! What a container wrote may be any number of files, and a client may read or send an archive as slowly as it likes. Threads that block
//! are the daemon's as a whole: without a bound of the door's own, its clients could take them all.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    error::{Failure, Result},
    removal::delete,
};

/// Walks over trees and backwards over logs at the same time; each is work for a disk.
static WALKS: Semaphore = Semaphore::const_new(4);
/// Archives that are read or written at the same time; each may wait for a client.
static TRANSFERS: Semaphore = Semaphore::const_new(64);

/// Trees that are deleted at the same time.
static DELETIONS: Semaphore = Semaphore::const_new(2);

/// A place among those who read or write archives, to be kept until the end.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held")] SemaphorePermit<'static>);

/// Waits for a place among those who read or write archives.
pub(crate) async fn place() -> Result<Place> {
    TRANSFERS.acquire().await.map(Place).map_err(|_| Failure::unavailable("the door closes"))
}

/// Reads or writes an archive.
///
/// # Errors
/// The work panicked.
pub(crate) async fn transfer<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let place = place().await?;
    run(move || {
        let _place = place;
        work()
    })
    .await
}

/// Walks over files. The work asks now and then whether it goes on: not when nobody waits for it any more.
///
/// # Errors
/// The work panicked.
pub(crate) async fn walk<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> Result<T> {
    let permit = WALKS.acquire().await.map_err(|_| Failure::unavailable("the door closes"))?;
    let waiting = Waiting(Arc::new(AtomicBool::new(true)));
    let is_wanted = Arc::clone(&waiting.0);
    run(move || {
        let _permit = permit;
        work(&|| is_wanted.load(Ordering::Relaxed))
    })
    .await
}

/// Deletes what is left of something, of which nobody waits to hear: however much it is, and however many were removed at once. What a
/// crash leaves, the next start deletes.
pub(crate) fn delete_later(path: PathBuf) {
    tokio::spawn(async move {
        let permit = DELETIONS.acquire().await;
        let deleted = run(move || {
            let _permit = permit;
            if let Err(error) = delete(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot delete what is left of what was removed");
            }
        });
        // It can only panic, which the panic itself has told.
        let _ = deleted.await;
    });
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::internal("work on files panicked"))
}

/// Somebody waits for a walk.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn few_walks_are_under_way_at_once_and_one_that_nobody_waits_for_ends() {
        let (tell, told) = mpsc::channel();
        let walks: Vec<_> = (0..10)
            .map(|_| {
                let tell = tell.clone();
                tokio::spawn(walk(move |is_wanted| {
                    let _ = tell.send("begun");
                    while is_wanted() {
                        std::thread::yield_now();
                    }
                    let _ = tell.send("ended");
                }))
            })
            .collect();
        let mut news = {
            let (give, news) = tokio::sync::mpsc::unbounded_channel();
            std::thread::spawn(move || told.into_iter().try_for_each(|what| give.send(what)));
            news
        };
        for _ in 0..4 {
            assert_eq!(news.recv().await, Some("begun"));
        }
        assert_eq!(WALKS.available_permits(), 0);
        assert!(news.try_recv().is_err(), "no fifth is begun while four are under way");
        walks.iter().for_each(tokio::task::JoinHandle::abort);
        for _ in 0..4 {
            assert_eq!(news.recv().await, Some("ended"));
        }
        // Those that waited have not begun.
        drop(tell);
        assert_eq!(news.recv().await, None);
        assert!(walk(|is_wanted| is_wanted()).await.unwrap());
    }
}
