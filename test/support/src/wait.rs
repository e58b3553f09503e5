//! Waiting for what no event announces: a file of another process, a state seen through a list.

use std::time::{Duration, Instant};

/// Between two looks at a condition that costs nothing.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` yields a value, asking again every few milliseconds.
///
/// # Panics
/// With `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    eventually_every(PAUSE, what, limit, condition)
}

/// [`eventually`] for conditions that cost the asked one something.
///
/// # Panics
/// As [`eventually`].
#[expect(clippy::disallowed_methods, reason = "the one wait for things without an event")]
pub fn eventually_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(pause);
    }
}

/// [`eventually`] within a task: `pause` is the runtime's sleep, so that other tasks go on meanwhile.
///
/// # Panics
/// As [`eventually`].
pub async fn eventually_with<T, P: Future<Output = ()>>(
    pause: impl Fn(Duration) -> P,
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        pause(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_conditions() {
        let mut asked = 0;
        let value = eventually("the third time", Duration::from_secs(10), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn a_task_waits_as_its_runtime_sleeps() {
        use std::{future, pin::pin, task};
        let sleeps = std::cell::Cell::new(0);
        let sleep = |_| {
            sleeps.set(sleeps.get() + 1);
            future::ready(())
        };
        let wait = eventually_with(sleep, "the third time", Duration::from_secs(10), || {
            (sleeps.get() == 2).then_some(7)
        });
        let mut context = task::Context::from_waker(task::Waker::noop());
        assert_eq!(pin!(wait).poll(&mut context), task::Poll::Ready(7));
    }

    #[test]
    #[should_panic(expected = "never")]
    fn a_deadline_ends_the_wait() {
        eventually::<()>("never", Duration::ZERO, || None);
    }
}
