//! Stopping everybody in a group for a while.
//!
//! Where the v1 freezer is mounted it is used, v2's `cgroup.freeze` otherwise: on a hybrid node whoever looks asks the former.

use std::time::Duration;

use crate::{Cgroup, Controller, Error, Result, place::Place};

/// How a group says that it is frozen, and how it is told.
struct Freezer<'g> {
    place: Place<'g>,
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

impl Cgroup {
    /// Stops every process of the group and below, and waits until all are. One that is stopped already stays so.
    ///
    /// # Errors
    /// [`Error::Timeout`] when they do not all stop within `patience`; then they are let go on. [`Error::NoController`] where
    /// nothing can stop them.
    pub fn pause(&self, patience: Duration) -> Result<()> {
        let freezer = self.freezer()?;
        let paused = self.retry(patience, || {
            // v1 gives up on a process that can't be stopped at once, until it is told again.
            freezer.place.write(freezer.file, freezer.frozen)?;
            self.is_paused()
        });
        if paused.is_err() {
            let _ = freezer.place.try_write(freezer.file, freezer.thawed);
        }
        paused
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        let freezer = self.freezer()?;
        freezer.place.write(freezer.file, freezer.thawed)
    }

    /// Whether every process of the group is stopped. A group that is gone, or can't be stopped, is not.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn is_paused(&self) -> Result<bool> {
        let Ok(freezer) = self.freezer() else { return Ok(false) };
        let text = match freezer.place.is_v2() {
            true => freezer.place.read("cgroup.events")?,
            false => freezer.place.read(freezer.file)?,
        };
        let text = text.unwrap_or_default();
        Ok(match freezer.place.is_v2() {
            true => crate::place::field(&text, "frozen") == Some("1"),
            false => text.trim() == freezer.frozen,
        })
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        if let Some(place) = self.home(Controller::Freezer).filter(|place| !place.is_v2()) {
            return Ok(Freezer { place, file: "freezer.state", frozen: "FROZEN", thawed: "THAWED" });
        }
        match self.unified() {
            Some(place) => Ok(Freezer { place, file: "cgroup.freeze", frozen: "1", thawed: "0" }),
            None => Err(Error::NoController { controller: Controller::Freezer, setting: "pause" }),
        }
    }
}
