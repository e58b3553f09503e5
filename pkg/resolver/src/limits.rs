//! What one pod may take of its resolver.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Longest query: none that a stub resolver sends comes near.
pub(crate) const MAX_QUERY: usize = 4096;
/// Longest answer over UDP that is taken from upstream or given: what does not fit is asked for again over TCP.
pub(crate) const MAX_DATAGRAM: usize = 4096;
/// Queries that are asked for upstream at the same time, each with a socket of huskd's.
pub(crate) const MAX_FORWARDED: usize = 32;
/// TCP connections at the same time.
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// How long a TCP connection may say nothing.
pub(crate) const IDLE: Duration = Duration::from_secs(10);
/// How long one server may take (as Docker's resolver has it: less than the five seconds after which glibc asks again).
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// Servers that are asked one after the other: resolv.conf(5) has no more (`MAXNS`).
pub(crate) const MAX_SERVERS: usize = 3;
/// Queries a second, and how many may come at once. What is beyond waits in the socket's buffer, and what does not fit there is lost, as
/// datagrams are.
const RATE: f64 = 5000.0;

/// Lets so many queries through a second.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<(f64, Instant)>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new((RATE, Instant::now())) }
    }

    /// Waits until one more may be read.
    pub(crate) async fn take(&self) {
        while let Some(wait) = self.try_take(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait, if it is not yet time.
    fn try_take(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, seen) = *state;
        let left = (left + now.saturating_duration_since(seen).as_secs_f64() * RATE).min(RATE);
        if left >= 1.0 {
            *state = (left - 1.0, now);
            return None;
        }
        *state = (left, now);
        // Never so short that the timer turns round without a grain of time gone by.
        Some(Duration::from_secs_f64((1.0 - left) / RATE).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_let_through_at_the_pace_and_not_faster() {
        let pace = Pace::new();
        let start = Instant::now();
        let at_once = (0..20_000).take_while(|_| pace.try_take(start).is_none()).count();
        assert_eq!(at_once, 5000);
        let later = start + Duration::from_millis(100);
        let then = (0..20_000).take_while(|_| pace.try_take(later).is_none()).count();
        assert!((499..=501).contains(&then), "{then}");
    }
}
