//! Waiting for a group to be empty: by the kernel's notification where there is one.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{Cgroup, Error, Result, dir, place::field};

/// `cgroup.events` of a group, held open: a POLLPRI on it says that the group may have become empty.
///
/// The kernel tells of one change of a file in ten milliseconds at most (`CGROUP_FILE_NOTIFY_MIN_INTV`); what comes
/// sooner is told later.
#[derive(Debug)]
pub struct Watch {
    events: OwnedFd,
    buffer: Vec<u8>,
}

impl Watch {
    /// Whether a process lives in the group or below. The read arms the notification, so a change between it and the next
    /// poll is not lost; without it the descriptor stays ready. What can't be read is a group that is gone.
    pub fn is_populated(&mut self) -> bool {
        if dir::read_at_start(&self.events, &mut self.buffer).is_err() {
            return false;
        }
        field(&String::from_utf8_lossy(&self.buffer), "populated").is_some_and(|populated| populated != "0")
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Cgroup {
    /// What tells when the group is empty, for a caller with an event loop. `None` on pure v1, which has no such event, and
    /// for a group that is gone.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn watch(&self) -> Result<Option<Watch>> {
        let Some(place) = self.unified() else {
            return Ok(None);
        };
        match dir::open_read(place.dir(), "cgroup.events") {
            Ok(events) => Ok(Some(Watch { events, buffer: Vec::new() })),
            // The root has none.
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(place.read_error("cgroup.events", errno)),
        }
    }

    /// Waits until no process lives in the group or below. Returns at once if none does; otherwise sleeps on the
    /// kernel's notification (v2, hybrid), or looks with growing intervals (pure v1 has no event). For a caller with a
    /// thread to spare.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `patience`.
    pub fn wait_empty(&self, patience: Duration) -> Result<()> {
        let Some(mut watch) = self.watch()? else {
            return self.retry(patience, || Ok(!self.is_populated()?));
        };
        let deadline = Instant::now() + patience;
        while watch.is_populated() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeout(patience));
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&watch, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Read { path: "cgroup.events".into(), source: errno.into() }),
            }
        }
        Ok(())
    }

    /// Repeats `done` with growing pauses until it says yes: for what the kernel does not announce.
    pub(crate) fn retry(&self, patience: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        loop {
            if done()? {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                return Err(self.timeout(patience));
            }
            #[expect(clippy::disallowed_methods, reason = "v1 does not announce that a group is empty")]
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn timeout(&self, after: Duration) -> Error {
        Error::Timeout { path: self.path().to_string(), after }
    }
}
