//! What is done to a container that runs: stop, kill, pause.

use std::{sync::Arc, time::Duration};

use husk_model::{ContainerId, Signal};

use super::{
    container::Container,
    plan,
    record::{Phase, State},
    store::Store,
};
use crate::error::{Failure, Result};

/// Grace of a stop that nobody says another of, seconds.
const GRACE: u64 = 10;

impl Store {
    /// Stop signal, grace, SIGKILL. Returns when it has ended.
    ///
    /// # Errors
    /// 304 when it does not run.
    pub(super) async fn stop(
        &self,
        container: &Arc<Container>,
        grace: Option<i64>,
        signal: Option<Signal>,
    ) -> Result<()> {
        let mut ends = container.ends();
        let mut seen = ends.borrow_and_update().count;
        let (record, id) = match container.running() {
            Ok(running) => running,
            Err(_) if container.record().state.phase == Phase::Restarting => {
                if !self.cancel_restart(container).await {
                    return Ok(());
                }
                seen = ends.borrow_and_update().count;
                match container.running() {
                    Ok(running) => running,
                    Err(_) => return Ok(()),
                }
            }
            Err(_) => return Err(Failure::not_modified()),
        };
        self.take_in(container, |record| stay_stopped(&mut record.state));
        self.thaw(container, &id).await?;
        let engine = &self.0.shared.engine;
        let grace = match grace.or(record.config.stop_timeout) {
            None => Duration::from_secs(GRACE),
            // Forever, in an engine that has bounds.
            Some(..0) => Duration::from_secs(u64::from(u32::MAX)),
            Some(seconds) => Duration::from_secs(seconds.unsigned_abs()),
        };
        let grace = match signal {
            Some(signal) if !grace.is_zero() => {
                engine.signal(id.as_str(), signal).await?;
                // Whoever asks for another signal does not want the usual one.
                let ended = ends.wait_for(|ends| ends.count > seen || ends.gone);
                if tokio::time::timeout(grace, ended).await.is_ok() {
                    self.publish(&container.record(), "stop", []);
                    return Ok(());
                }
                Duration::ZERO
            }
            _ => grace,
        };
        engine.stop_container(id.as_str(), grace).await?;
        // An error is the end of the container itself.
        let _ = ends.wait_for(|ends| ends.count > seen || ends.gone).await;
        self.publish(&container.record(), "stop", []);
        Ok(())
    }

    /// Keeps it from being started again. Returns whether that came too late, so that it runs.
    async fn cancel_restart(&self, container: &Arc<Container>) -> bool {
        container.no_restart.notify_waiters();
        let _turn = container.turn().await;
        self.take_in(container, |record| stay_stopped(&mut record.state));
        container.record().state.is_running()
    }

    /// Sends a signal; SIGKILL is waited for, as its sender does not ask again.
    ///
    /// # Errors
    /// 409 when it does not run.
    pub(super) async fn kill(&self, container: &Arc<Container>, signal: Signal) -> Result<()> {
        let not_running = |_| {
            Failure::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                container.id, container.id
            ))
        };
        let (record, id) = container.running().map_err(not_running)?;
        let stop = plan::signal(&record.config.stop_signal)?.unwrap_or(Signal::TERM);
        if signal == Signal::KILL || signal == stop {
            self.take_in(container, |record| stay_stopped(&mut record.state));
        }
        if signal == Signal::KILL {
            self.thaw(container, &id).await?;
        }
        let mut ends = container.ends();
        let seen = ends.borrow_and_update().count;
        self.0.shared.engine.signal(id.as_str(), signal).await?;
        self.publish(&record, "kill", [("signal", signal.0.to_string())]);
        if signal == Signal::KILL {
            // Clients remove it next. One that the kernel cannot end is not waited for.
            let ended = ends.wait_for(|ends| ends.count > seen || ends.gone);
            let _ = tokio::time::timeout(Duration::from_secs(GRACE), ended).await;
        }
        Ok(())
    }

    /// Lets it go on if it is paused: what is frozen hears no signal.
    async fn thaw(&self, container: &Arc<Container>, id: &ContainerId) -> Result<()> {
        if container.record().state.paused {
            self.0.shared.engine.thaw(id.as_str()).await?;
            self.take_in(container, |record| record.state.paused = false);
        }
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// 409 when it does not run or is frozen.
    pub(super) async fn pause(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        let (record, id) = container.running()?;
        if record.state.paused {
            return Err(Failure::conflict(format!("Container {} is already paused", record.name)));
        }
        // On record first: whoever finds it so after a crash lets go on what may not be frozen, which hurts nobody.
        container.change_state(|state| state.paused = true)?;
        if let Err(error) = self.0.shared.engine.freeze(id.as_str()).await {
            self.take_in(container, |record| record.state.paused = false);
            return Err(error.into());
        }
        self.publish(&record, "pause", []);
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// 409 when it is not frozen.
    pub(super) async fn unpause(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        let (record, id) = container.running()?;
        if !record.state.paused {
            return Err(Failure::conflict(format!("Container {} is not paused", record.name)));
        }
        self.thaw(container, &id).await?;
        self.publish(&record, "unpause", []);
        Ok(())
    }
}

/// Somebody wants it to end, also if it has ended already and waits to be started again.
fn stay_stopped(state: &mut State) {
    state.stopped_by_hand = true;
    if state.phase == Phase::Restarting {
        state.phase = Phase::Exited;
    }
}
