//! When something last moved on a connection, for the idle timeout. Pings do not count: a client sends them for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Shared by a connection's reader and writer.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    start: Instant,
    /// Milliseconds after `start`.
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    /// Something moved.
    pub(crate) fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let due = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_of_the_whole_limit_ends_a_connection() {
        let activity = Activity::new();
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        tokio::join!(activity.idle_for(limit), async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            activity.touch();
        });
        assert_eq!(start.elapsed(), Duration::from_secs(17));
    }
}
