//! What systemd is told: ready, stopping, and that the daemon still works.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// Tells systemd; without it there is no socket, which is no error.
pub(crate) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot tell systemd");
    }
}

/// Tells systemd that the configuration is being read again, until it is told `Ready`. Both lines are needed for
/// `Type=notify-reload` (sd_notify(3)).
pub(crate) fn reloading() {
    let told = NotifyState::monotonic_usec_now()
        .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]).map_err(std::io::Error::other));
    if let Err(error) = told {
        warn!(%error, "cannot tell systemd");
    }
}

/// Pats the watchdog, if systemd keeps one (`WatchdogSec=`), as long as `alive` comes back: a daemon whose threads are all
/// stuck is killed and started again, which its pods do not notice. Ends with the runtime.
pub(crate) fn pat_watchdog(alive: impl Fn() + Send + 'static) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    tokio::spawn(async move {
        // Twice as often as needed, as sd_watchdog_enabled(3) recommends.
        let mut interval = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
        loop {
            interval.tick().await;
            alive();
            notify(NotifyState::Watchdog);
        }
    });
}
