//! Killing everything in a group.
//!
//! `cgroup.kill` does it in one write. Without it (pure v1, or Linux before 5.14) every process is signalled. Nothing
//! is waited for: forks are refused meanwhile by `pids.max`, so two or three lists find everybody, and a pid that is
//! reused between the list and the signal is noticed by a second list. (Freezing first would give the same guarantees,
//! but a v1 group may take its whole patience to become FROZEN: one process in uninterruptible sleep is enough.)
//!
//! Signalling one by one is work without a bound, so it is a value: [`Killing`], of which each step is short.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{Cgroup, Controller, Error, Result, dir};

/// Rounds of list and signal without `cgroup.kill`. Without a pids controller a group may fork faster than it is
/// listed; the caller's deadline decides what then.
const ROUNDS: usize = 64;
/// Rounds after which a group that can't be kept from forking is put into the freezer, which at least slows it down.
const PATIENCE: usize = 4;
/// Processes signalled at once, each with a descriptor; far below the usual limit of 1024.
const CHUNK: usize = 128;

/// The killing of a group whose processes have to be signalled one by one. Dropped half-way, it lets the group fork
/// again.
#[derive(Debug)]
#[must_use = "a killing goes on by its steps"]
pub struct Killing {
    group: Cgroup,
    /// Forks are refused meanwhile; the limit to set back.
    limit: Option<String>,
    /// Everybody who was found.
    known: HashSet<u32>,
    /// Those of them who were not signalled yet.
    queue: Vec<u32>,
    rounds: usize,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a killing that is not done has to go on"]
pub enum Step {
    /// Everybody in the group was signalled.
    Done,
    /// There may be more. Another step can be made at once; what else waits may come in between.
    Again,
}

impl Cgroup {
    /// Sends SIGKILL to every process of the group and below, frozen or not, and lets them die at once: see
    /// `hurry`. It does not wait for them to end: see [`Self::wait_empty`]. A group that does not exist any more
    /// counts as done. May be long work: for a caller with a thread to spare.
    ///
    /// # Errors
    /// The write or a signal was refused.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut killing) = self.begin_kill()? {
            while killing.step()? == Step::Again {}
        }
        Ok(())
    }

    /// As [`Self::kill`], for a caller that has other things to do: `None` when it is done, which is the case wherever
    /// there is `cgroup.kill`; otherwise what goes on with it.
    ///
    /// # Errors
    /// The write was refused.
    pub fn begin_kill(&self) -> Result<Option<Killing>> {
        if self.kill_at_once()? {
            self.hurry();
            return Ok(None);
        }
        Ok(Some(Killing::begin(self.clone())))
    }

    /// By `cgroup.kill`; `false` where that does not work.
    fn kill_at_once(&self) -> Result<bool> {
        if !self.hierarchy().has_kill() {
            return Ok(false);
        }
        // The group is gone, and then there are no pids below either.
        let Some(place) = self.tracking() else { return Ok(false) };
        match place.try_write("cgroup.kill", "1") {
            Ok(()) | Err(Errno::NODEV) => Ok(true),
            // A threaded group, or one that is gone.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(place.write_error("cgroup.kill", "1", errno)),
        }
    }

    /// Sets `pids.max` to 0, and returns what to set it back to. `None` without a controller of the group's own.
    fn refuse_forks(&self) -> Option<String> {
        let place = self.home(Controller::Pids).filter(|place| place.is_own())?;
        let limit = place.read("pids.max").ok()??;
        place.try_write("pids.max", "0").ok()?;
        Some(limit.trim().to_owned())
    }

    /// Asks the v1 freezer, if there is one, to stop everybody, and does not wait for it.
    fn begin_to_freeze(&self) {
        if let Some(place) = self.home(Controller::Freezer) {
            let _ = place.try_write("freezer.state", "FROZEN");
        }
    }

    /// Thaws every v1 freezer from here down: a container may have frozen a group that it made below its own.
    fn thaw(&self) {
        if let Some(place) = self.home(Controller::Freezer) {
            // A group that is gone is not frozen.
            let _ = dir::walk(place.dir(), &mut |group| match dir::write(group, "freezer.state", "THAWED") {
                Err(Errno::NOENT | Errno::NODEV) | Ok(()) => Ok(()),
                Err(errno) => Err(errno),
            });
        }
    }
}

impl Killing {
    /// Refuses forks from now on: a process with a pending SIGKILL can't fork, and nobody else is to.
    pub(crate) fn begin(group: Cgroup) -> Self {
        let limit = group.refuse_forks();
        Self { group, limit, known: HashSet::new(), queue: Vec::new(), rounds: 0 }
    }

    /// Signals the next few; or lists the group again, and when nobody new is there, allows forks again and thaws: a
    /// frozen process of v1 dies only then.
    ///
    /// # Errors
    /// The group can't be listed, or a signal was refused. Then the killing is over.
    pub fn step(&mut self) -> Result<Step> {
        let step = self.advance();
        if !matches!(step, Ok(Step::Again)) {
            self.allow_forks();
            self.group.thaw();
            // Only now: before, its processes would have had more than their share to run their own code with.
            self.group.hurry();
        }
        step
    }

    /// Rounds of list and signal so far.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Processes found so far.
    pub fn found(&self) -> usize {
        self.known.len()
    }

    fn advance(&mut self) -> Result<Step> {
        if self.queue.is_empty() {
            if self.rounds == ROUNDS {
                return Ok(Step::Done);
            }
            self.rounds += 1;
            if self.rounds > PATIENCE && self.limit.is_none() {
                self.group.begin_to_freeze();
            }
            self.queue = self.group.pids()?;
            self.queue.retain(|pid| self.known.insert(*pid));
            if self.queue.is_empty() {
                return Ok(Step::Done);
            }
        }
        let next = self.queue.split_off(self.queue.len().saturating_sub(CHUNK));
        signal(&self.group, &next)?;
        Ok(Step::Again)
    }

    fn allow_forks(&mut self) {
        if let (Some(limit), Some(place)) = (self.limit.take(), self.group.home(Controller::Pids)) {
            // A group that is gone needs no limit.
            let _ = place.try_write("pids.max", &limit);
        }
    }
}

impl Drop for Killing {
    fn drop(&mut self) {
        self.allow_forks();
    }
}

/// A pid may be reused at any time, by somebody who is none of ours; but a process that has a pidfd *and* is listed
/// after that was opened is one of the group.
fn signal(group: &Cgroup, pids: &[u32]) -> Result<()> {
    let opened: Vec<(u32, OwnedFd)> = pids
        .iter()
        .filter_map(|pid| {
            let target = Pid::from_raw(i32::try_from(*pid).ok()?)?;
            Some((*pid, pidfd_open(target, PidfdFlags::empty()).ok()?))
        })
        .collect();
    let members: HashSet<u32> = group.pids()?.into_iter().collect();
    for (pid, pidfd) in opened.iter().filter(|(pid, _)| members.contains(pid)) {
        match pidfd_send_signal(pidfd.as_fd(), Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::Signal { pid: *pid, source: errno.into() }),
        }
    }
    Ok(())
}
