//! Stopping everybody in a group where they are, and letting them go on.
//!
//! The v2 tree's freezer is taken where there is one, on hybrid nodes too: it needs no controller, and whoever is frozen by it can
//! be killed. That of v1 holds even SIGKILL back until it thaws.

use std::time::Duration;

use crate::{Cgroup, Controller, Error, Result, place::field};

/// How long a group may take to stop: a process in uninterruptible sleep stops when that ends.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Stops everybody in the group and below, those who come later too. Returns when they have stopped. For a caller with a
    /// thread to spare.
    ///
    /// # Errors
    /// No freezer on this node, or [`Error::Timeout`]; then everybody goes on.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)?;
        let stopped = self.retry(PATIENCE, || self.is_frozen());
        if stopped.is_err() {
            self.set_frozen(false)?;
        }
        stopped
    }

    /// Lets everybody go on. A group that is gone is fine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unfreeze(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether everybody has stopped.
    ///
    /// # Errors
    /// It can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        if let Some(place) = self.unified() {
            let events = place.read("cgroup.events")?.unwrap_or_default();
            return Ok(field(&events, "frozen").is_some_and(|value| value == "1"));
        }
        let Some(place) = self.home(Controller::Freezer) else { return Ok(false) };
        Ok(place.read("freezer.state")?.is_some_and(|state| state.trim() == "FROZEN"))
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        if let Some(place) = self.unified() {
            return place.write("cgroup.freeze", if frozen { "1" } else { "0" });
        }
        match self.home(Controller::Freezer) {
            Some(place) => place.write("freezer.state", if frozen { "FROZEN" } else { "THAWED" }),
            None => Err(Error::NoController { controller: Controller::Freezer, setting: "a pause" }),
        }
    }
}
