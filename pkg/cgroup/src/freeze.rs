//! Freezing and thawing, by `cgroup.freeze` (v2, hybrid) or the v1 freezer.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{Cgroup, Controller, Error, Result, cgroup::field, dir};

/// Longest wait for a group to freeze or thaw. A task in uninterruptible sleep (NFS) can delay it without bound.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Stops every process of the group from running, and returns when all have stopped.
    ///
    /// # Errors
    /// [`Error::NoController`] without any freezer, [`Error::Timeout`] when a process does not stop.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Waits until no process lives in the group or below. Returns at once if none does; otherwise sleeps on the
    /// kernel's notification (v2, hybrid), or looks with growing intervals (pure v1 has no event).
    ///
    /// # Errors
    /// [`Error::Timeout`] after `patience`.
    pub fn wait_empty(&self, patience: Duration) -> Result<()> {
        if let Some(index) = self.hierarchy.unified() {
            return self.wait_event(index, "populated", false, patience, "empty");
        }
        self.retry(patience, "empty", || Ok(!self.is_populated()?))
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let wanted = if frozen { "frozen" } else { "thawed" };
        if let Some(index) = self.hierarchy.unified() {
            match self.try_write(index, "cgroup.freeze", if frozen { "1" } else { "0" }) {
                Ok(()) => return self.wait_event(index, "frozen", frozen, PATIENCE, wanted),
                // Before Linux 5.2.
                Err(Errno::NOENT) if self.member(index).is_some() => {}
                Err(errno) => return Err(self.write_error(index, "cgroup.freeze", wanted, errno)),
            }
        }
        let Some((index, _)) = self.dir_of(Controller::Freezer) else {
            return Err(Error::NoController { controller: Controller::Freezer, setting: "freezing" });
        };
        let state = if frozen { "FROZEN" } else { "THAWED" };
        self.retry(PATIENCE, wanted, || {
            // Writing again makes the kernel look at tasks that were forked or woken meanwhile.
            self.write(index, "freezer.state", state)?;
            Ok(self.read_opt(index, "freezer.state")?.is_none_or(|now| now.trim() == state))
        })
    }

    /// Asks the v1 freezer, if there is one, to stop everybody, and does not wait for it.
    pub(crate) fn freeze_v1(&self) {
        if let Some((index, _)) = self.dir_of(Controller::Freezer) {
            let _ = self.try_write(index, "freezer.state", "FROZEN");
        }
    }

    /// Thaws every v1 freezer from here down: a container may have frozen a group that it made below its own.
    pub(crate) fn thaw_v1(&self) {
        if let Some((_, top)) = self.dir_of(Controller::Freezer) {
            // A group that is gone is not frozen.
            let _ = dir::walk(top, &mut |group| match dir::write(group, "freezer.state", "THAWED") {
                Err(Errno::NOENT | Errno::NODEV) | Ok(()) => Ok(()),
                Err(errno) => Err(errno),
            });
        }
    }

    /// Waits for `name` of `cgroup.events` to become `value`; kernfs reports a change as POLLPRI.
    fn wait_event(
        &self,
        mount: usize,
        name: &str,
        value: bool,
        patience: Duration,
        wanted: &'static str,
    ) -> Result<()> {
        let Some(member) = self.member(mount) else {
            return Ok(());
        };
        let fail = |errno| self.read_error(mount, "cgroup.events", errno);
        let events = match dir::open_read(&member.dir, "cgroup.events") {
            Ok(events) => events,
            // The root has none, and a group that was removed has no processes.
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        };
        let deadline = Instant::now() + patience;
        let mut buf = Vec::new();
        loop {
            // The read arms the notification, so a change between it and poll(2) is not lost.
            match dir::read_at_start(&events, &mut buf) {
                Ok(()) => {}
                Err(Errno::NODEV) => return Ok(()),
                Err(errno) => return Err(fail(errno)),
            }
            let text = String::from_utf8_lossy(&buf);
            if field(&text, name).is_none_or(|now| (now != "0") == value) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeout(wanted, patience));
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&events.as_fd(), PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
    }

    /// Repeats `done` with growing pauses until it says yes: for the state changes that v1 does not announce.
    pub(crate) fn retry(
        &self,
        patience: Duration,
        wanted: &'static str,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        loop {
            if done()? {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                return Err(self.timeout(wanted, patience));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "v1 announces none of these changes; see the callers"
            )]
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn timeout(&self, wanted: &'static str, after: Duration) -> Error {
        Error::Timeout { path: self.path.to_string(), wanted, after }
    }
}
